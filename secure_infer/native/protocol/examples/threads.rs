//! How much faster a party is with several threads: one party at a time, against recorded messages of the other.
//!
//! `cargo run --release -p blindread-protocol --example threads -- program.json [softspoken|ferret] [threads] [rounds]`
//! runs both parties once with fixed randomness and keeps what each received (4 GB for a large network with
//! `softspoken`). Then it runs each party alone, with one thread and with several in turn, and prints its seconds per
//! phase and kind of step and their ratio. Every step counts with the best of all rounds: what a virtual machine takes
//! away for a while is in some rounds only. What a party would send is thrown away, and what it receives is copied from
//! memory, which is counted: the connection is as fast as that. Last, as many parties of one thread as there are threads
//! run at the same time, phase by phase: the ratio that they have is what the machine's memory leaves for threads that
//! share nothing.
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

use blindread_protocol::channel::{Channel, ChannelError, Kind, Phase};
use blindread_protocol::program::StepId;
use blindread_protocol::{SessionOptions, Workers, developer, hospital};
use common::{MemoryChannel, pair};
use support::{Model, model};

/// The last one is measured: what comes first pays for fresh memory.
const TICKETS: u64 = 2;

type Messages = Vec<(Kind, Vec<u8>)>;

/// Keeps what is received.
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
}

/// Seconds per phase and step.
type Book = BTreeMap<(u8, StepId), f64>;

/// Gives what was recorded, and books the time.
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

/// The mean seconds of `parties` that run at the same time, with so many threads each.
fn run(party: Party, messages: &Messages, model: &Model, parties: usize, threads: usize) -> Book {
    let others = Barrier::new(parties);
    let one = || {
        let workers = Workers::new(threads).expect("threads");
        let mut replay = Replay::new(messages, &others);
        party(&mut replay, model, &workers);
        replay.book
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

/// The seconds of every step's best round, for one thread, for several, and for as many parties.
fn measure(party: Party, messages: &Messages, model: &Model, threads: usize, rounds: usize) {
    let mut best: BTreeMap<_, [f64; 3]> = BTreeMap::new();
    for _ in 0..rounds {
        for (at, (parties, threads)) in [(1, 1), (1, threads), (threads, 1)].into_iter().enumerate()
        {
            for (step, seconds) in run(party, messages, model, parties, threads) {
                let best = &mut best.entry(step).or_insert([f64::INFINITY; 3])[at];
                *best = best.min(seconds);
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
    for ((phase, part), [one, several, crowd]) in sums {
        let phase = ["setup", "offline", "online"][usize::from(phase)];
        let (ratio, ceiling) = (one / several, threads as f64 * one / crowd);
        println!(
            "  {phase:8} {part:12} {one:8.4} s with 1, {several:8.4} s with {threads}: {ratio:.2}, \
             nothing shared {ceiling:.2}"
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
    let (h, d) = pair();
    let record = |inner, party: Party| {
        let mut recorder = Recorder {
            inner,
            received: Vec::new(),
        };
        party(&mut recorder, &model, &Workers::one());
        recorder.received
    };
    let (to_hospital, to_developer) = thread::scope(|scope| {
        let other = scope.spawn(|| record(d, developer));
        (record(h, hospital), other.join().expect("developer"))
    });
    println!("hospital, {}", model.engine.name());
    measure(hospital, &to_hospital, &model, threads, rounds);
    drop(to_hospital);
    println!("developer, {}", model.engine.name());
    measure(developer, &to_developer, &model, threads, rounds);
}
