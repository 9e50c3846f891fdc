//! One worker: its engine, its wires, and the node's side of it; and what the seed makes of them.
use crate::engine::Engine;
use crate::faults::{Kind, LiveMode};
use crate::net::{Live, Message};
use crate::node::{Asking, Node, Turn};
use crate::truth::Life;
use crate::world::{Event, Queue, Shared};
use kvroute::fake::chance::Chance;
use kvroute::fake::faults::{Faults, Lie};
use kvroute::fake::ring::Form;
use kvroute::status::Trust;
use kvroute::stream::follow::Timing;
use kvroute_engine::Index;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Microseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000;

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) engine: Engine,
    pub(crate) node: Node,
    pub(crate) live: Live,
    pub(crate) has_replay: bool,
    chance: Chance,
    /// The engine's process is there.
    alive: bool,
    /// It serves nothing until then.
    idle_until: u64,
    mode: LiveMode,
    replays: Faults,
    /// The thread does nothing else until then.
    stalled_until: u64,
    /// Microseconds between two batches, at most.
    pace: u64,
    /// Until something of the present life was delivered, nothing is lost: a new life behind a connection
    /// that outlives the engine cannot be told from the old one if its beginning is lost.
    fragile: bool,
    /// When it wants to be looked at.
    due_at: Option<u64>,
    pub(crate) injected: BTreeMap<Kind, u64>,
    /// Batches still to be published before the calm.
    pub(crate) steps: u64,
}

impl Site {
    pub(crate) fn draw(chance: &mut Chance, index: &Arc<Index>, fleet: u64) -> Self {
        let has_replay = chance.per_mille(850);
        let timing = Timing {
            seed: chance.next(),
            resync: Duration::from_millis(500),
            ..Timing::default()
        };
        let weight = [0, 0, 0, 0, 0, 5 << 20][chance.place(6)];
        let writer = index.writer("tiny").expect("room");
        let mut site = Self {
            engine: Engine::draw(chance, fleet),
            node: Node::new(writer, has_replay, timing, weight, chance.fork()),
            live: Live::default(),
            has_replay,
            alive: true,
            idle_until: 0,
            mode: LiveMode::calm(),
            replays: Faults::default(),
            stalled_until: 0,
            pace: [5_000, 100_000, 2 * SECOND][chance.place(3)],
            fragile: false,
            due_at: None,
            injected: BTreeMap::new(),
            steps: chance.between(20, 120),
            chance: chance.fork(),
        };
        if !has_replay {
            site.note(Kind::NoReplay);
        }
        site
    }

    /// The first connection is being made; perhaps the engine is older than the node.
    pub(crate) fn begin(&mut self, id: usize, queue: &mut Queue, shared: &Shared) {
        for _ in 0..[0, 0, self.chance.below(30)][self.chance.place(3)] {
            self.publish(0, id, queue);
        }
        self.node.follower.connecting(shared.instant(0));
        let first = [1_000, 50_000, 20 * SECOND][self.chance.place(3)];
        queue.push(self.chance.between(100, first), id, Event::Up);
        queue.push(0, id, Event::Turn);
        queue.push(self.chance.below(self.pace), id, Event::Step);
        queue.push(self.chance.below(4 * self.pace), id, Event::Fault);
    }

    pub(crate) fn note(&mut self, kind: Kind) {
        *self.injected.entry(kind).or_default() += 1;
    }

    pub(crate) fn handle(
        &mut self,
        now: u64,
        id: usize,
        event: Event,
        queue: &mut Queue,
        shared: &mut Shared,
    ) {
        match event {
            Event::Turn => self.turn(now, id, queue, shared),
            Event::Due => {
                self.due_at = self.due_at.filter(|&due| due > now);
                self.turn(now, id, queue, shared);
            }
            Event::Step => self.step(now, id, queue),
            Event::Fault => self.fault(now, id, queue, shared),
            Event::Up => self.connect(now, id, queue),
            Event::Back(overtaking) => self.come_back(now, id, overtaking, queue),
            Event::Serve(request) => self.serve(now, id, request, queue),
            Event::Answer(request) => self.answer(now, id, request, queue),
            Event::Granted => self.granted(now, id, queue, shared),
        }
    }

