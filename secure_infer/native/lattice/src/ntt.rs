//! Negacyclic number-theoretic transform modulo q, and polynomials that erase themselves.
//!
//! Order of the transform: that of Cooley-Tukey butterflies with bit-reversed roots, every group of 64 values read
//! as an 8 x 8 matrix and transposed (so that vectors of 4 or 8 words never mix their lanes). The order is part of
//! the bundle format, since public polynomials are sampled in it.

use std::ops::{Deref, DerefMut};
use std::sync::OnceLock;

use zeroize::Zeroize;

use crate::params::{LOG_N, N, Q, ROOT};
use crate::rounding::{add_small, times_q, to_float, to_integer};
use crate::simd;

/// A polynomial, by coefficients or transformed; zeroed on drop since most are secret.
pub(crate) struct Poly(Box<Aligned>);

/// Whole cache lines, so that no vector straddles two.
#[repr(align(64))]
struct Aligned([u64; N]);

impl Poly {
    pub(crate) fn zero() -> Self {
        Self(Box::new(Aligned([0; N])))
    }
}

impl Deref for Poly {
    type Target = [u64; N];
    fn deref(&self) -> &Self::Target {
        &self.0.0
    }
}

impl DerefMut for Poly {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0.0
    }
}

impl Drop for Poly {
    fn drop(&mut self) {
        self.0.0.zeroize();
    }
}

/// a * b modulo q, by an estimated quotient and the exact remainder.
#[inline(always)]
pub(crate) fn multiply_mod(a: u64, b: u64) -> u64 {
    let estimate = to_integer(to_float(a) * to_float(b) * (1.0 / Q as f64));
    let rest = a.wrapping_mul(b).wrapping_sub(times_q(estimate)) as i64;
    (rest + ((rest >> 63) & Q as i64)) as u64
}

pub(crate) fn power_mod(base: u64, mut exponent: u64) -> u64 {
    let (mut power, mut result) = (base, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = multiply_mod(result, power);
        }
        power = multiply_mod(power, power);
        exponent >>= 1;
    }
    result
}

/// Powers of a root of unity in the order of the butterflies: the block `i` of the layer with `b` blocks has `b + i`.
pub(crate) fn roots(root: u64) -> Vec<u64> {
    let mut powers = vec![0; N];
    let mut power = 1;
    for i in 0..N as u32 {
        powers[(i.reverse_bits() >> (32 - LOG_N)) as usize] = power;
        power = multiply_mod(power, root);
    }
    powers
}

/// The inverse of the root of unity.
pub(crate) fn inverse_root() -> u64 {
    power_mod(ROOT, Q - 2)
}

/// 1 / N modulo q.
pub(crate) fn inverse_n() -> u64 {
    power_mod(N as u64, Q - 2)
}

/// Roots with floor(root * 2^64 / q).
struct Tables {
    forward: Vec<[u64; 2]>,
    inverse: Vec<[u64; 2]>,
    inverse_n: [u64; 2],
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let shoup = |root: u64| [root, ((u128::from(root) << 64) / u128::from(Q)) as u64];
        let roots = |root| roots(root).into_iter().map(shoup).collect();
        Tables {
            forward: roots(ROOT),
            inverse: roots(inverse_root()),
            inverse_n: shoup(inverse_n()),
        }
    })
}

/// The factor 1 with its quotient, for reductions.
const ONE: [u64; 2] = [1, ((1u128 << 64) / Q as u128) as u64];

/// a * root modulo q, below 2q, for any a.
#[inline(always)]
fn multiply_lazy(a: u64, root: [u64; 2]) -> u64 {
    let quotient = ((u128::from(a) * u128::from(root[1])) >> 64) as u64;
    a.wrapping_mul(root[0])
        .wrapping_sub(quotient.wrapping_mul(Q))
}

/// Transforms coefficients below q.
pub(crate) fn forward(values: &mut [u64; N]) {
    simd::forward(simd::set(), values);
}

/// Transforms back, coefficients below q.
pub(crate) fn inverse(values: &mut [u64; N]) {
    simd::inverse(simd::set(), values);
}

/// out = a * b, value by value.
pub(crate) fn pointwise(a: &[u64; N], b: &[u64; N], out: &mut [u64; N]) {
    simd::pointwise(simd::set(), a, b, out);
}

/// sum += a * b, value by value.
pub(crate) fn multiply_add(a: &[u64; N], b: &[u64; N], sum: &mut [u64; N]) {
    simd::multiply_add(simd::set(), a, b, sum);
}

/// The portable twin of [`pointwise`].
pub(crate) fn pointwise_portable(a: &[u64; N], b: &[u64; N], out: &mut [u64; N]) {
    for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *out = multiply_mod(a, b);
    }
}

/// The portable twin of [`multiply_add`].
pub(crate) fn multiply_add_portable(a: &[u64; N], b: &[u64; N], sum: &mut [u64; N]) {
    for ((sum, &a), &b) in sum.iter_mut().zip(a).zip(b) {
        *sum = add_small(*sum, multiply_mod(a, b) as i64);
    }
}

