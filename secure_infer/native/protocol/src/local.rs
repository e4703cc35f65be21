//! Operations that each party performs on its own share: linear maps with public coefficients.
//!
//! Function: `out_P = f(in_P) mod 2^ell'` for P in {H, D}. No rounds, no bits, no error, nothing leaks.
//! Requires: the ring does not grow, so that reducing a share reduces the value.

use blindread_pool::Workers;
use blindread_ring::widened;

use crate::program::{Program, Step, SumPool, Value};

/// Elements that a thread takes at once.
const BLOCK: usize = 1 << 14;
/// Elements of a sum that stay in the first-level cache until all is added.
const PART: usize = 1 << 11;

/// The share of a concatenation, a pooled sum or a subsample; `None` for every other step.
#[must_use]
pub fn apply(
    workers: &Workers,
    program: &Program,
    step: &Step,
    inputs: &[&[u32]],
) -> Option<Vec<u32>> {
    let out = program.value(step.output()?);
    let mask = out.mask();
    match step {
        Step::Concat(_) => {
            let mut joined = Vec::with_capacity(out.len());
            for input in inputs {
                join(input, mask, &mut joined);
            }
            Some(joined)
        }
        Step::SumPool(s) => Some(sum_pool(workers, program.value(s.input), out, s, inputs[0])),
        Step::Subsample(s) => {
            let mut kept = Vec::with_capacity(out.len());
            subsample(program.value(s.input), s.stride, inputs[0], &mut kept);
            Some(kept)
        }
        _ => None,
    }
}

/// Appends a share to others.
pub(crate) fn join(input: &[u32], mask: u32, joined: &mut Vec<u32>) {
    joined.extend(input.iter().map(|&x| x & mask));
}

/// The sum of shifted shares.
pub(crate) fn add(
    workers: &Workers,
    inputs: &[&[u32]],
    shifts: &[u32],
    mask: u32,
    sum: &mut [u32],
) {
    workers.each(sum.chunks_mut(BLOCK).enumerate(), |(block, sum)| {
        for (part, sum) in sum.chunks_mut(PART).enumerate() {
            let start = block * BLOCK + part * PART;
            sum.fill(0);
            for (input, &shift) in inputs.iter().zip(shifts) {
                let input = &input[start..start + sum.len()];
                widened(
                    #[inline(always)]
                    || {
                        for (total, &x) in sum.iter_mut().zip(input) {
                            *total = total.wrapping_add(x << shift) & mask;
                        }
                    },
                );
            }
        }
    });
}

fn subsample(input: &Value, stride: [usize; 2], share: &[u32], kept: &mut Vec<u32>) {
    let width = input.shape[2];
    for plane in share.chunks_exact(input.plane()) {
        for row in plane.chunks_exact(width).step_by(stride[0]) {
            kept.extend(row.iter().step_by(stride[1]));
        }
    }
}

fn sum_pool(
    workers: &Workers,
    input: &Value,
    out: &Value,
    step: &SumPool,
    share: &[u32],
) -> Vec<u32> {
    let mut sums = vec![0; out.len()];
    let at_once = (BLOCK / input.plane()).max(1);
    let blocks = sums
        .chunks_mut(at_once * out.plane())
        .zip(share.chunks(at_once * input.plane()));
    workers.each(blocks, |(sums, share)| {
        let planes = sums
            .chunks_exact_mut(out.plane())
            .zip(share.chunks_exact(input.plane()));
        let mut columns = vec![0; input.shape[2]];
        for (sums, plane) in planes {
            widened(
                #[inline(always)]
                || sum_plane(input, out, step, plane, &mut columns, sums),
            );
        }
    });
    sums
}

/// One channel: whole rows first, into `columns`, then the columns of each window.
#[inline(always)]
fn sum_plane(
    input: &Value,
    out: &Value,
    step: &SumPool,
    plane: &[u32],
    columns: &mut [u32],
    sums: &mut [u32],
) {
    let (pool, stride, padding, mask) = (step.pool, step.stride, step.padding, out.mask());
    let [_, height, width] = input.shape;
    for (y, sums) in sums.chunks_exact_mut(out.shape[2]).enumerate() {
        columns.fill(0);
        let rows = window(y, stride[0], padding[0], pool[0], height);
        for row in plane[rows.start * width..rows.end * width].chunks_exact(width) {
            for (column, &x) in columns.iter_mut().zip(row) {
                *column = column.wrapping_add(x);
            }
        }
        if (pool[1], stride[1], padding[2]) == (2, 2, 0) {
            for (sum, pair) in sums.iter_mut().zip(columns.as_chunks::<2>().0) {
                *sum = pair[0].wrapping_add(pair[1]) & mask;
            }
            continue;
        }
        for (x, sum) in sums.iter_mut().enumerate() {
            let covered = window(x, stride[1], padding[2], pool[1], width);
            let total = columns[covered].iter();
            *sum = total.fold(0, |sum: u32, &x| sum.wrapping_add(x)) & mask;
        }
    }
}

/// The input positions that output position `at` of a pooling window covers, padding left out.
pub(crate) fn window(
    at: usize,
    stride: usize,
    before: usize,
    pool: usize,
    extent: usize,
) -> std::ops::Range<usize> {
    let start = at * stride;
    start.saturating_sub(before).min(extent)..(start + pool).saturating_sub(before).min(extent)
}
