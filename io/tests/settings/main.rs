//! The node's settings as whoever runs it meets them: what is refused and how, what is shown, and the documented file.
mod refused;
mod reloaded;
mod sample;
mod secrets;
mod shown;

use std::process::{Command, Output};

/// The program without the variables of whoever runs the tests.
fn kvroute(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kvroute"));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("KVROUTE_") || text.starts_with("AIBRIX_") {
            command.env_remove(name);
        }
    }
    command.args(args);
    command
}

/// (exit code, stdout and stderr) of a run that ends by itself.
fn run(command: &mut Command) -> (i32, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout) + &text(stderr))
}
