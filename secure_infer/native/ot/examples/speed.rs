//! Speed of both kinds of OT, one party after the other:
//! `cargo run --release -p blindread-ot --example speed [softspoken|ferret] [n] [rounds] [threads]`.

use std::time::{Duration, Instant};

use blindread_ot::{
    FerretReceiver, FerretSender, OtEngine, OtError, OtKind, OtReceiverEngine, OtSenderEngine,
    ReceiverSetup, SenderSetup,
};
use blindread_pool::Workers;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

type Engines = (Box<dyn OtSenderEngine>, Box<dyn OtReceiverEngine>);

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

fn set_up(engine: OtEngine, workers: &Workers) -> Result<Engines, OtError> {
    // A fixed seed: this is a measurement, nothing here is secret.
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (setup, request) = SenderSetup::start(b"speed", &mut rng);
    let (receiver, answer) = ReceiverSetup::new(b"speed").respond(&request, &mut rng)?;
    let sender = setup.finish(&answer)?.with_workers(workers);
    let receiver = receiver.with_workers(workers);
    Ok(match engine {
        OtEngine::SoftSpoken => (Box::new(sender), Box::new(receiver)),
        OtEngine::Ferret => (
            Box::new(FerretSender::new(sender, &mut rng)),
            Box::new(FerretReceiver::new(receiver, &mut rng)),
        ),
    })
}

/// Refills until `n` OTs are ready, and says what each refill took.
fn refill((sender, receiver): &mut Engines, kind: OtKind, n: usize) -> Result<(), OtError> {
    while let Some(refill) = sender.refill(kind, n) {
        let (mut request, mut answer) = (Vec::new(), Vec::new());
        let mut times = Vec::new();
        timed(&mut times, || receiver.request_refill(refill, &mut request))?;
        timed(&mut times, || {
            sender.answer_refill(refill, &request, &mut answer)
        })?;
        timed(&mut times, || receiver.finish_refill(&answer))?;
        let times: Vec<_> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
        println!(
            "refill {:?}: request {} bytes, answer {} bytes, {times:.1?} ms",
            refill.kind,
            request.len(),
            answer.len(),
        );
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let engine = arguments.iter().find_map(|name| OtEngine::from_name(name));
    let mut numbers = arguments
        .iter()
        .filter_map(|argument| argument.parse().ok());
    let n = numbers.next().unwrap_or(1 << 20);
    let rounds = numbers.next().unwrap_or(15).max(1);
    let workers = Workers::new(numbers.next().unwrap_or(1))?;
    let start = Instant::now();
    let mut engines = set_up(engine.unwrap_or(OtEngine::SoftSpoken), &workers)?;
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
        refill(&mut engines, OtKind::RandomOt, n)?;
        let (sender, receiver) = &mut engines;
        timed(&mut times[0], || {
            receiver.random_ot(n, 27, &mut corrections, &mut choices, &mut pads)
        })?;
        timed(&mut times[1], || {
            sender.random_ot(n, 27, &corrections, &mut pads0, &mut pads1)
        })?;
        corrections.clear();
        refill(&mut engines, OtKind::OneOf16, n)?;
        let (sender, receiver) = &mut engines;
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
