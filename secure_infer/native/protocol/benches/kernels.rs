//! Carry chain, multiplexer and truncation on one block of a lane: `make bench-kernels`.

use std::hint::black_box;

use blindread_lattice::Prg;
use blindread_protocol::carry::{self, Chunk};
use blindread_protocol::mux::{self, HospitalInputs};
use blindread_protocol::truncate::Truncation;
use blindread_ring::widened;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Elements that a party works on together.
const LANE: usize = 1 << 11;
const RING: u32 = 12;
const MASK: u32 = (1 << RING) - 1;

/// Times an expression as the protocol runs it.
macro_rules! measure {
    ($group:ident, $name:literal, $kernel:expr) => {
        $group.bench_function($name, |b| {
            b.iter(|| {
                widened(
                    #[inline(always)]
                    || $kernel,
                )
            });
        });
    };
}

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
    let mut picks = source.bytes(5);
    let (mut codes, mut answers) = (vec![0; LANE], vec![0; LANE]);
    let (mut deltas, mut carries) = (vec![0; LANE], vec![0; LANE]);
    let chunk = Chunk {
        low: 7,
        width: 3,
        carry: true,
    };
    measure!(
        group,
        "carry, codes",
        carry::codes(chunk, black_box(&y), &pi_in, &pi_out, &mut codes)
    );
    measure!(
        group,
        "carry, answer",
        carry::answer(chunk, black_box(&codes), &pads, &omega, &mut answers)
    );
    let centre = carry::centre([3, 11]);
    let share: Vec<u16> = y.iter().map(|&y| y as u16).collect();
    measure!(group, "carry, ask", {
        carry::ask(
            chunk,
            black_box(&share),
            centre,
            &pi_in,
            &mut picks,
            &mut deltas,
        )
    });
    measure!(
        group,
        "carry, pick",
        carry::pick(black_box(&answers), &picks, &mut carries)
    );
    measure!(
        group,
        "carry, bits",
        carry::bits(black_box(&y), RING - 1, &mut carries)
    );
}

/// Throughput in elements.
fn multiplexer(c: &mut Criterion) {
    let mut group = c.benchmark_group("protocol");
    group.throughput(Throughput::Elements(LANE as u64));
    let mut source = Source::new();
    let (y, pad, target) = (source.words(), source.words(), source.words());
    let (first, second) = (source.words(), source.words());
    let (pi, flips, choices) = (source.bytes(1), source.bytes(1), source.bytes(1));
    let [mut corrections, mut zero, mut one, mut out] = [(); 4].map(|()| vec![0u16; LANE]);
    let inputs = HospitalInputs {
        y: &y,
        pi: &pi,
        pad: &pad,
        first: &first,
        second: &second,
        target: &target,
    };
    measure!(group, "multiplexer, prepare", {
        mux::prepare(
            black_box(&inputs),
            MASK,
            &mut corrections,
            &mut zero,
            &mut one,
        )
    });
    measure!(group, "multiplexer, answer", {
        mux::answer(black_box(&zero), &one, &pi, &flips, MASK, &mut out)
    });
    let mut w = vec![0u16; LANE];
    measure!(group, "multiplexer, receive", {
        mux::receive(black_box(&choices), &corrections, MASK, &pad, &mut w)
    });
    let mut asked = vec![0; LANE];
    let mut share: Vec<u16> = y.iter().map(|&y| y as u16).collect();
    measure!(group, "multiplexer, request", {
        mux::request(
            black_box(&pi),
            &share,
            &choices,
            &zero,
            MASK,
            &mut asked,
            &mut out,
        )
    });
    measure!(group, "multiplexer, finish", {
        mux::finish(black_box(&pi), &flips, &w, &one, MASK, &out, &mut share)
    });
}

/// Throughput in elements.
fn truncation(c: &mut Criterion) {
    let mut group = c.benchmark_group("protocol");
    group.throughput(Throughput::Elements(LANE as u64));
    let extension = Truncation {
        from_bits: RING,
        to_bits: 26,
        shift: 0,
    };
    let mut source = Source::new();
    let (y, rho) = (source.words(), source.words());
    let (first, second) = (source.words(), source.words());
    let (mut choices, mut shares) = (source.bytes(1), vec![0; LANE]);
    let [mut corrections, mut zero, mut one, mut out] = [(); 4].map(|()| vec![0u16; LANE]);
    group.bench_function("truncation, hospital's share", |b| {
        b.iter(|| extension.hospital_share(black_box(&y), &rho, &mut shares));
    });
    measure!(group, "truncation, prepare", {
        extension.prepare(
            black_box(&y),
            &rho,
            (&first, &second),
            &mut corrections,
            &mut zero,
            &mut one,
        )
    });
    measure!(group, "truncation, answer", {
        extension.answer(black_box(&zero), &one, &choices, &mut out)
    });
    let (mut share, flips) = (source.words(), vec![0; LANE]);
    measure!(group, "truncation, offset", extension.offset(&mut share));
    measure!(group, "truncation, request", {
        extension.request(black_box(&y), &mut choices)
    });
    measure!(group, "truncation, finish", {
        extension.finish(&mut share, &flips, &zero, &one)
    });
}

criterion_group!(benches, carry_chain, multiplexer, truncation);
criterion_main!(benches);
