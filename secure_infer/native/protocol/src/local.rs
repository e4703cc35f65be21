//! Operations that each party performs on its own share: linear maps with public coefficients.
//!
//! Function: `out_P = f(in_P) mod 2^ell'` for P in {H, D}. No rounds, no bits, no error, nothing leaks.
//! Requires: the ring does not grow, so that reducing a share reduces the value.

use crate::program::{Program, Step, Value};

/// The share of a sum, a concatenation, a pooled sum or a subsample; `None` for every other step.
#[must_use]
pub fn apply(program: &Program, step: &Step, inputs: &[&[u32]]) -> Option<Vec<u32>> {
    let out = program.value(step.output()?);
    let mask = out.mask();
    match step {
        Step::Add(s) => {
            let mut sum = vec![0u32; out.len()];
            for (input, &shift) in inputs.iter().zip(&s.shift) {
                for (total, &x) in sum.iter_mut().zip(input.iter()) {
                    *total = total.wrapping_add(x << shift) & mask;
                }
            }
            Some(sum)
        }
        Step::Concat(_) => {
            let mut joined = Vec::with_capacity(out.len());
            for input in inputs {
                join(input, mask, &mut joined);
            }
            Some(joined)
        }
        Step::SumPool(s) => Some(sum_pool(
            program.value(s.input),
            out,
            s.pool,
            s.stride,
            s.padding,
            inputs[0],
        )),
        Step::Subsample(s) => Some(subsample(program.value(s.input), s.stride, inputs[0])),
        _ => None,
    }
}

/// Appends a share to others.
pub(crate) fn join(input: &[u32], mask: u32, joined: &mut Vec<u32>) {
    joined.extend(input.iter().map(|&x| x & mask));
}

fn subsample(input: &Value, stride: [usize; 2], share: &[u32]) -> Vec<u32> {
    let width = input.shape[2];
    share
        .chunks_exact(input.plane())
        .flat_map(|plane| plane.chunks_exact(width).step_by(stride[0]))
        .flat_map(|row| row.iter().step_by(stride[1]).copied())
        .collect()
}

fn sum_pool(
    input: &Value,
    out: &Value,
    pool: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 4],
    share: &[u32],
) -> Vec<u32> {
    let ([_, height, width], [_, out_height, out_width]) = (input.shape, out.shape);
    let mask = out.mask();
    let mut sums = Vec::with_capacity(out.len());
    for plane in share.chunks_exact(height * width) {
        for y in 0..out_height {
            let rows = window(y, stride[0], padding[0], pool[0], height);
            for x in 0..out_width {
                let columns = window(x, stride[1], padding[2], pool[1], width);
                let sum = rows
                    .clone()
                    .flat_map(|row| &plane[row * width + columns.start..row * width + columns.end])
                    .fold(0u32, |sum, &x| sum.wrapping_add(x));
                sums.push(sum & mask);
            }
        }
    }
    sums
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
