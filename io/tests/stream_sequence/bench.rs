//! A machine on the bench: batches to give it, and what it did. A batch is written as its number and
//! its life; its checksum is both.
use Did::{Applied, Asked, Cleared, Dropped, Stopped};
use kvroute::status::Trust;
use kvroute::stream::sequence::{Action, Batch, ClearReason, DropReason, Payload, Sequence};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    pub(crate) clears: bool,
}

impl Payload for Plain {
    fn bytes(&self) -> usize {
        10
    }
    fn starts_with_clear(&self) -> bool {
        self.clears
    }
}

pub(crate) fn batch(life: u64, sequence: u64) -> Batch<Plain> {
    Batch {
        sequence,
        checksum: sequence.wrapping_add(life << 40),
        payload: Plain { clears: false },
    }
}

pub(crate) fn clearing(life: u64, sequence: u64) -> Batch<Plain> {
    Batch {
        payload: Plain { clears: true },
        ..batch(life, sequence)
    }
}

/// What the machine asked for, shortened: `3` is "apply number 3".
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Did {
    Applied(u64),
    Cleared(ClearReason),
    Asked(u64),
    Stopped,
    Dropped(u64, DropReason),
}

pub(crate) fn drain(machine: &mut Sequence<Plain>) -> Vec<Did> {
    std::iter::from_fn(|| machine.pop())
        .map(|action| match action {
            Action::Apply(batch) => Applied(batch.sequence),
            Action::Clear(reason) => Cleared(reason),
            Action::AskReplay { from } => Asked(from),
            Action::StopReplay => Stopped,
            Action::Drop { batches, reason } => Dropped(batches, reason),
        })
        .collect()
}

pub(crate) fn live(machine: &mut Sequence<Plain>, life: u64, numbers: &[u64]) -> Vec<Did> {
    numbers.iter().for_each(|&n| machine.live(batch(life, n)));
    drain(machine)
}

pub(crate) fn replay(machine: &mut Sequence<Plain>, life: u64, numbers: &[u64]) -> Vec<Did> {
    numbers
        .iter()
        .for_each(|&n| machine.replayed(batch(life, n)));
    machine.replay_ended();
    drain(machine)
}

/// Connected, with the engine's whole history 0..=last of life 1 from the replay.
pub(crate) fn whole(last: u64) -> Sequence<Plain> {
    let mut machine = Sequence::new(true);
    machine.connected();
    assert_eq!(drain(&mut machine), [Asked(0)]);
    let numbers: Vec<u64> = (0..=last).collect();
    assert_eq!(
        replay(&mut machine, 1, &numbers),
        numbers.iter().map(|&n| Applied(n)).collect::<Vec<_>>()
    );
    assert_eq!(machine.trust(), Trust::Exact);
    machine
}

/// Connected without a replay socket.
pub(crate) fn alone() -> Sequence<Plain> {
    let mut machine = Sequence::new(false);
    machine.connected();
    assert_eq!(drain(&mut machine), []);
    machine
}