    fn turn(&mut self, now: u64, id: usize, queue: &mut Queue, shared: &mut Shared) {
        if now < self.stalled_until {
            return queue.push(self.stalled_until, id, Event::Turn);
        }
        let mut turn = Turn {
            now,
            base: shared.base,
            at: &shared.participant,
            scratch: &mut shared.scratch,
            live: &mut self.live,
            lives: &mut self.engine.lives,
        };
        let more = self.node.turn(&mut turn);
        let now = turn.now;
        for kind in std::mem::take(&mut self.node.struck) {
            self.note(kind);
        }
        if std::mem::take(&mut self.node.opened) {
            self.send_request(now, id, queue);
        }
        if self.node.wish.is_some() {
            let wait = [1_000, SECOND, 20 * SECOND][self.chance.place(3)];
            queue.push(now + self.chance.between(1, wait), id, Event::Granted);
        }
        if more {
            queue.push(now + 10, id, Event::Turn);
        } else if let Some(due) = self.node.follower.due() {
            let due = due.saturating_duration_since(shared.base);
            let due = due.as_nanos().div_ceil(1_000) as u64;
            let due = due.max(now + 1);
            if self.due_at.is_none_or(|at| due < at) {
                self.due_at = Some(due);
                queue.push(due, id, Event::Due);
            }
        }
    }

    fn step(&mut self, now: u64, id: usize, queue: &mut Queue) {
        if self.alive && now >= self.idle_until {
            self.publish(now, id, queue);
        }
        self.steps = self.steps.saturating_sub(1);
        if self.steps > 0 {
            queue.push(now + self.chance.between(1, self.pace), id, Event::Step);
        }
    }

    /// The engine publishes its next batch, if it has one.
    pub(crate) fn publish(&mut self, now: u64, id: usize, queue: &mut Queue) {
        let Some(batch) = self.engine.publish() else {
            return;
        };
        let message = Message::Batch {
            life: self.engine.life(),
            sequence: batch.sequence,
            payload: batch.payload,
        };
        let mode = match self.fragile {
            true => LiveMode::calm(),
            false => self.mode,
        };
        self.fragile &= !self.live.up;
        let (struck, arrival) = self.live.send(now, message, &mode, &mut self.chance);
        let disorder = |kind: &Kind| matches!(kind, Kind::Reorder | Kind::Double);
        self.engine.current_mut().disordered |= struck.iter().any(disorder);
        struck.into_iter().for_each(|kind| self.note(kind));
        if let Some(at) = arrival {
            queue.push(at + self.chance.below(2_000), id, Event::Turn);
        }
    }

    fn connect(&mut self, now: u64, id: usize, queue: &mut Queue) {
        if self.alive && !self.live.up {
            let subscription = [50, 2_000][self.chance.place(2)];
            self.live.connect(
                now,
                self.chance.between(10, subscription),
                self.engine.life(),
            );
            queue.push(now + self.chance.below(3_000), id, Event::Turn);
        }
    }

    fn disconnect(&mut self, now: u64, id: usize, queue: &mut Queue) {
        self.live.cut(now);
        queue.push(now + self.chance.below(3_000), id, Event::Turn);
    }

    /// The process dies, and comes back after a while.
    fn die(&mut self, now: u64, id: usize, queue: &mut Queue) {
        self.disconnect(now, id, queue);
        self.alive = false;
        let same = self.chance.per_mille(500);
        self.note(if same {
            Kind::RestartSame
        } else {
            Kind::Restart
        });
        self.engine.restart(same);
        self.node.knows_life = false;
        if let Some(replay) = &mut self.node.replay {
            replay.cut(now, &mut self.chance);
        }
        let down = [2_000, 300_000, 6 * SECOND][self.chance.place(3)];
        let back = now + self.chance.between(500, down);
        let overtaking = match self.chance.below(3) {
            0 => {
                self.note(Kind::RestartOvertaking);
                self.chance.below(40)
            }
            1 => {
                self.note(Kind::RestartIdle);
                self.idle_until = back + self.chance.below(20 * SECOND);
                0
            }
            _ => 0,
        };
        queue.push(back, id, Event::Back(overtaking));
    }

