//! How much faster a party is with several threads: one party at a time, against recorded messages of the other.
//!
//! `cargo run --release -p blindread-protocol --example threads -- program.json [softspoken|ferret] [threads] [rounds]`
//! runs both parties twice with fixed randomness and keeps what each received: one thread each on one
//! connection, and several threads each on as many connections (4 GB each time for a large network with
//! `softspoken`). Then it runs each party alone, with one thread and with several in turn, and prints its
//! seconds per phase and kind of step and their ratio. Every step counts with the best of all rounds: what a
//! virtual machine takes away for a while is in some rounds only. For each phase as a whole, it prints the
//! medians of all rounds' seconds and their ratio, too. What a party would send is thrown away, and what it
//! receives is copied from memory, which is counted: the connection is as fast as that. Besides, as many
//! parties of one thread and one connection as there are threads run at the same time, phase by phase: the
//! ratio that they have is what the machine's memory leaves for threads that share nothing.
//!
//! The ratios mean something on idle cores only, and of ten rounds or more.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "an example may panic"
)]

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use blindread_protocol::channel::{Channel, ChannelError, Kind, MAX_CONNECTIONS, Phase};
use blindread_protocol::program::StepId;
use blindread_protocol::{SessionOptions, Workers, developer, hospital};
use common::{MemoryChannel, Several, several};
use support::{Model, model};

/// The last one is measured: what comes first pays for fresh memory.
const TICKETS: u64 = 2;

type Messages = Vec<(Kind, Vec<u8>)>;

/// Keeps what is received on one connection.
struct Recorder {
    inner: MemoryChannel,
    received: Messages,
}

impl Channel for Recorder {
    fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), ChannelError> {
        self.inner.send_uncopied(kind, body.to_vec())
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        Ok(())
    }

    fn recv(&mut self, kind: Kind, len: usize, body: &mut Vec<u8>) -> Result<(), ChannelError> {
        self.inner.recv(kind, len, body)?;
        self.received.push((kind, body.clone()));
        Ok(())
    }

    fn connections(&mut self) -> Vec<&mut dyn Channel> {
        vec![self]
    }
}

/// Seconds per phase and step.
type Book = BTreeMap<(u8, StepId), f64>;

/// Gives what was recorded on one connection; the first one of a session books the time.
struct Replay<'a> {
    messages: std::slice::Iter<'a, (Kind, Vec<u8>)>,
    /// Where parties that run at the same time wait for each other before a phase.
    others: &'a Barrier,
    now: (Phase, StepId),
    since: Instant,
    book: Book,
}

impl<'a> Replay<'a> {
    fn new(messages: &'a Messages, others: &'a Barrier) -> Self {
        Self {
            messages: messages.iter(),
            others,
            now: (Phase::Setup, 0),
            since: Instant::now(),
            book: Book::new(),
        }
    }

    fn book(&mut self) {
        let seconds = self.since.elapsed().as_secs_f64();
        let now = (self.now.0 as u8, self.now.1);
        *self.book.entry(now).or_default() += seconds;
        self.since = Instant::now();
    }
}

impl Channel for Replay<'_> {
    fn send(&mut self, _kind: Kind, _body: &[u8]) -> Result<(), ChannelError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        Ok(())
    }

    fn recv(&mut self, kind: Kind, len: usize, body: &mut Vec<u8>) -> Result<(), ChannelError> {
        let (got, bytes) = self
            .messages
            .next()
            .ok_or(ChannelError::Closed { expected: kind })?;
        assert_eq!((*got, bytes.len()), (kind, len));
        body.clear();
        body.extend_from_slice(bytes);
        Ok(())
    }

    fn enter(&mut self, phase: Phase, step: StepId) {
        self.book();
        if (self.now.0, phase) == (Phase::Online, Phase::Offline) {
            self.book
                .retain(|&(phase, _), _| phase == Phase::Setup as u8);
        }
        if self.now.0 != phase {
            self.others.wait();
            self.since = Instant::now();
        }
        self.now = (phase, step);
    }

    fn connections(&mut self) -> Vec<&mut dyn Channel> {
        vec![self]
    }
}

fn hospital(ch: &mut dyn Channel, model: &Model, workers: &Workers) {
    let options = SessionOptions {
        id: [9; 32],
        engine: model.engine,
        workers: workers.clone(),
    };
    let (plan, hints) = (model.plan.clone(), model.hints.clone());
    let image = vec![100; plan.program().input_shape().iter().product()];
    let mut session =
        hospital::Session::setup(ch, plan, hints, [7; 32], options, [3; 32]).expect("setup");
    for number in 0..TICKETS {
        let ticket = session.prepare(ch, number, [8; 32]).expect("offline");
        session.infer(ch, ticket, &image).expect("online");
    }
    ch.enter(Phase::Online, 0);
}

fn developer(ch: &mut dyn Channel, model: &Model, workers: &Workers) {
    let options = SessionOptions {
        id: [9; 32],
        engine: model.engine,
        workers: workers.clone(),
    };
    let (plan, parameters) = (model.plan.clone(), model.parameters.clone());
    let secrets = model.secrets.clone();
    let mut session =
        developer::Session::setup(ch, plan, parameters, secrets, options, [4; 32]).expect("setup");
    for number in 0..TICKETS {
        let ticket = session.prepare(ch, number, [5; 32]).expect("offline");
        session.infer(ch, ticket, 0.0, [6; 32]).expect("online");
    }
    ch.enter(Phase::Online, 0);
}