/// The portable twin of [`forward`].
pub(crate) fn forward_portable(values: &mut [u64; N]) {
    let tables = tables();
    let mut half = N / 2;
    // every layer adds 2q: 25q < 2^55 at the end
    while half > 0 {
        let blocks = N / (2 * half);
        for (block, &root) in values
            .chunks_exact_mut(2 * half)
            .zip(&tables.forward[blocks..])
        {
            let (low, high) = block.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                let product = multiply_lazy(*high, root);
                (*low, *high) = (*low + product, *low + 2 * Q - product);
            }
        }
        half /= 2;
    }
    transpose(values);
    for value in values {
        let reduced = multiply_lazy(*value, ONE);
        *value = if reduced >= Q { reduced - Q } else { reduced };
    }
}

/// The portable twin of [`inverse`].
pub(crate) fn inverse_portable(values: &mut [u64; N]) {
    let tables = tables();
    transpose(values);
    let (mut half, mut bound) = (1, 2 * Q);
    // sums double in every layer: 2q * 2^11 < 2^62 at the end
    while half < N {
        let blocks = N / (2 * half);
        for (block, &root) in values
            .chunks_exact_mut(2 * half)
            .zip(&tables.inverse[blocks..])
        {
            let (low, high) = block.split_at_mut(half);
            for (low, high) in low.iter_mut().zip(high) {
                let difference = *low + bound - *high;
                (*low, *high) = (*low + *high, multiply_lazy(difference, root));
            }
        }
        half *= 2;
        bound *= 2;
    }
    for value in values {
        let reduced = multiply_lazy(*value, tables.inverse_n);
        *value = if reduced >= Q { reduced - Q } else { reduced };
    }
}

/// Transposes every 8 x 8 group.
fn transpose(values: &mut [u64; N]) {
    for group in values.chunks_exact_mut(64) {
        for row in 0..8 {
            for column in 0..row {
                group.swap(8 * row + column, 8 * column + row);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Prg;
    use crate::simd::Set;
    use proptest::prelude::*;
    use rand_core::Rng;

    fn random(seed: u8) -> Poly {
        let mut poly = Poly::zero();
        let mut prg = Prg::from_seed(&[seed; 32]);
        poly.iter_mut()
            .for_each(|value| *value = prg.next_u64() % Q);
        poly
    }

    fn schoolbook(a: &Poly, b: &Poly) -> Vec<u64> {
        let mut out = vec![0u128; N];
        for i in 0..N {
            for j in 0..N {
                let product = u128::from(a[i]) * u128::from(b[j]) % u128::from(Q);
                let at = (i + j) % N;
                out[at] += if i + j < N {
                    product
                } else {
                    u128::from(Q) - product
                };
            }
        }
        out.iter().map(|sum| (sum % u128::from(Q)) as u64).collect()
    }

    fn product(set: Set, a: &Poly, b: &Poly) -> Poly {
        let (mut x, mut y, mut z) = (Poly::zero(), Poly::zero(), Poly::zero());
        (*x, *y) = (**a, **b);
        simd::forward(set, &mut x);
        simd::forward(set, &mut y);
        simd::multiply_add(set, &x, &y, &mut z);
        simd::inverse(set, &mut z);
        z
    }

    #[test]
    fn product_by_transforms_equals_schoolbook() {
        let (a, b) = (random(1), random(2));
        let expected = schoolbook(&a, &b);
        for set in simd::sets() {
            assert!(product(set, &a, &b)[..] == expected[..], "{set:?}");
        }
    }

    #[test]
    fn product_of_largest_coefficients_equals_schoolbook() {
        let (mut a, mut b) = (Poly::zero(), Poly::zero());
        a.fill(Q - 1);
        b.fill(Q - 1);
        let expected = schoolbook(&a, &b);
        for set in simd::sets() {
            assert!(product(set, &a, &b)[..] == expected[..], "{set:?}");
        }
    }

    proptest! {
        #[test]
        fn product_modulo_q_is_exact(a in 0..Q, b in 0..Q) {
            prop_assert_eq!(u128::from(multiply_mod(a, b)), u128::from(a) * u128::from(b) % u128::from(Q));
        }

        #[test]
        fn transform_equals_the_portable_one_and_comes_back(seed in any::<u8>(), extreme in any::<bool>()) {
            let start = || {
                let mut poly = random(seed);
                if extreme {
                    poly.iter_mut().for_each(|value| *value = if *value % 2 == 0 { Q - 1 } else { *value % 3 });
                }
                poly
            };
            let (mut forth, mut back) = (start(), start());
            forward_portable(&mut forth);
            inverse_portable(&mut back);
            for set in simd::sets() {
                let (mut values, mut other) = (start(), start());
                simd::forward(set, &mut values);
                prop_assert!(values[..] == forth[..], "{:?}", set);
                simd::inverse(set, &mut values);
                prop_assert!(values[..] == start()[..], "{:?}", set);
                simd::inverse(set, &mut other);
                prop_assert!(other[..] == back[..], "{:?}", set);
                (*values, *other) = (*start(), *start());
                simd::multiply_add(set, &forth, &back, &mut values);
                multiply_add_portable(&forth, &back, &mut other);
                prop_assert!(values[..] == other[..], "{:?}", set);
                simd::pointwise(set, &forth, &back, &mut values);
                pointwise_portable(&forth, &back, &mut other);
                prop_assert!(values[..] == other[..], "{:?}", set);
            }
        }
    }
}
