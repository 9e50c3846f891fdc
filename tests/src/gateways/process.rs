//! A gateway as a child process, which ends with the test, however that ends.
use super::http::Client;
use crate::tidy::root;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Time for a gateway to accept connections, on a machine that is busy with builds.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// Attempts to find a port that nobody takes in between.
const ATTEMPTS: usize = 3;

/// A text of a sample and what stands in its place; the text must be there.
pub type Substitution<'s> = (&'s str, String);

/// Finds a gateway's program: as an environment variable names it, or by its name in the usual folders or in
/// `target/ci`. Where it is missing, that is told; on a machine that builds (`CI=true`) it must not be.
///
/// # Panics
/// It is missing, and `CI` is `true`.
#[must_use]
pub fn find_binary(variable: &str, name: &str) -> Option<PathBuf> {
    find_one_of(variable, &[name])
}

/// The same for a program that has several names.
///
/// # Panics
/// It is missing, and `CI` is `true`.
#[must_use]
pub fn find_one_of(variable: &str, names: &[&str]) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).collect::<Vec<_>>();
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let own = root().join("target/ci");
    let folders = folders.into_iter().chain(more).chain([own]);
    let mut files = folders.flat_map(|folder| names.iter().map(move |name| folder.join(name)));
    let found = named.or_else(|| files.find(|file| file.is_file()));
    if found.is_none() {
        let name = names.join(" or ");
        let message = format!("{name} is missing (see {variable} in deploy/README.md)");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
        // Not with a macro: what those print is shown only if a test fails.
        let _ = writeln!(io::stderr(), "SKIPPED: {message}");
    }
    found
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    address: SocketAddr,
    /// Its configuration, its log and whatever it writes.
    folder: TempDir,
}

impl Gateway {
    /// Starts Envoy with the sample. `listen` is the text in the sample that says where.
    ///
    /// # Panics
    /// It does not start; its log is in the message.
    #[must_use]
    pub fn envoy(binary: &Path, rest: &[Substitution<'_>]) -> Self {
        let listen = "address: 0.0.0.0, port_value: 10000";
        let text = |port: u16| format!("address: 127.0.0.1, port_value: {port}");
        Self::start("envoy.yaml", listen, text, rest, |_, file| {
            let mut command = Command::new(binary);
            command.arg("-c").arg(file);
            command.args(["--disable-hot-restart", "--concurrency", "1"]);
            command
        })
    }

    /// Starts nginx with the sample, in one process and with its files in a folder of its own.
    ///
    /// # Panics
    /// It does not start; its log is in the message.
    #[must_use]
    pub fn nginx(binary: &Path, rest: &[Substitution<'_>]) -> Self {
        let text = |port: u16| format!("listen 127.0.0.1:{port};");
        let listen = "listen 0.0.0.0:8000;";
        Self::start("nginx.conf", listen, text, rest, |folder, file| {
            let folder = folder.display();
            let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temporary: String = kinds
                .iter()
                .map(|kind| format!("    {kind}_temp_path {folder}/{kind};\n"))
                .collect();
            let sample = fs::read_to_string(file).expect("it was just written");
            let local = format!("http {{\n    access_log off;\n{temporary}");
            fs::write(file, sample.replace("http {\n", &local)).expect("the folder is ours");
            let own = format!("daemon off; master_process off; pid {folder}/pid;");
            let mut command = Command::new(binary);
            command.arg("-e").arg("stderr").arg("-c").arg(file);
            command.args(["-g", &own]);
            command
        })
    }

    fn start(
        sample: &str,
        listen: &str,
        text: impl Fn(u16) -> String,
        rest: &[Substitution<'_>],
        command: impl Fn(&Path, &Path) -> Command,
    ) -> Self {
        let path = root().join("deploy/samples").join(sample);
        let original = fs::read_to_string(path).expect("the sample is there");
        let mut why = String::new();
        for _ in 0..ATTEMPTS {
            let address = free_address().expect("a port is free");
            let listens = (listen, text(address.port()));
            let config = substitute(&original, rest.iter().chain([&listens]));
            match Self::launch(&config, sample, address, &command) {
                Ok(gateway) => return gateway,
                Err(error) => why = error.to_string(),
            }
        }
        panic!("{sample}: {why}");
    }

    fn launch(
        config: &str,
        name: &str,
        address: SocketAddr,
        command: impl Fn(&Path, &Path) -> Command,
    ) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join(name);
        fs::write(&file, config)?;
        let log = File::create(folder.path().join("log"))?;
        let mut command = command(folder.path(), &file);
        command.stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let mut gateway = Self {
            child: command.spawn()?,
            address,
            folder,
        };
        let give_up = Instant::now() + START_TIME_MAX;
        while TcpStream::connect(address).is_err() {
            if gateway.child.try_wait()?.is_some() || Instant::now() >= give_up {
                return Err(io::Error::other(gateway.log()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(gateway)
    }

    /// A client of it.
    #[must_use]
    pub fn client(&self) -> Client {
        Client {
            address: self.address,
        }
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log());
        }
    }
}

fn substitute<'s>(
    original: &str,
    substitutions: impl Iterator<Item = &'s Substitution<'s>>,
) -> String {
    let mut config = original.to_owned();
    for (text, instead) in substitutions {
        assert!(config.contains(text), "the sample has no {text:?} any more");
        config = config.replace(text, instead);
    }
    config
}

/// An address of this machine with a port that was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}