    /// The process is there again, and publishes so many batches before anybody is connected.
    fn come_back(&mut self, now: u64, id: usize, overtaking: u64, queue: &mut Queue) {
        self.alive = true;
        for _ in 0..overtaking {
            self.publish(now, id, queue);
        }
        queue.push(now + self.chance.between(100, 200_000), id, Event::Up);
        if let Some(replay) = self.node.replay.as_ref().filter(|replay| replay.unserved) {
            let at = now + self.chance.between(100, 100_000);
            queue.push(at, id, Event::Serve(replay.id));
        }
    }

    /// Whether what is on its way, or held back, cannot be mistaken for the new life's: see
    /// `restarts_behind_a_proxy_in_the_middle_of_a_replay`.
    fn may_restart_behind_proxy(&self, shared: &Shared) -> bool {
        let quiet = self.live.flying.is_empty()
            && self.live.links.is_empty()
            && self.node.replay.is_none()
            && self.node.wish.is_none()
            && self.node.follower.waiting() == 0
            && self.node.follower.trust() != Trust::Replaying;
        self.alive && self.live.up && (quiet || shared.hard)
    }

    /// A new life behind connections that stay.
    fn restart_behind_proxy(&mut self, now: u64, id: usize, queue: &mut Queue) {
        let same = self.chance.per_mille(500);
        self.note(Kind::RestartProxied);
        self.engine.restart(same);
        self.node.knows_life = false;
        self.fragile = true;
        if let Some(replay) = &mut self.node.replay {
            replay.cut(now, &mut self.chance);
            if replay.unserved {
                queue.push(now + 1_000, id, Event::Serve(replay.id));
            }
        }
    }

    fn send_request(&mut self, now: u64, id: usize, queue: &mut Queue) {
        if let Some(replay) = &self.node.replay
            && self.alive
        {
            let poll = [300, 100_000][self.chance.place(2)];
            let at = now + self.chance.between(50, poll);
            queue.push(at, id, Event::Serve(replay.id));
        }
    }

    /// The engine looks at its replay socket.
    fn serve(&mut self, now: u64, id: usize, request: u64, queue: &mut Queue) {
        let life = self.engine.life();
        let form = Form {
            framing: self.engine.rank.dialect().framing(),
            topic: "kv".to_owned(),
            faults: self.replays,
        };
        let Some(replay) = self
            .node
            .replay
            .as_mut()
            .filter(|replay| replay.id == request)
        else {
            return;
        };
        if !self.alive || !std::mem::take(&mut replay.unserved) {
            return;
        }
        let kind = replay_fault(&self.replays);
        replay.source = Some((life, self.engine.ring.answers(replay.from, &form)));
        replay.pace = match self.replays.slow {
            Some(pause) => pause.as_micros() as u64,
            None if self.replays.endless => 300_000,
            None => 100,
        };
        queue.push(now, id, Event::Answer(request));
        kind.into_iter().for_each(|kind| self.note(kind));
    }

    fn answer(&mut self, now: u64, id: usize, request: u64, queue: &mut Queue) {
        let replay = self.node.replay.as_mut();
        let Some(replay) = replay.filter(|replay| replay.id == request) else {
            return;
        };
        let latency = self.chance.between(20, 2_000);
        if let Some(at) = replay.say(now, latency) {
            queue.push(at + self.chance.below(500), id, Event::Turn);
            let pause = self.chance.between(replay.pace / 2, replay.pace);
            queue.push(now + pause, id, Event::Answer(request));
        }
    }

    fn granted(&mut self, now: u64, id: usize, queue: &mut Queue, shared: &Shared) {
        if let Some(from) = self.node.wish {
            self.node.open(from, shared.instant(now));
            self.node.opened = false;
            self.send_request(now, id, queue);
            queue.push(now + 1, id, Event::Turn);
        }
    }

    /// Another process of the node follows the engine.
    fn restart_node(&mut self, now: u64, id: usize, queue: &mut Queue, shared: &Shared) {
        self.live.close(now);
        let warm = self.node.restart(&shared.index, &shared.participant);
        self.note(match warm {
            true => Kind::NodeRestartWarm,
            false => Kind::NodeRestart,
        });
        self.engine.lives.iter_mut().for_each(Life::forget_given);
        self.node.follower.connecting(shared.instant(now));
        let away = [500, 100_000, 12 * SECOND][self.chance.place(3)];
        queue.push(now + self.chance.between(100, away), id, Event::Up);
        queue.push(now + 1, id, Event::Turn);
    }

