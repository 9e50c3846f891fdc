//! Random streams against a literal model of an engine and its two sockets.
//!
//! The model publishes batches, loses some on the live socket, spends numbers on batches that never
//! were, rotates its ring, restarts, loses the connection, and answers replays late, in part or not
//! at all. After every step what was applied since the last clear must be one unbroken row of one life;
//! when everything has calmed down it must end with the newest batch, and be whole if it could be.
use kvroute::status::Trust;
use kvroute::stream::sequence::{Action, Batch, Payload, Sequence};
use proptest::prelude::*;
use std::collections::VecDeque;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    life: u64,
    sequence: u64,
    clears: bool,
}

impl Payload for Told {
    fn bytes(&self) -> usize {
        1
    }
    fn starts_with_clear(&self) -> bool {
        self.clears
    }
}

impl Told {
    fn batch(&self) -> Batch<Self> {
        let checksum = self.sequence.wrapping_add(self.life << 40);
        Batch {
            sequence: self.sequence,
            checksum,
            payload: self.clone(),
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Publishes so many batches; the live socket loses those whose bit is set.
    Publish { batches: u8, lost: u8 },
    /// Publishes one that begins with a clear.
    PublishClear,
    /// Spends a number on a batch that cannot be encoded.
    Unencodable,
    /// The node takes so many live messages, and sees what became of the connection.
    Turn { messages: u8, messages_first: bool },
    /// The engine answers the replay that was asked for.
    Serve,
    /// So many of the answers arrive.
    Answers { messages: u8 },
    /// The node gives the replay up.
    Silence,
    /// The node asks again if it wants to.
    Retry,
    /// Somebody says that the engine may be another one.
    Verify { young: bool },
    /// The connection is lost; the engine goes on.
    Disconnect,
    /// The connection is there again.
    Connect,
    /// The engine restarts, and publishes so many batches before anybody is connected again.
    Restart { unheard: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6u8, any::<u8>(), any::<u8>())
            .prop_map(|(batches, a, b)| Step::Publish { batches, lost: a & b }),
        1 => Just(Step::PublishClear),
        1 => Just(Step::Unencodable),
        8 => (0..8u8, any::<bool>())
            .prop_map(|(messages, messages_first)| Step::Turn { messages, messages_first }),
        4 => Just(Step::Serve),
        5 => (1..20u8).prop_map(|messages| Step::Answers { messages }),
        1 => Just(Step::Silence),
        1 => Just(Step::Retry),
        1 => any::<bool>().prop_map(|young| Step::Verify { young }),
        1 => Just(Step::Disconnect),
        3 => Just(Step::Connect),
        1 => (0..12u8).prop_map(|unheard| Step::Restart { unheard }),
    ]
}

#[derive(Clone, Debug)]
enum Answer {
    Batch(Told),
    End,
}

#[derive(Clone, Copy, Debug)]
struct Faults {
    ring: usize,
    has_replay: bool,
    held_bytes_max: usize,
}

/// The engine, the wires, and the node's index.
struct World {
    machine: Sequence<Told>,
    faults: Faults,
    life: u64,
    next: u64,
    ring: VecDeque<Told>,
    connected: bool,
    /// Live messages on the way.
    wire: VecDeque<Told>,
    /// What the monitor has not been asked for yet.
    connections: VecDeque<bool>,
    /// A replay was asked for and has not ended.
    replaying: bool,
    /// From where, while the engine has not answered.
    asked: Option<u64>,
    answers: VecDeque<Answer>,
    /// What the index holds: the batches applied since the last clear.
    applied: Vec<Told>,
}

impl World {
    fn new(faults: Faults) -> Self {
        Self {
            machine: Sequence::new(faults.has_replay).with_held_bytes_max(faults.held_bytes_max),
            faults,
            life: 0,
            next: 0,
            ring: VecDeque::new(),
            connected: false,
            wire: VecDeque::new(),
            connections: VecDeque::new(),
            replaying: false,
            asked: None,
            answers: VecDeque::new(),
            applied: Vec::new(),
        }
    }

    fn publish(&mut self, clears: bool, lost: bool) {
        let told = Told {
            life: self.life,
            sequence: self.next,
            clears,
        };
        self.next += 1;
        self.ring.push_back(told.clone());
        if self.ring.len() > self.faults.ring {
            self.ring.pop_front();
        }
        if self.connected && !lost {
            self.wire.push_back(told);
        }
    }

    fn connect(&mut self, up: bool) {
        if self.connected != up {
            self.connected = up;
            self.connections.push_back(up);
        }
    }

    fn receive(&mut self, messages: usize) {
        for told in self.wire.drain(..messages.min(self.wire.len())) {
            self.machine.live(told.batch());
        }
    }

    fn look_at_connections(&mut self) {
        while let Some(up) = self.connections.pop_front() {
            if up {
                self.machine.connected();
            } else {
                // All that came over it has arrived; if the next one is up already, perhaps more.
                self.receive(usize::MAX);
                self.machine.disconnected();
            }
        }
    }

    /// Takes messages and looks at the connections, in either order; nothing is judged in between.
    fn turn(&mut self, messages: usize, messages_first: bool) {
        if messages_first {
            self.receive(messages);
        }
        self.look_at_connections();
        if !messages_first {
            self.receive(messages);
        }
    }

