//! A node that stops, or is killed, and starts again: with what it saved some time ago, or with nothing.
use crate::node::{Bytes, Node};
use kvroute::fake::chance::Chance;
use kvroute::status::WorkerStatus;
use kvroute::stream::follow::{Follower, Timing};
use kvroute::stream::saved::Standing;
use kvroute_engine::{Index, Participant, Writer};
use std::sync::Arc;

/// A worker as a snapshot has it.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    standing: Standing,
    dump: Vec<u8>,
}

/// What a worker's follower is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) has_replay: bool,
    pub(crate) timing: Timing,
}

impl Kind {
    pub(crate) fn follower(self, writer: Writer) -> (Follower<Bytes>, Arc<WorkerStatus>) {
        let status = Arc::<WorkerStatus>::default();
        let name = "pod#0".to_owned();
        let follower = Follower::new(
            writer,
            Arc::clone(&status),
            name,
            self.has_replay,
            self.timing,
        );
        (follower, status)
    }
}

impl Node {
    /// Saves the worker, if there is something to be saved.
    pub(crate) fn save(&mut self, chance: &mut Chance) {
        let Some(standing) = self.follower.standing() else {
            return;
        };
        let writer = self.follower.writer();
        let (mut dump, mut whole) = (writer.dump(), Vec::new());
        while !dump
            .write_some(writer, &mut whole, chance.between(1, 500) as usize)
            .expect("nobody changes it meanwhile")
        {}
        self.saved = Some(Saved {
            standing,
            dump: whole,
        });
    }

    /// The node's process is another one: what it did not save is gone. Whether it had saved something.
    pub(crate) fn restart(&mut self, index: &Arc<Index>, at: &Participant) -> bool {
        let writer = index.writer("tiny").expect("room");
        let (follower, status) = self.kind.follower(writer);
        let mut before = std::mem::replace(&mut self.follower, follower).into_writer();
        before.clear(at);
        while !before.settle(at, 1_000) {}
        drop(before);
        self.status = status;
        self.forget_sockets();
        let saved = self.saved.clone().filter(|_| self.kind.has_replay);
        let warm = saved.is_some();
        if let Some(saved) = saved {
            self.load(saved, at);
        }
        warm
    }

    fn load(&mut self, saved: Saved, at: &Participant) {
        let writer = self.follower.writer_mut();
        let mut restore = writer.restore().expect("it holds nothing");
        let mut bytes = saved.dump.as_slice();
        while !restore.has_ended() {
            let taken = restore.feed(writer, at, bytes, 100).expect("its own dump");
            assert_ne!(taken, 0, "the dump is whole");
            bytes = &bytes[taken..];
        }
        while restore
            .finish(writer, at, 10)
            .expect("its own dump")
            .is_none()
        {}
        self.follower.resume(saved.standing);
    }
}
