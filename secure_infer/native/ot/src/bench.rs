//! AES in wide batches, trees and the local code: `make bench-kernels`.
//!
//! The root of a program of its own, not a part of the library: it compiles private modules once more, so that
//! nothing has to be public for the sake of being measured.
#![allow(dead_code, unused_imports, reason = "the library uses the rest")]

mod aes;
mod ferret {
    pub(crate) mod code;
    pub(crate) mod params;
    pub(crate) mod tree;
}
mod ggm;
mod planes;
mod simd;

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

use aes::AesKey;
use ferret::code::{self, GROUP, WORDS};
use ferret::params::{BIN, K, LOG_BIN};
use simd::Backend;

/// Blocks hashed at once: they and their hashes fit into the first cache.
const BLOCKS: usize = 1 << 10;

/// Blocks without a pattern, the same in every run.
fn blocks(count: usize) -> Vec<u128> {
    let mut blocks = vec![0; count];
    AesKey::new(1).counter(Backend::detect(), 0, 0, &mut blocks);
    blocks
}

/// Throughput in blocks, or in tables of 16 bits.
fn hashing(c: &mut Criterion) {
    let mut group = c.benchmark_group("ot");
    let (key, backend, mut data) = (AesKey::new(2), Backend::detect(), blocks(BLOCKS));
    group.throughput(Throughput::Elements(BLOCKS as u64));
    group.bench_function("AES, counter", |b| {
        b.iter(|| key.counter(backend, 3, 4, &mut data));
    });
    group.bench_function("AES, TMMO", |b| {
        b.iter(|| key.tmmo(backend, 3, 4, &mut data));
    });
    group.bench_function("AES, MMO", |b| b.iter(|| key.mmo(backend, &mut data)));
    let (multiples, mut bits) = (std::array::from_fn(|x| data[x]), vec![0; BLOCKS]);
    group.bench_function("AES, MMO, bits of 16", |b| {
        b.iter(|| key.mmo_bits_of_16(backend, black_box(&data), &multiples, &mut bits));
    });
}

/// The trees of softspoken. Throughput in leaves.
fn small_trees(c: &mut Criterion) {
    let mut group = c.benchmark_group("ot");
    group.throughput(Throughput::Elements(ggm::LEAVES as u64));
    let (_, sums) = ggm::full_tree(5);
    let sums = sums.map(|level| level[0]);
    group.bench_function("tree of 16 leaves, full", |b| {
        b.iter(|| ggm::full_tree(black_box(5)));
    });
    group.bench_function("tree of 16 leaves, punctured", |b| {
        b.iter(|| ggm::punctured_tree(black_box(5), &sums));
    });
}

/// A tree of ferret, level by level as either party grows it. Throughput in leaves.
fn trees(c: &mut Criterion) {
    let mut group = c.benchmark_group("ot");
    group.throughput(Throughput::Elements(BIN as u64));
    group.bench_function("ferret tree, F_2", |b| {
        let mut leaves = blocks(BIN);
        b.iter(|| tree::<false>(&mut leaves));
    });
    group.bench_function("ferret tree, F_16", |b| {
        let mut leaves = blocks(BIN);
        b.iter(|| tree::<true>(&mut leaves));
    });
}

/// `SPLIT`: the last level is uncorrelated.
fn tree<const SPLIT: bool>(leaves: &mut [u128]) -> [u128; 2] {
    let (backend, key) = (Backend::detect(), AesKey::new(3));
    let mut sums = [0; 2];
    for level in 1..LOG_BIN {
        let (left, rest) = leaves.split_at_mut(1 << level);
        let right = &mut rest[..1 << level];
        sums = if SPLIT && level + 1 == LOG_BIN {
            backend.grow::<true>(&key, left, right)
        } else {
            backend.grow::<false>(&key, left, right)
        };
    }
    sums
}

/// Throughput in samples.
fn local_code(c: &mut Criterion) {
    let mut group = c.benchmark_group("ot");
    group.throughput(Throughput::Elements((GROUPS * GROUP) as u64));
    encode::<false>(&mut group, "F_2");
    encode::<true>(&mut group, "F_16");
}

/// Groups encoded at once, so that rows differ as they do in a round.
const GROUPS: usize = 64;

fn encode<const LARGE: bool>(group: &mut BenchmarkGroup<'_, WallTime>, field: &str) {
    let backend = Backend::detect();
    let stream = blocks(GROUPS * WORDS / 8);
    let (streams, _) = stream.as_chunks::<{ WORDS / 8 }>();
    let secret = code::secret(&blocks(K));
    let mut samples = vec![[0; GROUP]; GROUPS];
    group.bench_function(format!("ferret code, {field}"), |b| {
        b.iter(|| {
            for (stream, samples) in streams.iter().zip(&mut samples) {
                backend.add_rows::<LARGE>(&secret, stream, samples);
            }
        });
    });
}

criterion_group!(benches, hashing, small_trees, trees, local_code);
criterion_main!(benches);
