//! The browser as a child process, which ends with the test, however that ends.
use super::PATIENCE;
use super::page::Page;
use super::seen::Seen;
use super::wire::Wire;
use crate::gateways::find_one_of;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Time to end by itself.
const END_TIME_MAX: Duration = Duration::from_secs(10);

/// The shell puts the pipes where the browser looks for them: it reads commands from the third file, and writes to the fourth.
const PIPES: &str = r#"exec "$@" 3<&0 4>&1 0</dev/null 1>&2"#;

/// No window, nothing but what the test does, and the same pixels everywhere. Without its sandbox, which it refuses to have as root.
const FLAGS: &[&str] = &[
    "--headless=new",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
    "--force-color-profile=srgb",
    "--lang=en-US",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-pings",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-sync",
    "--metrics-recording-only",
    "--mute-audio",
    "--password-store=basic",
    "--disable-features=Translate,OptimizationHints,MediaRouter",
];

/// Finds chromium, by `KVROUTE_TEST_CHROMIUM` or by its names; where it is missing, that is told.
///
/// # Panics
/// It is missing, and `CI` is `true`.
#[must_use]
pub fn find_chromium() -> Option<PathBuf> {
    find_one_of("KVROUTE_TEST_CHROMIUM", &["chromium", "chromium-browser"])
}

/// A running browser.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    talk: RefCell<Talk>,
    /// Its profile and its log.
    folder: TempDir,
}

/// What is said, and what was heard.
#[derive(Debug)]
struct Talk {
    wire: Wire,
    /// By session.
    seen: HashMap<String, Seen>,
}

impl Browser {
    /// Starts chromium, with these flags, too. `None` where it is missing.
    ///
    /// # Panics
    /// It does not start, or it is missing where `CI` is `true`.
    #[must_use]
    pub fn start(more: &[&str]) -> Option<Self> {
        let binary = find_chromium()?;
        let started = Self::launch(&binary, more);
        Some(started.unwrap_or_else(|error| panic!("{}: {error}", binary.display())))
    }

    fn launch(binary: &Path, more: &[&str]) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = File::create(folder.path().join("log"))?;
        let mut command = Command::new("sh");
        command.args(["-c", PIPES, "sh"]).arg(binary);
        command.args(FLAGS).args(more);
        let mut profile = std::ffi::OsString::from("--user-data-dir=");
        profile.push(folder.path().join("profile"));
        command.arg(profile).arg("about:blank");
        // Settings and caches of whoever runs the test are none of its business. Times are shown as this zone has them.
        command.env("HOME", folder.path()).env("TZ", "UTC");
        command.env("TMPDIR", folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(log).spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (to, from) = pipes.ok_or_else(|| io::Error::other("no pipes"))?;
        let talk = Talk {
            wire: Wire::new(to, from),
            seen: HashMap::new(),
        };
        Ok(Self {
            child,
            talk: RefCell::new(talk),
            folder,
        })
    }

    /// A new tab with an empty page.
    ///
    /// # Panics
    /// The browser does not answer.
    #[must_use]
    pub fn page(&self) -> Page<'_> {
        let opened = self.attach();
        let session = opened.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        Page::new(self, session)
    }

    fn attach(&self) -> Result<String, String> {
        let target = self.call(None, "Target.createTarget", &json!({"url": "about:blank"}))?;
        let params = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call(None, "Target.attachToTarget", &params)?;
        let session = attached["sessionId"].as_str().ok_or("no session")?;
        for domain in ["Page", "Runtime", "Log", "Network", "Audits"] {
            self.call(Some(session), &format!("{domain}.enable"), &json!({}))?;
        }
        Ok(session.to_owned())
    }

    /// Gives a command and waits for its reply; what comes in between is kept.
    pub(super) fn call(
        &self,
        session: Option<&str>,
        method: &str,
        params: &Value,
    ) -> Result<Value, String> {
        let mut talk = self.talk.borrow_mut();
        let id = talk.wire.send(session, method, params)?;
        let give_up = Instant::now() + PATIENCE;
        while let Some(message) = talk.wire.receive(give_up)? {
            if message["id"] == id {
                return match message.get("error") {
                    None => Ok(message["result"].clone()),
                    Some(error) => Err(format!("{method}: {error}")),
                };
            }
            talk.note(&message)?;
        }
        Err(format!("{method}: no reply within {PATIENCE:?}"))
    }

    /// What was seen of a page.
    pub(super) fn seen<T>(&self, session: &str, look: impl FnOnce(&mut Seen) -> T) -> T {
        let mut talk = self.talk.borrow_mut();
        look(talk.seen.entry(session.to_owned()).or_default())
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn end(&mut self) {
        let talk = self.talk.get_mut();
        let asked = talk.wire.send(None, "Browser.close", &json!({}));
        let give_up = Instant::now() + END_TIME_MAX;
        while asked.is_ok() && Instant::now() < give_up {
            if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Talk {
    fn note(&mut self, message: &Value) -> Result<(), String> {
        let (Some(session), Some(method)) =
            (message["sessionId"].as_str(), message["method"].as_str())
        else {
            return Ok(());
        };
        let seen = self.seen.entry(session.to_owned()).or_default();
        seen.note(method, &message["params"]);
        if method == "Page.javascriptDialogOpening" {
            // Nothing goes on until it is gone.
            let params = json!({"accept": false});
            let method = "Page.handleJavaScriptDialog";
            self.wire.send(Some(session), method, &params)?;
        }
        Ok(())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.end();
    }
}
