//! Work of known size, for measuring what a processor can do; the caller holds the clock.

use std::hint::black_box;

use crate::ntt::{Poly, forward};
use crate::params::{LOG_N, N};

/// Butterflies of one transform: N / 2 in each of its log2 N layers.
pub const BUTTERFLIES: usize = N / 2 * LOG_N as usize;

/// Transforms one polynomial again and again, at least `butterflies` of them; returns how many.
#[must_use]
pub fn butterflies(butterflies: usize) -> usize {
    let mut poly = Poly::zero();
    for (value, index) in poly.iter_mut().zip(1..) {
        *value = index;
    }
    let transforms = butterflies.div_ceil(BUTTERFLIES);
    for _ in 0..transforms {
        forward(&mut poly);
    }
    black_box(poly[0]);
    transforms * BUTTERFLIES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_work_is_whole_transforms_and_at_least_what_was_asked_for() {
        assert_eq!(BUTTERFLIES, 1024 * 11);
        for (asked, transforms) in [(1, 1), (BUTTERFLIES, 1), (BUTTERFLIES + 1, 2)] {
            assert_eq!(butterflies(asked), transforms * BUTTERFLIES);
        }
    }
}
