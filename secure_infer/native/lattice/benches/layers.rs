//! The correlation of a layer, each part apart: `make bench-kernels`.

use blindread_lattice::{DeveloperTicket, HospitalSecret, LatticeError, Layout, Prg, hints};
use blindread_ring::{ConvShape, ConvSpec};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SEED: [u8; 32] = [2; 32];

/// One layer, throughput in its input or output polynomials.
fn layer(c: &mut Criterion) {
    let spec = ConvSpec {
        in_channels: 128,
        in_height: 40,
        in_width: 40,
        out_channels: 32,
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        padding: [1; 4],
        groups: 1,
    };
    let Ok(shape) = ConvShape::new(spec) else {
        unreachable!("the shape above is valid");
    };
    if let Err(error) = layer_of(c, &shape) {
        unreachable!("lengths agree: {error}");
    }
}

fn layer_of(c: &mut Criterion, shape: &ConvShape) -> Result<(), LatticeError> {
    let mut group = c.benchmark_group("lattice");
    let layout = Layout::new(shape);
    let weights: Vec<i16> = (0..shape.weights_len())
        .map(|i| ((i * 7919) % 4095) as i16 - 2047)
        .collect();
    let mut prg = Prg::from_seed(&SEED);
    let (hint, secrets) = hints(&layout, &weights, &SEED, 0, &mut prg, 1)?;
    let (secret, p_b) = HospitalSecret::new(&SEED, &mut prg);
    let ticket = DeveloperTicket::new(&p_b)?;
    let (mut masks, mut out) = (vec![0; shape.padded_len()], vec![0; shape.out_len()]);
    let name = "3x3 128->32 at 40x40";
    group.throughput(Throughput::Elements(layout.in_polys() as u64));
    group.bench_function(format!("input masks, {name}"), |b| {
        b.iter(|| secret.input_masks(&layout, &SEED, 0, 27, &mut prg, &mut masks));
    });
    group.throughput(Throughput::Elements(layout.out_polys() as u64));
    group.bench_function(format!("output shares of the hospital, {name}"), |b| {
        b.iter(|| secret.output_shares(&layout, &hint, 27, &mut out));
    });
    group.bench_function(format!("output shares of the developer, {name}"), |b| {
        b.iter(|| ticket.output_shares(&layout, &secrets, 27, &mut prg, &mut out));
    });
    group.bench_function(format!("hints, {name}"), |b| {
        b.iter(|| hints(&layout, &weights, &SEED, 0, &mut prg, 1));
    });
    Ok(())
}

criterion_group!(benches, layer);
criterion_main!(benches);
