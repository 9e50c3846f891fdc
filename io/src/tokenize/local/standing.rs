//! Whether a model's local tokenizer may answer; pure.
//!
//! It begins `Unverified`. When it has been equal to the engines on all probes it is `On`; one difference, then or
//! later, makes it `Off`. An engine that was not there when it was verified makes it `Unverified` again: another version may have
//! another template. `Off` lasts as long as any of the engines does that it was found with, so that a fleet of two versions
//! does not turn it on and off.
use crate::limits::{LOCAL_RETRY_TIME, LOCAL_SAMPLE_EVERY, LOCAL_SHAPES_MAX};
use std::collections::HashSet;
use std::time::Instant;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Not compared with the engines yet: they are asked.
    Unverified,
    /// It answers.
    On,
    /// It was different: the engines are asked.
    Off,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unverified, Self::On, Self::Off];

    /// The word used in metrics and the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unverified => "unverified",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Equal,
    /// From this token on.
    Different(usize),
    /// The engine has not answered, or does not take the prompt.
    Unknown,
}

impl Verdict {
    /// Compares tokens.
    pub(super) fn of(ours: &[u32], engines: &[u32]) -> Self {
        if ours == engines {
            return Self::Equal;
        }
        let pairs = ours.iter().zip(engines);
        Self::Different(pairs.take_while(|(a, b)| a == b).count())
    }
}

/// The state of one model's tokenizer. `L` stands for one life of one engine.
#[derive(Debug)]
pub(super) struct Standing<L> {
    state: State,
    /// The engines that the state was found with.
    lives: Vec<L>,
    /// Not verified before.
    after: Option<Instant>,
    /// What was compared already.
    shapes: HashSet<u64>,
    answered: u64,
}