type Party = fn(&mut dyn Channel, &Model, &Workers);

/// What each party received on each connection.
struct Recording {
    to_hospital: Vec<Messages>,
    to_developer: Vec<Messages>,
}

/// Runs both parties with so many threads each, and as many connections.
fn record(model: &Model, threads: usize) -> Recording {
    let record = |Several(ends): Several<MemoryChannel>, party: Party| {
        let recorder = |inner| Recorder {
            inner,
            received: Vec::new(),
        };
        let mut recorders = Several(ends.into_iter().map(recorder).collect());
        party(
            &mut recorders,
            model,
            &Workers::new(threads).expect("threads"),
        );
        let received = recorders.0.into_iter().map(|one| one.received);
        received.collect::<Vec<_>>()
    };
    let (h, d) = several(threads.min(MAX_CONNECTIONS));
    thread::scope(|scope| {
        let other = scope.spawn(|| record(d, developer));
        Recording {
            to_hospital: record(h, hospital),
            to_developer: other.join().expect("developer"),
        }
    })
}

/// Threads of a party, and what it received when it had as many.
type Recorded<'a> = (usize, &'a [Messages]);

/// The mean seconds of `parties` that run at the same time.
fn run(party: Party, (threads, messages): Recorded<'_>, model: &Model, parties: usize) -> Book {
    let others = Barrier::new(parties);
    let one = || {
        let workers = Workers::new(threads).expect("threads");
        let replay = |messages| Replay::new(messages, &others);
        let mut replay = Several(messages.iter().map(replay).collect());
        party(&mut replay, model, &workers);
        replay.0.swap_remove(0).book
    };
    thread::scope(|scope| {
        let all: Vec<_> = (0..parties).map(|_| scope.spawn(one)).collect();
        let mut mean = Book::new();
        for (step, seconds) in all.into_iter().flat_map(|one| one.join().expect("a party")) {
            *mean.entry(step).or_default() += seconds / parties as f64;
        }
        mean
    })
}

const PHASES: [&str; 3] = ["setup", "offline", "online"];

/// The seconds of whole runs, per phase.
type Wholes = [Vec<f64>; PHASES.len()];

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    let middle = seconds.len() / 2;
    (seconds[middle] + seconds[(seconds.len() - 1) / 2]) / 2.0
}

/// The seconds of every step's best round, for one thread, for several, and for as many parties; and the
/// medians of whole runs.
fn measure(party: Party, [one, several]: [Recorded<'_>; 2], model: &Model, rounds: usize) {
    let threads = several.0;
    let mut best: BTreeMap<_, [f64; 3]> = BTreeMap::new();
    let mut wholes: [Wholes; 3] = Default::default();
    for _ in 0..rounds {
        let runs = [(1, one), (1, several), (threads, one)];
        for (at, (parties, recorded)) in runs.into_iter().enumerate() {
            let mut whole = [0.0; PHASES.len()];
            for (step, seconds) in run(party, recorded, model, parties) {
                let best = &mut best.entry(step).or_insert([f64::INFINITY; 3])[at];
                *best = best.min(seconds);
                whole[usize::from(step.0)] += seconds;
            }
            for (wholes, whole) in wholes[at].iter_mut().zip(whole) {
                wholes.push(whole);
            }
        }
    }
    let mut sums: BTreeMap<_, [f64; 3]> = BTreeMap::new();
    for ((phase, step), seconds) in best {
        let kind = model.plan.program().steps()[step].kind_name();
        for part in [kind, "total"] {
            let sum = sums.entry((phase, part)).or_default();
            for (sum, seconds) in sum.iter_mut().zip(seconds) {
                *sum += seconds;
            }
        }
    }
    println!("  the best of every step:");
    for ((phase, part), [one, several, crowd]) in sums {
        let phase = PHASES[usize::from(phase)];
        let (ratio, ceiling) = (one / several, threads as f64 * one / crowd);
        println!(
            "  {phase:8} {part:12} {one:8.4} s with 1, {several:8.4} s with {threads}: {ratio:.2}, \
             nothing shared {ceiling:.2}"
        );
    }
    println!("  the median of {rounds} whole runs:");
    let [one, several, _] = wholes;
    for ((phase, one), several) in PHASES.into_iter().zip(one).zip(several) {
        let (one, several) = (median(one), median(several));
        let ratio = one / several;
        println!(
            "  {phase:8} {:12} {one:8.4} s with 1, {several:8.4} s with {threads}: {ratio:.2}",
            "whole"
        );
    }
}

fn main() {
    let number = |at| {
        std::env::args()
            .nth(at)
            .map(|n| n.parse().expect("a number"))
    };
    let (threads, rounds) = (number(3).unwrap_or(2), number(4).unwrap_or(10));
    let model = model();
    let (one, several) = (record(&model, 1), record(&model, threads));
    println!("hospital, {}", model.engine.name());
    let received = [(1, &one.to_hospital[..]), (threads, &several.to_hospital)];
    measure(hospital, received, &model, rounds);
    drop([one.to_hospital, several.to_hospital]);
    println!("developer, {}", model.engine.name());
    let received = [(1, &one.to_developer[..]), (threads, &several.to_developer)];
    measure(developer, received, &model, rounds);
}
