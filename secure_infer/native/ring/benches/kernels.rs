//! Packing and convolutions: `make bench-kernels`.

use std::hint::black_box;

use blindread_ring::{ConvKernel, ConvShape, ConvSpec, Instructions, pack, pack_u64, unpack};
use blindread_ring::{packed_len, unpack_u64};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const WORDS: usize = 1 << 16;

/// Words without a pattern, the same in every run.
fn words(count: usize) -> Vec<u32> {
    (0..count as u32)
        .map(|i| i.wrapping_mul(2_654_435_761).rotate_left(7))
        .collect()
}

/// Throughput in packed bytes.
fn packing(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    let words = words(WORDS);
    for bits in [1, 12, 20, 27, 31] {
        let (mut packed, mut back) = (Vec::new(), vec![0u32; WORDS]);
        group.throughput(Throughput::Bytes(packed_len(WORDS, bits) as u64));
        group.bench_function(format!("pack, {bits} bits"), |b| {
            b.iter(|| {
                packed.clear();
                pack(black_box(&words), bits, &mut packed);
            });
        });
        group.bench_function(format!("unpack, {bits} bits"), |b| {
            b.iter(|| unpack(black_box(&packed), bits, &mut back));
        });
    }
    let short: Vec<u16> = words.iter().map(|&word| word as u16).collect();
    let (mut packed, mut back) = (Vec::new(), vec![0u16; WORDS]);
    group.throughput(Throughput::Bytes(packed_len(WORDS, 12) as u64));
    group.bench_function("pack, 12 bits of u16", |b| {
        b.iter(|| {
            packed.clear();
            pack(black_box(&short), 12, &mut packed);
        });
    });
    group.bench_function("unpack, 12 bits of u16", |b| {
        b.iter(|| unpack(black_box(&packed), 12, &mut back));
    });
    let wide: Vec<u64> = words
        .iter()
        .map(|&word| u64::from(word) * 0x1_2345)
        .collect();
    for bits in [36, 50] {
        let (mut packed, mut back) = (Vec::new(), vec![0; WORDS]);
        group.throughput(Throughput::Bytes(packed_len(WORDS, bits) as u64));
        group.bench_function(format!("pack, {bits} bits"), |b| {
            b.iter(|| {
                packed.clear();
                pack_u64(black_box(&wide), bits, &mut packed);
            });
        });
        group.bench_function(format!("unpack, {bits} bits"), |b| {
            b.iter(|| unpack_u64(black_box(&packed), bits, &mut back));
        });
    }
}

/// Throughput in multiply-adds.
fn convolutions(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring");
    // (name, input channels, size, output channels, kernel, stride, groups)
    for (name, input, size, output, kernel, stride, groups) in [
        ("3x3 128->32 at 40x40", 128, 40, 32, 3, 1, 1),
        ("1x1 512->128 at 20x20", 512, 20, 128, 1, 1, 1),
        ("7x7/2 1->64 at 320x320", 1, 320, 64, 7, 2, 1),
        ("depthwise 3x3 144 at 56x56", 144, 56, 144, 3, 1, 144),
        ("dense 1280->1000", 1280, 1, 1000, 1, 1, 1),
    ] {
        let spec = ConvSpec {
            in_channels: input,
            in_height: size,
            in_width: size,
            out_channels: output,
            kernel: [kernel, kernel],
            stride: [stride, stride],
            dilation: [1, 1],
            padding: [kernel / 2; 4],
            groups,
        };
        let Ok(shape) = ConvShape::new(spec) else {
            unreachable!("the shapes above are valid");
        };
        let weights: Vec<i16> = words(shape.weights_len())
            .into_iter()
            .map(|word| (word >> 20) as i16 - (1 << 11))
            .collect();
        let padded = words(shape.padded_len());
        let mut out = vec![0; shape.out_len()];
        let products = shape.out_height() * shape.out_width() * shape.weights_len();
        group.throughput(Throughput::Elements(products as u64));
        let Ok(conv) = ConvKernel::with_instructions(&shape, &weights, Instructions::detect())
        else {
            unreachable!("the weights above are valid");
        };
        group.bench_function(format!("convolution, {name}"), |b| {
            b.iter(|| conv.apply(black_box(&padded), &mut out));
        });
    }
}

criterion_group!(benches, packing, convolutions);
criterion_main!(benches);
