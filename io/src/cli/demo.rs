//! `kvroute demo`: a node whose fleet replays recorded engines.
use super::{Exit, complain, told_to_stop};
use kvroute::config::{Config, Settings};
use kvroute::demo::{self, DemoError};
use std::io::{self, ErrorKind, IsTerminal};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen for HTTP [default: 127.0.0.1:8080]
    #[arg(long, env = "KVROUTE_LISTEN", value_name = "HOST:PORT")]
    listen: Option<String>,
}

/// Runs the demo until a signal ends it.
pub(crate) fn run(args: Args) -> Exit {
    let settings = Settings {
        listen: args.listen.map(|listen| vec![listen]),
        ..Settings::default()
    };
    let config: Config = match settings.resolve() {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return Exit::Usage;
        }
    };
    let stop = match told_to_stop() {
        Ok(stop) => stop,
        Err(exit) => return exit,
    };
    let mut out = io::stdout();
    let terminal = out.is_terminal();
    match demo::run(&config, &stop, &mut out, terminal) {
        Ok(()) => Exit::Done,
        // Whoever read it has seen enough: `kvroute demo | head`.
        Err(DemoError::Print(error)) if error.kind() == ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            complain(&error);
            match error {
                DemoError::Start(error) if error.is_configuration() => Exit::Usage,
                DemoError::Start(_) | DemoError::Thread(_) | DemoError::Print(_) => {
                    Exit::Unavailable
                }
                DemoError::Recording(_) | DemoError::Play(_) => Exit::Internal,
            }
        }
    }
}
