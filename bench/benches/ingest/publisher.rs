//! The process that publishes: this program again, told so by its environment.
use crate::{Failure, PATIENCE};
use kvroute::fake::{FakeEngine, Options};
use kvroute_bench::{Conversation, Size, conversations, frames};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Frames that are sent without a pause.
const BURST: u64 = 64;

/// The pause between bursts.
const PAUSE: Duration = Duration::from_micros(500);

const ROLE: &str = "KVROUTE_BENCH_PUBLISHES";

/// What the frames are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Prompts: 4 to 40 blocks a frame.
    Turns,
    /// The same of an engine that is full: as many removed events, one block each.
    Churn,
    /// Decoding: one block a frame.
    Single,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Turns, Self::Churn, Self::Single];

    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Turns => "4 to 40 stored blocks",
            Self::Churn => "the same, and as many removed ones",
            Self::Single => "one stored block",
        }
    }

    fn said(self, blocks: u64) -> (frames::Said, Vec<Conversation>) {
        let all = conversations(Size::FULL, 42);
        // So many that all but the last ones are evicted.
        let capacity = match self {
            Self::Churn => blocks as usize / 20,
            Self::Turns | Self::Single => usize::MAX,
        };
        let said = frames::serve(&all, capacity, self == Self::Single, blocks, 42);
        (said, all)
    }
}

/// What was published.
pub(crate) struct Published {
    pub(crate) frames: u64,
    pub(crate) stored: u64,
    pub(crate) removed: u64,
    pub(crate) last: Conversation,
}

impl Published {
    fn of(kind: Kind, blocks: u64) -> Result<Self, Failure> {
        let (said, all) = kind.said(blocks);
        let mut left = said.stored;
        let whole = |conversation: &&Conversation| {
            let fits = conversation.blocks() as u64 <= left;
            left = left.saturating_sub(conversation.blocks() as u64);
            fits
        };
        let last = all.iter().take_while(whole).last();
        Ok(Self {
            frames: said.payloads.len() as u64,
            stored: said.stored,
            removed: said.removed,
            last: last.ok_or("nothing is said")?.clone(),
        })
    }
}

/// The other process. It ends with this value.
pub(crate) struct Publisher {
    pub(crate) endpoint: String,
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    /// What it publishes.
    pub(crate) said: Published,
}

impl Publisher {
    pub(crate) fn start(kind: Kind, blocks: u64) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .env(ROLE, format!("{} {blocks}", kind as usize))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take().ok_or("no stdin")?;
        let stdout = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut this = Self {
            endpoint: String::new(),
            child,
            stdin,
            stdout,
            said: Published::of(kind, blocks)?,
        };
        this.endpoint = this.line()?;
        Ok(this)
    }

    pub(crate) fn wait_until_subscribed(&mut self) -> Result<(), Failure> {
        match self.line()?.as_str() {
            "subscribed" => Ok(()),
            other => Err(format!("the publisher says {other:?}").into()),
        }
    }

    /// Lets it publish all, without waiting for that.
    pub(crate) fn go(&mut self) -> Result<(), Failure> {
        Ok(writeln!(self.stdin, "go")?)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process is the one that publishes.
pub(crate) fn is_asked() -> bool {
    std::env::var_os(ROLE).is_some()
}

/// Publishes what the environment says, once somebody subscribes and says so.
pub(crate) fn publish() -> Result<(), Failure> {
    let role = std::env::var(ROLE)?;
    let (kind, blocks) = role.split_once(' ').ok_or("no role")?;
    let kind = *Kind::ALL
        .get(kind.parse::<usize>()?)
        .ok_or("no such kind")?;
    let (said, _) = kind.said(blocks.parse()?);
    let engine = FakeEngine::bind(Options {
        ring: 0,
        replay: None,
        ..Options::default()
    })?;
    println!("{}", engine.events_endpoint());
    engine.wait_for_subscriber(PATIENCE)?;
    println!("subscribed");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line)?;
    for (number, payload) in (0..).zip(&said.payloads) {
        engine.publish(number, payload)?;
        // As many engines at once do it; and what does not fit into the queues is lost.
        if number % BURST == BURST - 1 {
            std::thread::sleep(PAUSE);
        }
    }
    // Until this process is ended.
    std::io::stdin().read_line(&mut line)?;
    Ok(())
}
