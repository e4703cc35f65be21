//! Work of known size, for measuring what a processor can do; the caller holds the clock.

use crate::simd::rates;

/// Multiply-adds of ring words (32 bits) with weights (16 bits) in registers, at least `count`; returns how many.
///
/// By the widest instruction that the processor has: dot products of pairs of 16-bit digits (`vpdpwssd` or
/// `vpmaddwd`, two of which make the low and the high digits of as many multiply-adds as there are 32-bit lanes, times two
/// channels), else plain 32-bit products.
#[must_use]
pub fn multiply_adds(count: usize) -> usize {
    rates::multiply_adds(count)
}

#[cfg(test)]
mod tests {
    #[test]
    fn measured_work_is_at_least_what_was_asked_for() {
        for asked in [1, 1000, 1_000_003] {
            assert!((asked..asked + 1024).contains(&super::multiply_adds(asked)));
        }
    }
}
