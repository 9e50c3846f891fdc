//! The servers, each a process of its own that ends with this value, and the processor time they take.
use crate::Failure;
use crate::client::{Client, Target};
use crate::grid::{Skipped, Transport};
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{fs, thread};

/// A server that is not there by then has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running server.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    tcp: SocketAddr,
    unix: Option<PathBuf>,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has nothing to save, and may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// Where to reach it.
    pub(crate) fn target(&self, transport: Transport) -> Result<Target, Failure> {
        match transport {
            Transport::Tcp => Ok(Target::Tcp(self.tcp)),
            Transport::Unix => {
                let path = self.unix.clone().ok_or("it has no unix socket")?;
                Ok(Target::Unix(path))
            }
        }
    }

    pub(crate) fn has_unix(&self) -> bool {
        self.unix.is_some()
    }

    pub(crate) fn client(&self) -> Result<Client, Failure> {
        Client::connect(&Target::Tcp(self.tcp))
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Nanoseconds that all threads of a process have run so far. Exact while it sleeps: a running thread's
/// time is brought up to date by the scheduler's tick.
pub(crate) fn processor_time(pid: u32) -> Result<u64, Failure> {
    let mut nanoseconds = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end meanwhile.
        let text = fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        let ran = text.split(' ').next().and_then(|n| n.parse::<u64>().ok());
        nanoseconds += ran.unwrap_or(0);
    }
    Ok(nanoseconds)
}

/// The node as it ships, with one thread for HTTP and one for events; on a unix socket too, if it can.
pub(crate) fn kvroute(
    program: &Path,
    folder: &Path,
) -> Result<(Process, Option<Skipped>), Failure> {
    let unix = folder.join("kvroute.sock");
    let listen = format!("unix:{}", unix.display());
    let both = format!("127.0.0.1:0,{listen}");
    let forms: [&[&str]; 3] = [
        &["--listen", "127.0.0.1:0", "--listen", &listen],
        &["--listen", &both],
        &["--listen", "127.0.0.1:0"],
    ];
    let mut why = String::new();
    for form in forms {
        let _ = fs::remove_file(&unix);
        let mut command = Command::new(program);
        command.env_clear().arg("serve").args(form);
        command.args([
            "--http-threads",
            "1",
            "--io-threads",
            "1",
            "--probe-interval",
            "0",
        ]);
        match start(command, Pipe::Stderr) {
            Ok(mut process) => {
                let there = Client::connect(&Target::Unix(unix.clone())).is_ok();
                process.unix = there.then_some(unix);
                let skipped = (!there).then_some(Skipped {
                    what: "kvroute over a unix socket",
                    why,
                });
                return Ok((process, skipped));
            }
            Err(error) if why.is_empty() => why = error.to_string(),
            Err(_) => {}
        }
    }
    Err(format!("{}: {why}", program.display()).into())
}

/// The bare server: this program in another role.
pub(crate) fn bare(folder: &Path) -> Result<Process, Failure> {
    let unix = folder.join("bare.sock");
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(crate::BARE).arg(&unix);
    let mut process = start(command, Pipe::Stdout)?;
    process.unix = Some(unix);
    Ok(process)
}

/// Dynamo's indexer. It does not tell which port it was given, so it is told one that was free just now.
pub(crate) fn dynamo(program: &Path) -> Result<Process, Failure> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port();
    let mut command = Command::new(program);
    command.env_clear().arg(port.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let child = command
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let process = Process {
        child,
        tcp: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        unix: None,
    };
    let begun = Instant::now();
    loop {
        match process.client() {
            Ok(mut client) => {
                client.get("/health")?.good()?;
                return Ok(process);
            }
            Err(error) if begun.elapsed() > PATIENCE => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Where a server says that it answers.
#[derive(Clone, Copy)]
enum Pipe {
    Stdout,
    Stderr,
}

/// Starts a server and waits for its `listen=`.
fn start(mut command: Command, pipe: Pipe) -> Result<Process, Failure> {
    command.stdin(Stdio::null());
    match pipe {
        Pipe::Stdout => command.stdout(Stdio::piped()),
        Pipe::Stderr => command.stdout(Stdio::null()).stderr(Stdio::piped()),
    };
    let program = command.get_program().display().to_string();
    let child = command.spawn().map_err(|e| format!("{program}: {e}"))?;
    let mut process = Process {
        child,
        tcp: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        unix: None,
    };
    let stdout = process.child.stdout.take();
    let stderr = process.child.stderr.take();
    let lines = match (stdout, stderr) {
        (Some(stdout), _) => lines(stdout),
        (None, Some(stderr)) => lines(stderr),
        (None, None) => return Err("no pipe".into()),
    };
    let (begun, mut said) = (Instant::now(), Vec::new());
    loop {
        let line = match lines.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Disconnected) => {
                let why = said.into_iter().next();
                return Err(why
                    .unwrap_or_else(|| "it ends without a word".to_owned())
                    .into());
            }
            Err(RecvTimeoutError::Timeout) => return Err("does not say that it answers".into()),
        };
        if let Some(address) = address(&line) {
            process.tcp = address;
            return Ok(process);
        }
        said.push(line);
    }
}

/// The address of a line that says `listen=ADDRESS`, perhaps among others.
fn address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listen=")?;
    let words = rest.split(|c: char| c.is_whitespace() || ",[]\"".contains(c));
    words.filter_map(|word| word.parse().ok()).next()
}

/// The lines of a pipe, which is read to its end, or the server would stop at a full one.
fn lines(pipe: impl Read + Send + 'static) -> Receiver<String> {
    let (send, receive) = channel();
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            // Once nobody waits for a line, they are only read.
            let _ = send.send(line);
        }
    });
    receive
}
