//! SoftSpokenOT through the public interface, each party's part apart: `make bench-kernels`.

use std::time::{Duration, Instant};

use blindread_ot::{
    OtError, OtReceiver, OtReceiverEngine, OtSender, OtSenderEngine, ReceiverSetup, SenderSetup,
};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

/// OTs of one call, a lane of the protocol.
const OTS: usize = 1 << 15;
/// Bits of a pad: the usual ring.
const BITS: u32 = 27;

/// Time of the receiver and of the sender.
type Times = [Duration; 2];

fn set_up() -> Result<(OtSender, OtReceiver), OtError> {
    // A fixed seed: this is a measurement, nothing here is secret.
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let (setup, request) = SenderSetup::start(b"kernels", &mut rng);
    let (receiver, answer) = ReceiverSetup::new(b"kernels").respond(&request, &mut rng)?;
    Ok((setup.finish(&answer)?, receiver))
}

fn timed<T>(time: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    *time += start.elapsed();
    result
}

/// Throughput in OTs. One party needs the other's message, so both work and one is timed.
fn softspoken(c: &mut Criterion) {
    let mut group = c.benchmark_group("ot");
    group.throughput(Throughput::Elements(OTS as u64));
    let Ok((mut sender, mut receiver)) = set_up() else {
        unreachable!("both parties are honest");
    };
    let (mut corrections, mut choices, mut pads) = (Vec::new(), vec![0; OTS], vec![0; OTS]);
    let (mut first, mut second) = (vec![0; OTS], vec![0; OTS]);
    let (mut bits, mut tables) = (vec![0; OTS], vec![0; OTS]);
    let mut random_ot = |times: &mut Times| -> Result<(), OtError> {
        corrections.clear();
        timed(&mut times[0], || {
            receiver.random_ot(OTS, BITS, &mut corrections, &mut choices, &mut pads)
        })?;
        timed(&mut times[1], || {
            sender.random_ot(OTS, BITS, &mut &corrections[..], [&mut first, &mut second])
        })
    };
    measure(&mut group, "random_ot", &mut random_ot);
    let mut one_of_16 = |times: &mut Times| -> Result<(), OtError> {
        corrections.clear();
        timed(&mut times[0], || {
            receiver.one_of_16(OTS, &mut corrections, &mut choices, &mut bits)
        })?;
        timed(&mut times[1], || {
            sender.one_of_16(OTS, &mut &corrections[..], &mut tables)
        })
    };
    measure(&mut group, "one_of_16", &mut one_of_16);
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    exchange: &mut dyn FnMut(&mut Times) -> Result<(), OtError>,
) {
    for (party, role) in ["receiver", "sender"].into_iter().enumerate() {
        group.bench_function(format!("softspoken {name}, {role}"), |b| {
            b.iter_custom(|runs| {
                let mut times = Times::default();
                for _ in 0..runs {
                    if let Err(error) = exchange(&mut times) {
                        unreachable!("both parties are honest: {error}");
                    }
                }
                times[party]
            });
        });
    }
}

criterion_group!(benches, softspoken);
criterion_main!(benches);
