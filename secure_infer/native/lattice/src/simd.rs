//! The choice of instruction sets, and the transforms on them.
//!
//! Two kinds of kernels: `avx2` and `ifma` hold transforms written for an instruction set, each with its portable
//! twin in [`crate::ntt`]; what [`widened`] runs are the portable ones compiled once more with wider vectors, which
//! cannot give other results.

use std::sync::OnceLock;

pub(crate) use blindread_ring::widened;

use crate::ntt::{forward_portable, inverse_portable, multiply_add_portable, pointwise_portable};
use crate::params::{N, Q};

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod ifma;

/// Instructions that the kernels of this crate are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// Plain Rust.
    Portable,
    /// Floating-point products of 53 bits, fused, four at a time.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// Integer products of 52 bits, eight at a time.
    #[cfg(target_arch = "x86_64")]
    Ifma,
}

/// The sets that this processor has.
pub(crate) fn sets() -> impl Iterator<Item = Set> {
    #[cfg(target_arch = "x86_64")]
    let sets = [
        (Set::Ifma, has_ifma()),
        (Set::Avx2, has_avx2()),
        (Set::Portable, true),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let sets = [(Set::Portable, true)];
    sets.into_iter()
        .filter(|(_, there)| *there)
        .map(|(set, _)| set)
}

/// The fastest set whose kernels agree with the portable ones here.
pub(crate) fn set() -> Set {
    static CHOICE: OnceLock<Set> = OnceLock::new();
    *CHOICE.get_or_init(|| sets().find(|&set| agrees(set)).unwrap_or(Set::Portable))
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("bmi1")
        && is_x86_feature_detected!("bmi2")
        && is_x86_feature_detected!("popcnt")
}

#[cfg(target_arch = "x86_64")]
fn has_ifma() -> bool {
    has_avx2() && is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512ifma")
}

/// Compares transforms and products of a set with the portable ones on a fixed pseudo-random input.
fn agrees(set: Set) -> bool {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let values: [u64; N] = std::array::from_fn(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % Q
    });
    let [mut forth, mut forth_portable, mut back, mut back_portable] = [values; 4];
    forward(set, &mut forth);
    forward_portable(&mut forth_portable);
    inverse(set, &mut back);
    inverse_portable(&mut back_portable);
    let [mut sum, mut sum_portable, mut product, mut product_portable] = [values; 4];
    multiply_add(set, &forth, &back, &mut sum);
    multiply_add_portable(&forth, &back, &mut sum_portable);
    pointwise(set, &forth, &back, &mut product);
    pointwise_portable(&forth, &back, &mut product_portable);
    [forth, back, sum, product]
        == [
            forth_portable,
            back_portable,
            sum_portable,
            product_portable,
        ]
}

/// Transforms coefficients below q. The set must come from [`sets`] or [`set`].
pub(crate) fn forward(set: Set, values: &mut [u64; N]) {
    match set {
        Set::Portable => forward_portable(values),
        // SAFETY: sets other than Portable are handed out only where the processor has them.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { avx2::forward(values) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Ifma => unsafe { ifma::forward(values) },
    }
}

/// Transforms back, coefficients below q.
pub(crate) fn inverse(set: Set, values: &mut [u64; N]) {
    match set {
        Set::Portable => inverse_portable(values),
        // SAFETY: as in `forward`.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { avx2::inverse(values) },
        // SAFETY: as in `forward`.
        #[cfg(target_arch = "x86_64")]
        Set::Ifma => unsafe { ifma::inverse(values) },
    }
}

/// sum += a * b, value by value, all below q.
pub(crate) fn multiply_add(set: Set, a: &[u64; N], b: &[u64; N], sum: &mut [u64; N]) {
    match set {
        Set::Portable => multiply_add_portable(a, b, sum),
        // SAFETY: as in `forward`.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { avx2::products::<true>(a, b, sum) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Ifma => unsafe { ifma::products::<true>(a, b, sum) },
    }
}

/// out = a * b, value by value, a and b below q.
pub(crate) fn pointwise(set: Set, a: &[u64; N], b: &[u64; N], out: &mut [u64; N]) {
    match set {
        Set::Portable => pointwise_portable(a, b, out),
        // SAFETY: as in `forward`.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { avx2::products::<false>(a, b, out) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Ifma => unsafe { ifma::products::<false>(a, b, out) },
    }
}