impl<L: Copy + PartialEq> Standing<L> {
    pub(super) fn new() -> Self {
        Self {
            state: State::Unverified,
            lives: Vec::new(),
            after: None,
            shapes: HashSet::new(),
            answered: 0,
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Takes note of the engines there are; whether they are to be compared with now. O(engines²).
    pub(super) fn see(&mut self, lives: &[L], now: Instant) -> bool {
        let known = |life: &L| self.lives.contains(life);
        let again = match self.state {
            State::Unverified => false,
            State::On => !lives.iter().all(known),
            State::Off => !lives.is_empty() && !lives.iter().any(known),
        };
        if again {
            self.become_(State::Unverified, Vec::new());
        }
        let due = self.after.is_none_or(|after| after <= now);
        self.state == State::Unverified && due && !lives.is_empty()
    }

    /// What came of all probes together, with these engines. Whether the state has changed.
    pub(super) fn verified(&mut self, lives: &[L], verdict: Verdict, now: Instant) -> bool {
        if self.state != State::Unverified {
            return false;
        }
        match verdict {
            Verdict::Equal => self.become_(State::On, lives.to_vec()),
            Verdict::Different(_) => self.become_(State::Off, lives.to_vec()),
            Verdict::Unknown => self.after = Some(now + LOCAL_RETRY_TIME),
        }
        self.state != State::Unverified
    }

    /// Whether it may answer, and if so, whether the answer is to be compared: every so many, and the first of each shape.
    pub(super) fn answers(&mut self, shape: u64) -> Option<bool> {
        if self.state != State::On {
            return None;
        }
        self.answered += 1;
        let full = self.shapes.len() >= LOCAL_SHAPES_MAX;
        let new = !full && self.shapes.insert(shape);
        Some(new || self.answered.is_multiple_of(LOCAL_SAMPLE_EVERY))
    }

    /// A first answer of its shape could not be compared: the next one is.
    pub(super) fn forget(&mut self, shape: u64) {
        self.shapes.remove(&shape);
    }

    /// An answer was compared. Whether that has turned it off.
    pub(super) fn compared(&mut self, lives: &[L], verdict: Verdict) -> bool {
        let off = matches!(verdict, Verdict::Different(_)) && self.state == State::On;
        if off {
            self.become_(State::Off, lives.to_vec());
        }
        off
    }

    fn become_(&mut self, state: State, lives: Vec<L>) {
        *self = Self {
            state,
            lives,
            ..Self::new()
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Things that happen, and the state after each.
    enum Step {
        See(&'static [u8], bool),
        Verified(&'static [u8], Verdict, State),
        Compared(&'static [u8], Verdict, State),
        Passed(std::time::Duration),
    }
    use Step::{Compared, Passed, See, Verified};
    use Verdict::{Different, Equal, Unknown};

    fn play(steps: &[Step]) -> State {
        let mut standing = Standing::new();
        let mut now = Instant::now();
        for (n, step) in steps.iter().enumerate() {
            match step {
                See(lives, due) => assert_eq!(standing.see(lives, now), *due, "{n}"),
                Verified(lives, verdict, state) => {
                    standing.verified(lives, *verdict, now);
                    assert_eq!(standing.state(), *state, "{n}");
                }
                Compared(lives, verdict, state) => {
                    let before = standing.state();
                    let off = standing.compared(lives, *verdict);
                    assert_eq!(off, before == State::On && *state == State::Off, "{n}");
                    assert_eq!(standing.state(), *state, "{n}");
                }
                Passed(time) => now += *time,
            }
        }
        standing.state()
    }

    const NEW: State = State::Unverified;
    const ON: State = State::On;
    const OFF: State = State::Off;

    #[test]
    fn engines_come_and_go() {
        // Nobody to compare with.
        assert_eq!(play(&[See(&[], false)]), NEW);
        let verified = || Verified(&[1, 2], Equal, ON);
        assert_eq!(play(&[See(&[1, 2], true), verified()]), ON);
        // One that goes changes nothing; one that comes does.
        assert_eq!(play(&[verified(), See(&[2], false), See(&[], false)]), ON);
        assert_eq!(play(&[verified(), See(&[1, 2, 3], true)]), NEW);
        // It stays off while one of these engines is there.
        let different = || Verified(&[1, 2], Different(3), OFF);
        assert_eq!(play(&[different(), See(&[2, 3], false)]), OFF);
        assert_eq!(play(&[different(), See(&[], false)]), OFF);
        assert_eq!(
            play(&[different(), See(&[3], true), Verified(&[3], Equal, ON)]),
            ON
        );
    }

    #[test]
    fn a_difference_turns_it_off_and_nothing_else() {
        let verified = || Verified(&[1], Equal, ON);
        assert_eq!(play(&[verified(), Compared(&[1], Equal, ON)]), ON);
        assert_eq!(play(&[verified(), Compared(&[1], Unknown, ON)]), ON);
        let different = || Compared(&[1], Different(0), OFF);
        assert_eq!(
            play(&[verified(), different(), Compared(&[1], Equal, OFF)]),
            OFF
        );
        // One that comes late says nothing about a tokenizer that is not verified again yet.
        let late = Compared(&[2], Different(1), NEW);
        assert_eq!(play(&[verified(), See(&[2], true), late]), NEW);
    }

    #[test]
    fn engines_that_do_not_answer_are_asked_again_but_not_at_once() {
        let steps = &[
            See(&[1], true),
            Verified(&[1], Unknown, NEW),
            See(&[1], false),
            Passed(LOCAL_RETRY_TIME),
            See(&[1], true),
        ];
        assert_eq!(play(steps), NEW);
    }

    #[test]
    fn first_ones_and_every_so_many_are_compared() {
        let mut standing = Standing::new();
        assert_eq!(standing.answers(7), None);
        standing.verified(&[1], Equal, Instant::now());
        assert_eq!(standing.answers(7), Some(true));
        assert_eq!(standing.answers(7), Some(false));
        assert_eq!(standing.answers(8), Some(true));
        standing.forget(8);
        assert_eq!(standing.answers(8), Some(true));
        let sampled = (0..10 * LOCAL_SAMPLE_EVERY).filter(|_| standing.answers(7) == Some(true));
        assert_eq!(sampled.count(), 10);
    }

    #[test]
    fn the_first_difference_is_told() {
        assert_eq!(Verdict::of(&[1, 2], &[1, 2]), Equal);
        assert_eq!(Verdict::of(&[1, 2], &[1, 3]), Different(1));
        assert_eq!(Verdict::of(&[1, 2], &[1, 2, 3]), Different(2));
        assert_eq!(Verdict::of(&[], &[1]), Different(0));
    }
}