    /// Something goes wrong, or ceases to.
    fn fault(&mut self, now: u64, id: usize, queue: &mut Queue, shared: &Shared) {
        match self.chance.below(14) {
            0 | 1 => self.mode = LiveMode::draw(&mut self.chance),
            2 | 3 => self.replays = draw_replays(&mut self.chance),
            4 => {
                self.note(Kind::Disconnect);
                self.disconnect(now, id, queue);
                let away = [500, 100_000, 12 * SECOND][self.chance.place(3)];
                queue.push(now + self.chance.between(100, away), id, Event::Up);
            }
            5 if self.alive => self.die(now, id, queue),
            6 if self.may_restart_behind_proxy(shared) && self.chance.per_mille(400) => {
                self.restart_behind_proxy(now, id, queue);
            }
            7 if self.alive && !self.fragile && self.chance.per_mille(300) => {
                self.note(Kind::Unencodable);
                self.engine.lose_number();
            }
            8 if self.chance.per_mille(500) => {
                self.note(Kind::Verify);
                self.node.follower.verify(shared.instant(now));
                queue.push(now + 1, id, Event::Turn);
            }
            8 if self.chance.per_mille(500) => {
                self.note(Kind::Unheard);
                self.node.follower.unheard(shared.instant(now));
                queue.push(now + 1, id, Event::Turn);
            }
            8 if self.chance.per_mille(500) => {
                self.note(Kind::Distrust);
                self.node.follower.distrust(shared.instant(now));
                queue.push(now + 1, id, Event::Turn);
            }
            9 => {
                self.note(Kind::Stall);
                self.stalled_until = now + self.chance.below(3 * SECOND);
            }
            10 => {
                let often = [0, 0, 300];
                self.node.asking = Asking {
                    fails: often[self.chance.place(3)],
                    waits: often[self.chance.place(3)],
                };
            }
            12 => self.node.save(&mut self.chance),
            13 if self.chance.per_mille(400) => self.restart_node(now, id, queue, shared),
            11 if self.chance.per_mille(100) => self
                .engine
                .ring
                .set_max(self.chance.between(1, 10) as usize),
            _ => {}
        }
        if self.steps > 0 {
            let next = now + self.chance.between(1, 6 * self.pace);
            queue.push(next, id, Event::Fault);
        }
    }

    /// Nothing goes wrong any more.
    pub(crate) fn calm(&mut self, now: u64, id: usize, queue: &mut Queue) {
        self.mode = LiveMode::calm();
        self.replays = Faults::default();
        self.node.asking = Asking::default();
        self.idle_until = 0;
        self.stalled_until = 0;
        self.fragile = false;
        if !self.alive {
            self.come_back(now, id, 0, queue);
        }
        queue.push(now, id, Event::Up);
        queue.push(now + 1, id, Event::Turn);
    }
}

fn draw_replays(chance: &mut Chance) -> Faults {
    let honest = Faults::default();
    let lie = |lie| Faults {
        lie: Some(lie),
        ..honest
    };
    match chance.below(14) {
        0 => Faults {
            silent: true,
            ..honest
        },
        1 => Faults {
            slow: Some(Duration::from_millis(chance.between(5, 7_000))),
            ..honest
        },
        2 => Faults {
            half: Some(chance.below(12)),
            ..honest
        },
        3 => Faults {
            endless: true,
            ..honest
        },
        4 => lie(Lie::Numbers),
        5 => lie(Lie::Bytes),
        6 => lie(Lie::Frames),
        _ => honest,
    }
}

fn replay_fault(faults: &Faults) -> Option<Kind> {
    match faults.lie {
        Some(Lie::Numbers) => Some(Kind::LyingNumbers),
        Some(Lie::Bytes) => Some(Kind::LyingBytes),
        Some(Lie::Frames) => Some(Kind::LyingFrames),
        None if faults.silent => Some(Kind::Silent),
        None if faults.slow.is_some() => Some(Kind::Slow),
        None if faults.half.is_some() => Some(Kind::Half),
        None if faults.endless => Some(Kind::Endless),
        None => None,
    }
}
