//! Transforms, sampling and rounding: `make bench-kernels`.
//!
//! The root of a program of its own, not a part of the library: it compiles private modules once more, so that
//! nothing has to be public for the sake of being measured.
#![allow(dead_code, unused_imports, reason = "the library uses the rest")]

mod gaussian;
mod ntt;
mod params;
mod prg;
mod rounding;
mod sample;
mod simd;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};

use gaussian::Noise;
use ntt::Poly;
use params::{HINT_BITS, N};
use prg::Prg;
use rounding::{HALF, scale};

const SEED: [u8; 32] = [2; 32];

fn poly(index: u64) -> Poly {
    let mut poly = Poly::zero();
    sample::public(&SEED, sample::Public::Input(index), &mut poly);
    poly
}

/// Throughput in coefficients.
fn transforms(c: &mut Criterion) {
    let mut group = c.benchmark_group("lattice");
    group.throughput(Throughput::Elements(N as u64));
    let (a, b_poly, mut out) = (poly(0), poly(1), poly(2));
    group.bench_function("NTT, forward", |b| b.iter(|| ntt::forward(&mut out)));
    group.bench_function("NTT, inverse", |b| b.iter(|| ntt::inverse(&mut out)));
    group.bench_function("NTT, product", |b| {
        b.iter(|| ntt::pointwise(black_box(&a), black_box(&b_poly), &mut out));
    });
    group.bench_function("NTT, product and sum", |b| {
        b.iter(|| ntt::multiply_add(black_box(&a), black_box(&b_poly), &mut out));
    });
    group.bench_function("rounding to a hint", |b| {
        b.iter(|| {
            for (out, &value) in out.iter_mut().zip(black_box(&a).iter()) {
                *out = scale(value, HINT_BITS, HALF);
            }
        });
    });
}

/// Throughput in coefficients, and for the generator in bytes.
fn sampling(c: &mut Criterion) {
    let mut group = c.benchmark_group("lattice");
    let (mut prg, mut out) = (Prg::from_seed(&SEED), poly(0));
    group.throughput(Throughput::Elements(N as u64));
    group.bench_function("sample, public", |b| {
        b.iter(|| sample::public(black_box(&SEED), sample::Public::Key, &mut out));
    });
    group.bench_function("sample, ternary", |b| {
        b.iter(|| sample::ternary(&mut prg));
    });
    group.bench_function("sample, errors", |b| {
        b.iter(|| sample::add_errors(&mut prg, &mut out));
    });
    group.bench_function("sample, drowning noise", |b| {
        let mut noise = Noise::new();
        b.iter(|| {
            let drawn = noise.drowning(&mut prg, N);
            drawn.fold(0, |sum, value| sum ^ value)
        });
    });
    for len in [1 << 10, 1 << 16] {
        let mut bytes = vec![0; len];
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("generator, {len} bytes"), |b| {
            b.iter(|| prg.fill(&mut bytes));
        });
    }
}

criterion_group!(benches, transforms, sampling);
criterion_main!(benches);
