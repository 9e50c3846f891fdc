//! `kvroute serve`: configuration, node, wait, drain; in the time that there is for it.
use super::check_config::unread_variables;
use super::reload::Reload;
use super::{Exit, Origins, complain};
use kvroute::address::Address;
use kvroute::config::{Aibrix, ConfigError, Given, Settings, SettingsFile, Standing};
use kvroute::limits::SIGNALS_TOGETHER;
use kvroute::logging;
use kvroute::node::Node;
use kvroute::status::Ending;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::exit;
use std::thread;
use std::time::{Duration, Instant};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The configuration file: YAML, with the settings below as its keys, `_` for `-`; read again on SIGHUP
    #[arg(long, env = "KVROUTE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
}

/// Where settings come from, to be read again.
#[derive(Debug)]
pub(super) struct Source {
    args: Args,
    names: BTreeMap<String, String>,
}

impl Source {
    pub(super) fn new(args: Args, origins: Origins) -> Self {
        Self {
            args,
            names: origins.into_names(),
        }
    }

    /// Flags over environment over file over AIBrix's variables.
    pub(super) fn given(&self) -> Result<Given, ConfigError> {
        let file = self.args.config.as_deref().map(SettingsFile::read);
        Ok(Given {
            own: self.args.settings.clone(),
            names: self.names.clone(),
            file: file.transpose()?.unwrap_or_default(),
            aibrix: Aibrix::read(|name| {
                let value = std::env::var_os(name)?;
                Some(value.to_string_lossy().into_owned())
            })?,
        })
    }
}

/// Runs the node until a signal ends it.
pub(crate) fn run(args: Args, origins: Origins) -> Exit {
    let exit = until_end(args, origins);
    logging::flush();
    exit
}

fn until_end(args: Args, origins: Origins) -> Exit {
    let source = Source::new(args, origins);
    let read = source
        .given()
        .and_then(|given| Ok((given.resolve()?, given)));
    let (config, given) = match read {
        Ok(read) => read,
        Err(error) => {
            complain(&error);
            return Exit::Usage;
        }
    };
    let log = match logging::start(&config.log) {
        Ok(log) => log,
        Err(error) => {
            complain(&error);
            return Exit::Internal;
        }
    };
    for warning in given
        .warnings(&config)
        .into_iter()
        .chain(unread_variables())
    {
        tracing::warn!("{warning}");
    }
    // Before the node starts, so that no signal is missed.
    let mut signals = match Signals::new([SIGHUP, SIGINT, SIGTERM]) {
        Ok(signals) => signals,
        Err(error) => {
            complain(&format_args!("cannot handle signals: {error}"));
            return Exit::Internal;
        }
    };
    let node = match Node::start(&config) {
        Ok(node) => node,
        Err(error) => {
            complain(&error);
            return if error.is_configuration() {
                Exit::Usage
            } else {
                Exit::Unavailable
            };
        }
    };
    let listen: Vec<_> = node.addresses().iter().map(Address::to_string).collect();
    tracing::info!(
        listen = %listen.join(","),
        admin = node.admin_address().map(tracing::field::display),
        "answering"
    );
    let mut reload = Reload::new(source, Standing::new(given, config), log);
    let told = until_told(&mut signals, &node, &mut reload);
    let ending = Ending::within(reload.grace(), Instant::now());
    // Ctrl-C and a supervisor tell the same at once; only what comes later is impatience.
    thread::sleep(SIGNALS_TOGETHER);
    signals.pending().for_each(drop);
    // Before the first line of the log: perhaps nobody reads it.
    watch_over(&ending, signals);
    tracing::info!(signal = told, "stopping");
    node.stop_by(&ending);
    tracing::info!("stopped");
    Exit::Done
}

/// The signal that ends the node; until then each hangup has files and settings read again.
fn until_told(signals: &mut Signals, node: &Node, reload: &mut Reload) -> Option<i32> {
    for signal in signals {
        if signal != SIGHUP {
            return Some(signal);
        }
        node.reload();
        reload.again(node);
    }
    None
}

/// From now on the process ends when its time is over, or at one more signal, with what it has: a snapshot is renamed when it is
/// whole, so one that is not does no harm.
fn watch_over(ending: &Ending, mut signals: Signals) {
    let watch = ending.clone();
    let time = thread::Builder::new().name("kvroute-deadline".to_owned());
    let time = time.spawn(move || {
        let left = watch
            .deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        thread::sleep(left.unwrap_or(Duration::MAX));
        give_up(&watch, "the time to end is over");
    });
    let watch = ending.clone();
    let told = thread::Builder::new().name("kvroute-signals".to_owned());
    let told = told.spawn(move || {
        if signals.forever().any(|signal| signal != SIGHUP) {
            give_up(&watch, "told to stop again");
        }
    });
    if let Err(error) = time.and(told) {
        tracing::warn!(%error, "nobody watches over the end");
    }
}

/// Ends the process.
fn give_up(ending: &Ending, why: &'static str) -> ! {
    let undone = ending.undone();
    tracing::warn!(undone, "{why}; the process ends");
    logging::flush();
    exit(Exit::Done as i32)
}
