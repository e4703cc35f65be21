//! Exact rounding from modulus q to a power of two.

use crate::params::Q;

/// (q - 1) / 2, which turns floor into rounding to the nearest.
pub(crate) const HALF: u64 = (Q - 1) / 2;

/// 2^52: added to a number below it, the integer part of the sum stands in the low bits of the mantissa.
const MAGIC: f64 = (1u64 << 52) as f64;
const MANTISSA: u64 = (1 << 52) - 1;

/// An integer below 2^52 as a floating-point number; vectorises where a conversion of words would not.
#[inline(always)]
pub(crate) fn to_float(x: u64) -> f64 {
    f64::from_bits(x | MAGIC.to_bits()) - MAGIC
}

/// The integer nearest to a number in [0, 2^52).
#[inline(always)]
pub(crate) fn to_integer(x: f64) -> u64 {
    (x + MAGIC).to_bits() & MANTISSA
}

/// x * q modulo 2^64.
#[inline(always)]
pub(crate) fn times_q(x: u64) -> u64 {
    (x << 50).wrapping_sub(x << 14).wrapping_add(x)
}

/// floor((x * 2^bits + add) / q) for x < 4q, bits <= 36, add < q.
///
/// The quotient estimated in f64 is off by at most one; the exact remainder, which fits a word however the product
/// wraps, corrects it. No branch depends on x.
#[inline(always)]
pub(crate) fn scale(x: u64, bits: u32, add: u64) -> u64 {
    let unit = (1u64 << bits) as f64 / Q as f64;
    let estimate = to_integer(to_float(x) * unit);
    let rest = (x << bits)
        .wrapping_add(add)
        .wrapping_sub(times_q(estimate)) as i64;
    estimate
        .wrapping_add((rest >= Q as i64) as u64)
        .wrapping_sub((rest < 0) as u64)
}

/// x + y modulo q for a signed y, -q <= y < q.
#[inline(always)]
pub(crate) fn add_small(x: u64, y: i64) -> u64 {
    let sum = x as i64 + y;
    let sum = sum + ((sum >> 63) & Q as i64);
    let reduced = sum - Q as i64;
    (reduced + ((reduced >> 63) & Q as i64)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn scaling_equals_exact_division(x in 0..4 * Q, bits in 8u32..=36, add in 0..Q) {
            let exact = ((u128::from(x) << bits) + u128::from(add)) / u128::from(Q);
            prop_assert_eq!(u128::from(scale(x, bits, add)), exact);
            prop_assert_eq!(times_q(x), x.wrapping_mul(Q));
        }

        #[test]
        fn small_sum_is_reduced(x in 0..Q, y in -(Q as i64)..Q as i64) {
            let exact = (i128::from(x) + i128::from(y)).rem_euclid(i128::from(Q));
            prop_assert_eq!(i128::from(add_small(x, y)), exact);
        }
    }

    #[test]
    fn scaling_at_the_borders_equals_exact_division() {
        for bits in 8..=36 {
            for quotient in [
                0u128,
                1,
                2,
                77,
                (1 << bits) - 1,
                1 << (bits - 1),
                (4 << bits) - 1,
            ] {
                // the smallest x that reaches the quotient, and its neighbours
                let least = (quotient * u128::from(Q)).div_ceil(1 << bits) as u64;
                for x in [least.saturating_sub(1), least, least + 1].map(|x| x.min(4 * Q - 1)) {
                    for add in [0, 1, HALF, Q - 1] {
                        let exact = ((u128::from(x) << bits) + u128::from(add)) / u128::from(Q);
                        assert_eq!(u128::from(scale(x, bits, add)), exact);
                    }
                }
            }
        }
    }
}
