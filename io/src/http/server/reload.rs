//! The thread that reads certificates and tokens again when their files change, or when it is told to.
use super::tls::Tls;
use crate::files::Watched;
use crate::http::access::Gate;
use crate::http::tokens::Tokens;
use crate::limits::RELOAD_INTERVAL;
use crate::status::{HttpStatus, Reloaded};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::fmt::Display;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

/// The thread. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Reloader {
    /// `None` once it is to end. One place: who asks again while it is asked asks for the same.
    ask: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Files that belong together, and what reads them again.
struct Group {
    what: Reloaded,
    files: Watched,
    reload: Box<dyn Fn() -> Result<(), String> + Send>,
}

impl Reloader {
    /// `None` if there is nothing to watch.
    pub(super) fn start(gate: &Arc<Gate>, tls: Option<&Arc<Tls>>) -> io::Result<Option<Self>> {
        let mut groups = Vec::new();
        if let Some(tls) = tls {
            let files = [&*tls.files().cert, &*tls.files().key];
            let tls = Arc::clone(tls);
            groups.push(Group::new(Reloaded::Tls, &files, move || tls.reload()));
        }
        for tokens in [&gate.tokens, &gate.admin_tokens].into_iter().flatten() {
            // By path: both may be the same file.
            let (gate, path) = (Arc::clone(gate), tokens.path().to_owned());
            groups.push(Group::new(Reloaded::Tokens, &[tokens.path()], move || {
                let all = [&gate.tokens, &gate.admin_tokens];
                let mut here = all.into_iter().flatten().filter(|t| t.path() == path);
                here.try_for_each(Tokens::reload)
            }));
        }
        if groups.is_empty() {
            return Ok(None);
        }
        let (ask, asked) = bounded(1);
        let status = Arc::clone(&gate.status);
        let thread = thread::Builder::new()
            .name("kvroute-reload".to_owned())
            .spawn(move || run(groups, &asked, &status))?;
        Ok(Some(Self {
            ask: Some(ask),
            thread: Some(thread),
        }))
    }

    /// Reads all files again soon, changed or not.
    pub(super) fn reload(&self) {
        if let Some(ask) = &self.ask {
            let _ = ask.try_send(());
        }
    }
}

impl Drop for Reloader {
    fn drop(&mut self) {
        self.ask = None;
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::error!("the reloading thread has panicked");
        }
    }
}

impl Group {
    fn new<E: Display>(
        what: Reloaded,
        files: &[&Path],
        reload: impl Fn() -> Result<(), E> + Send + 'static,
    ) -> Self {
        Self {
            what,
            files: Watched::new(files),
            reload: Box::new(move || reload().map_err(|error| error.to_string())),
        }
    }
}

fn run(mut groups: Vec<Group>, asked: &Receiver<()>, status: &HttpStatus) {
    loop {
        let all = match asked.recv_timeout(RELOAD_INTERVAL) {
            Ok(()) => true,
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        for group in &mut groups {
            if !group.files.changed() && !all {
                continue;
            }
            let (what, file) = (group.what.as_str(), group.files.first().display());
            match (group.reload)() {
                Ok(()) => tracing::info!(what, %file, "read again"),
                Err(error) => {
                    tracing::warn!(what, %file, %error, "cannot be used; the last good one stays");
                    status.add_reload_failure(group.what);
                }
            }
        }
    }
}
