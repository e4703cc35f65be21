//! Carry chain, multiplexer and truncation on one lane: `make bench-kernels`.

use std::hint::black_box;

use blindread_lattice::Prg;
use blindread_protocol::carry::{self, Chunk};
use blindread_protocol::mux::{self, HospitalInputs};
use blindread_protocol::truncate::Truncation;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Elements of a lane.
const LANE: usize = 1 << 15;
const RING: u32 = 27;
const MASK: u32 = (1 << RING) - 1;

/// Random material of one kind after the other, the same in every run.
struct Source(Prg);

impl Source {
    fn new() -> Self {
        Self(Prg::from_seed(&[1; 32]))
    }

    fn bytes(&mut self, bits: u32) -> Vec<u8> {
        let mut bytes = vec![0; LANE];
        self.0.fill(&mut bytes);
        bytes.iter_mut().for_each(|byte| *byte &= (1 << bits) - 1);
        bytes
    }

    fn words(&mut self) -> Vec<u32> {
        let mut bytes = vec![0; 4 * LANE];
        self.0.fill(&mut bytes);
        let words = bytes.as_chunks().0.iter();
        words.map(|word| u32::from_le_bytes(*word) & MASK).collect()
    }

    fn tables(&mut self) -> Vec<u16> {
        self.words().into_iter().map(|word| word as u16).collect()
    }
}

/// Throughput in comparisons, one chunk of each.
fn carry_chain(c: &mut Criterion) {
    let mut group = c.benchmark_group("protocol");
    group.throughput(Throughput::Elements(LANE as u64));
    let mut source = Source::new();
    let (y, pads) = (source.words(), source.tables());
    let (pi_in, pi_out, omega) = (source.bytes(1), source.bytes(1), source.bytes(4));
    let picks = source.bytes(5);
    let (mut tables, mut answers) = (vec![0; LANE], vec![0; LANE]);
    let (mut indices, mut carries) = (vec![0; LANE], vec![0; LANE]);
    let chunk = Chunk {
        low: 13,
        width: 3,
        carry: true,
    };
    group.bench_function("carry, tables", |b| {
        b.iter(|| carry::tables(chunk, black_box(&y), &pi_in, &pi_out, &mut tables));
    });
    group.bench_function("carry, answer", |b| {
        b.iter(|| carry::answer(black_box(&tables), &pads, &omega, &mut answers));
    });
    group.bench_function("carry, indices", |b| {
        let centre = carry::centre([9, 17]);
        b.iter(|| carry::indices(chunk, black_box(&y), centre, &pi_in, &mut indices));
    });
    group.bench_function("carry, pick", |b| {
        b.iter(|| carry::pick(black_box(&answers), &indices, &picks, &mut carries));
    });
    group.bench_function("carry, bits", |b| {
        b.iter(|| carry::bits(black_box(&y), RING - 1, &mut carries));
    });
}

/// Throughput in elements.
fn multiplexer(c: &mut Criterion) {
    let mut group = c.benchmark_group("protocol");
    group.throughput(Throughput::Elements(LANE as u64));
    let mut source = Source::new();
    let (y, pad, target) = (source.words(), source.words(), source.words());
    let (first, second) = (source.words(), source.words());
    let (pi, flips, choices) = (source.bytes(1), source.bytes(1), source.bytes(1));
    let [mut corrections, mut zero, mut one, mut out] = [(); 4].map(|()| vec![0; LANE]);
    let inputs = HospitalInputs {
        y: &y,
        pi: &pi,
        pad: &pad,
        first: &first,
        second: &second,
        target: &target,
    };
    group.bench_function("multiplexer, prepare", |b| {
        b.iter(|| {
            mux::prepare(
                black_box(&inputs),
                MASK,
                &mut corrections,
                &mut zero,
                &mut one,
            );
        });
    });
    group.bench_function("multiplexer, answer", |b| {
        b.iter(|| mux::answer(black_box(&zero), &one, &pi, &flips, &pad, MASK, &mut out));
    });
    let mut pads = source.words();
    group.bench_function("multiplexer, receive", |b| {
        b.iter(|| mux::receive(black_box(&choices), &corrections, MASK, &mut pads));
    });
    let mut asked = vec![0; LANE];
    group.bench_function("multiplexer, request", |b| {
        b.iter(|| {
            mux::request(
                black_box(&pi),
                &y,
                &choices,
                &pad,
                MASK,
                &mut asked,
                &mut out,
            )
        });
    });
    group.bench_function("multiplexer, finish", |b| {
        b.iter(|| mux::finish(black_box(&pi), &y, &flips, &pads, &target, MASK, &mut out));
    });
}

/// Throughput in elements.
fn truncation(c: &mut Criterion) {
    let mut group = c.benchmark_group("protocol");
    group.throughput(Throughput::Elements(LANE as u64));
    let truncation = Truncation {
        from_bits: RING,
        to_bits: 24,
        shift: 11,
    };
    let mut source = Source::new();
    let (y, rho) = (source.words(), source.words());
    let (first, second) = (source.words(), source.words());
    let choices = source.bytes(1);
    let [mut corrections, mut zero, mut one, mut out] = [(); 4].map(|()| vec![0; LANE]);
    group.bench_function("truncation, hospital's share", |b| {
        b.iter(|| truncation.hospital_share(black_box(&y), &rho));
    });
    group.bench_function("truncation, prepare", |b| {
        let pads = (&first[..], &second[..]);
        b.iter(|| {
            truncation.prepare(
                black_box(&y),
                &rho,
                pads,
                &mut corrections,
                &mut zero,
                &mut one,
            );
        });
    });
    group.bench_function("truncation, answer", |b| {
        b.iter(|| truncation.answer(black_box(&zero), &one, &choices, &mut out));
    });
    let (mut share, mut flips) = (source.words(), vec![0; LANE]);
    group.bench_function("truncation, offset", |b| {
        b.iter(|| truncation.offset(&mut share));
    });
    group.bench_function("truncation, request", |b| {
        b.iter(|| truncation.request(black_box(&y), &choices, &mut flips));
    });
    group.bench_function("truncation, finish", |b| {
        b.iter(|| truncation.finish(&mut share, &flips, &zero, &one));
    });
}

criterion_group!(benches, carry_chain, multiplexer, truncation);
criterion_main!(benches);