    fn serve(&mut self) {
        if let Some(from) = self.asked.take() {
            let found = self.ring.iter().filter(|told| told.sequence >= from);
            self.answers.extend(found.cloned().map(Answer::Batch));
            self.answers.push_back(Answer::End);
        }
    }

    fn take_answers(&mut self, messages: usize) {
        // A connection that was lost is seen before what a new life answers.
        if !self.connections.is_empty() {
            self.turn(0, false);
            self.obey();
        }
        for _ in 0..messages {
            match self.answers.pop_front() {
                Some(Answer::Batch(told)) => self.machine.replayed(told.batch()),
                Some(Answer::End) => {
                    self.replaying = false;
                    self.machine.replay_ended();
                }
                None => break,
            }
            self.obey();
        }
    }

    fn restart(&mut self) {
        self.connect(false);
        self.life += 1;
        self.next = 0;
        self.ring.clear();
        // What the dead engine had not sent yet is lost, the end marker with it.
        if self.answers.pop_back().is_some() {
            self.answers.clear();
        }
    }

    fn silence(&mut self) {
        self.asked = None;
        self.answers.clear();
        if std::mem::take(&mut self.replaying) {
            self.machine.replay_failed();
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Publish { batches, lost } => {
                for at in 0..batches {
                    self.publish(false, lost >> at & 1 == 1);
                }
            }
            Step::PublishClear => self.publish(true, false),
            Step::Unencodable => self.next += 1,
            Step::Turn {
                messages,
                messages_first,
            } => {
                self.turn(usize::from(messages), messages_first);
            }
            Step::Serve => self.serve(),
            Step::Answers { messages } => self.take_answers(usize::from(messages)),
            Step::Silence => self.silence(),
            Step::Retry => self.machine.retry(),
            Step::Verify { young } => self.machine.verify(young),
            Step::Disconnect => self.connect(false),
            Step::Connect => self.connect(true),
            Step::Restart { unheard } => {
                self.restart();
                (0..unheard).for_each(|_| self.publish(false, false));
            }
        }
        self.obey();
    }

    /// Does what the machine says, and checks what it leads to.
    fn obey(&mut self) {
        while let Some(action) = self.machine.pop() {
            match action {
                Action::Apply(batch) => self.apply(batch),
                Action::Clear(_) => self.applied.clear(),
                Action::AskReplay { from } => {
                    self.replaying = true;
                    self.asked = Some(from);
                    self.answers.clear();
                }
                Action::StopReplay => {
                    self.replaying = false;
                    self.asked = None;
                    self.answers.clear();
                }
                Action::Drop { batches, .. } => assert_ne!(batches, 0),
            }
        }
        assert_eq!(
            self.machine.last(),
            self.applied.last().map(|told| told.sequence)
        );
        if self.machine.trust() == Trust::Exact {
            assert!(
                self.applied.first().is_none_or(|_| self.is_whole()),
                "{:?}",
                self.applied
            );
        }
    }

    fn apply(&mut self, batch: Batch<Told>) {
        let told = batch.payload;
        if let Some(before) = self.applied.last() {
            assert_eq!(
                (before.life, before.sequence + 1),
                (told.life, told.sequence),
                "a hole"
            );
        }
        let clears = told.clears;
        self.applied.push(told);
        if clears {
            self.machine.cleared();
        }
    }

    /// Whether nothing before what was applied matters.
    fn is_whole(&self) -> bool {
        let begins = self.applied.first().is_some_and(|told| told.sequence == 0);
        begins || self.applied.iter().any(|told| told.clears)
    }

    /// Lets everything arrive, with nothing lost from now on.
    fn calm(&mut self) {
        self.connect(true);
        for _ in 0..20 {
            self.turn(usize::MAX, false);
            self.obey();
            if self.asked.is_none() && self.answers.is_empty() {
                // A replay whose end was lost.
                self.silence();
                self.obey();
                self.machine.retry();
                self.obey();
            }
            self.serve();
            self.take_answers(usize::MAX);
        }
    }
}

fn faults() -> impl Strategy<Value = Faults> {
    let ring = prop_oneof![Just(0), 1..12usize, Just(10_000)];
    let held = prop_oneof![2..8usize, Just(1_000_000)];
    (ring, any::<bool>(), held).prop_map(|(ring, has_replay, held_bytes_max)| Faults {
        ring,
        has_replay,
        held_bytes_max,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_applied_is_one_unbroken_row_of_one_life(
        faults in faults(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let mut world = World::new(faults);
        steps.iter().for_each(|step| world.step(step));
        world.calm();
        // Two more, so that what was lost before the calm is noticed.
        world.publish(false, false);
        world.calm();
        world.publish(false, false);
        world.calm();

        let last = world.applied.last().map(|told| (told.life, told.sequence));
        prop_assert_eq!(last, Some((world.life, world.next - 1)));
        let trust = world.machine.trust();
        prop_assert_eq!(trust, if world.is_whole() { Trust::Exact } else { Trust::Partial });

        let unencodable = steps.iter().any(|step| matches!(step, Step::Unencodable));
        if faults.has_replay && faults.ring == 10_000 && !unencodable {
            prop_assert_eq!(trust, Trust::Exact);
        }
    }
}
