//! Speed of both kinds of OT on one core: `cargo run --release -p blindread-ot --example speed [n] [rounds]`.

use std::time::{Duration, Instant};

use blindread_ot::{OtError, OtReceiverEngine, OtSenderEngine, ReceiverSetup, SenderSetup};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

fn report(name: &str, n: usize, mut times: Vec<Duration>) {
    times.sort_unstable();
    let rate = |time: Duration| n as f64 / time.as_secs_f64() / 1e6;
    println!(
        "{name:22} median {:6.1} M/s, best {:6.1} M/s",
        rate(times[times.len() / 2]),
        rate(times[0])
    );
}

fn timed<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    times.push(start.elapsed());
    result
}

fn main() -> Result<(), OtError> {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse::<usize>().unwrap_or(1 << 20));
    let n = arguments.next().unwrap_or(1 << 20);
    let rounds = arguments.next().unwrap_or(15).max(1);
    // A fixed seed: this is a measurement, nothing here is secret.
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let start = Instant::now();
    let (setup, request) = SenderSetup::start(b"speed", &mut rng);
    let (mut receiver, answer) = ReceiverSetup::new(b"speed").respond(&request, &mut rng)?;
    let mut sender = setup.finish(&answer)?;
    println!(
        "{:22} {:.1} ms, both parties",
        "set-up",
        start.elapsed().as_secs_f64() * 1e3
    );

    let mut times: [Vec<Duration>; 4] = Default::default();
    let mut corrections = Vec::new();
    let (mut choices, mut pads) = (vec![0; n], vec![0; n]);
    let (mut pads0, mut pads1) = (vec![0; n], vec![0; n]);
    let (mut bits, mut tables) = (vec![0; n], vec![0; n]);
    for _ in 0..rounds {
        corrections.clear();
        timed(&mut times[0], || {
            receiver.random_ot(n, 27, &mut corrections, &mut choices, &mut pads)
        })?;
        timed(&mut times[1], || {
            sender.random_ot(n, 27, &corrections, &mut pads0, &mut pads1)
        })?;
        corrections.clear();
        timed(&mut times[2], || {
            receiver.one_of_16(n, &mut corrections, &mut choices, &mut bits)
        })?;
        timed(&mut times[3], || {
            sender.one_of_16(n, &corrections, &mut tables)
        })?;
    }
    let names = [
        "random_ot receiver",
        "random_ot sender",
        "one_of_16 receiver",
        "one_of_16 sender",
    ];
    for (name, times) in names.into_iter().zip(times) {
        report(name, n, times);
    }
    Ok(())
}
