//! Speed of both kinds of OT, one party after the other:
//! `cargo run --release -p blindread-ot --example speed [softspoken|ferret] [n] [rounds] [threads]`.

use std::time::{Duration, Instant};

use blindread_ot::{
    FerretReceiver, FerretSender, OtEngine, OtError, OtReceiverEngine, OtSenderEngine,
    ReceiverSetup, Role, SenderSetup, Wire,
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
        OtEngine::Ferret => {
            let mut corrections = Vec::new();
            let receiver = FerretReceiver::start(receiver, true, &mut corrections)?;
            let sender = FerretSender::start(sender, true, &mut &corrections[..], &mut rng)?;
            (Box::new(sender), Box::new(receiver))
        }
    })
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
    let engine = engine.unwrap_or(OtEngine::SoftSpoken);
    let mut engines = set_up(engine, &workers)?;
    let order = match engine.speaker() {
        Role::Sender => [Role::Sender, Role::Receiver],
        Role::Receiver => [Role::Receiver, Role::Sender],
    };
    println!(
        "{:22} {:.1} ms, both parties",
        "set-up",
        start.elapsed().as_secs_f64() * 1e3
    );

    let mut times: [Vec<Duration>; 4] = Default::default();
    let (mut choices, mut pads) = (vec![0; n], vec![0; n]);
    let (mut pads0, mut pads1) = (vec![0; n], vec![0; n]);
    let (mut bits, mut tables) = (vec![0; n], vec![0; n]);
    let (sender, receiver) = &mut engines;
    for _ in 0..rounds {
        // Who speaks comes first; the other one listens.
        let mut message = Vec::new();
        for role in order {
            let mut sent = &message.clone()[..];
            let wire: &mut dyn Wire = if role == engine.speaker() {
                &mut message
            } else {
                &mut sent
            };
            match role {
                Role::Receiver => timed(&mut times[0], || {
                    receiver.random_ot(n, 27, wire, &mut choices, &mut pads)
                })?,
                Role::Sender => timed(&mut times[1], || {
                    sender.random_ot(n, 27, wire, [&mut pads0, &mut pads1])
                })?,
            }
        }
        let mut message = Vec::new();
        for role in order {
            let mut sent = &message.clone()[..];
            let wire: &mut dyn Wire = if role == engine.speaker() {
                &mut message
            } else {
                &mut sent
            };
            match role {
                Role::Receiver => timed(&mut times[2], || {
                    receiver.one_of_16(n, wire, &mut choices, &mut bits)
                })?,
                Role::Sender => timed(&mut times[3], || sender.one_of_16(n, wire, &mut tables))?,
            }
        }
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
