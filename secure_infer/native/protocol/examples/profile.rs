//! Where the time of one session goes: both parties in one process, random parameters, no network.
//!
//! `cargo run --release -p blindread-protocol --example profile -- program.json [softspoken|ferret] [tickets]`
//! prints seconds and bytes per phase and operation for both parties, of the last of so many tickets: what comes first
//! pays for fresh memory.
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
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use blindread_protocol::channel::{Channel, ChannelError, Kind, Phase};
use blindread_protocol::program::StepId;
use blindread_protocol::{Plan, SessionOptions, Workers, developer, hospital};
use common::{MemoryChannel, pair};
use support::{Model, model};

/// Books the time between calls to phase and operation, and the time spent waiting apart.
struct Timed {
    inner: MemoryChannel,
    plan: Arc<Plan>,
    now: (Phase, StepId),
    since: Instant,
    book: BTreeMap<(u8, &'static str), (Duration, Duration, usize)>,
}

impl Timed {
    fn new(inner: MemoryChannel, plan: Arc<Plan>) -> Self {
        Self {
            inner,
            plan,
            now: (Phase::Setup, 0),
            since: Instant::now(),
            book: BTreeMap::new(),
        }
    }

    fn entry(&mut self) -> &mut (Duration, Duration, usize) {
        let op = self.plan.program().steps()[self.now.1].kind_name();
        self.book.entry((self.now.0 as u8, op)).or_default()
    }

    /// Forgets what was booked.
    fn begin(&mut self) {
        self.book.clear();
        self.since = Instant::now();
    }

    fn print(&self, who: &str) {
        println!("{who}: phase op            busy s   waiting s   MB sent");
        for ((phase, op), (busy, waiting, bytes)) in &self.book {
            let phase = ["setup", "offline", "online"][usize::from(*phase)];
            let (busy, waiting) = (busy.as_secs_f64(), waiting.as_secs_f64());
            println!(
                "  {phase:8} {op:12} {busy:9.4} {waiting:9.4} {:9.1}",
                *bytes as f64 / 1e6
            );
        }
    }
}

impl Channel for Timed {
    fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), ChannelError> {
        self.entry().2 += body.len();
        self.inner.send_uncopied(kind, body.to_vec())
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        Ok(())
    }

    fn recv(&mut self, kind: Kind, len: usize, body: &mut Vec<u8>) -> Result<(), ChannelError> {
        let elapsed = self.since.elapsed();
        self.entry().0 += elapsed;
        let start = Instant::now();
        let result = self.inner.recv(kind, len, body);
        self.entry().1 += start.elapsed();
        self.since = Instant::now();
        result
    }

    fn enter(&mut self, phase: Phase, step: StepId) {
        let elapsed = self.since.elapsed();
        self.entry().0 += elapsed;
        self.since = Instant::now();
        self.now = (phase, step);
    }

    fn connections(&mut self) -> Vec<&mut dyn Channel> {
        vec![self]
    }
}

fn main() {
    let Model {
        plan,
        parameters,
        hints,
        secrets,
        engine,
    } = model();
    let options = SessionOptions {
        id: [9; 32],
        engine,
        workers: Workers::one(),
    };
    let tickets = std::env::args()
        .nth(3)
        .map_or(1, |n| n.parse().expect("a number"))
        .max(1);
    let (h, d) = pair();
    let (plan_d, options_d) = (plan.clone(), options.clone());
    let developer = thread::spawn(move || {
        let mut d = Timed::new(d, plan_d.clone());
        let mut session =
            developer::Session::setup(&mut d, plan_d, parameters, secrets, options_d, [4; 32])
                .expect("setup");
        for number in 0..tickets {
            d.begin();
            let ticket = session.prepare(&mut d, number, [5; 32]).expect("offline");
            session.infer(&mut d, ticket, 0.0, [6; 32]).expect("online");
        }
        d.enter(Phase::Online, 0);
        d
    });
    let mut h = Timed::new(h, plan.clone());
    let image = vec![100; plan.program().input_shape().iter().product()];
    let mut session =
        hospital::Session::setup(&mut h, plan.clone(), hints, [7; 32], options, [3; 32])
            .expect("setup");
    println!("{} comparisons", plan.program().relu_count());
    for number in 0..tickets {
        h.begin();
        let start = Instant::now();
        let ticket = session.prepare(&mut h, number, [8; 32]).expect("offline");
        let offline = start.elapsed().as_secs_f64();
        let start = Instant::now();
        session.infer(&mut h, ticket, &image).expect("online");
        let online = start.elapsed().as_secs_f64();
        println!("ticket {number}: offline {offline:.2} s, online {online:.2} s");
    }
    h.enter(Phase::Online, 0);
    h.print("hospital");
    developer.join().expect("developer").print("developer");
}
