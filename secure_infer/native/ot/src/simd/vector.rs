//! Registers of one, two and four AES blocks behind one trait.

use std::arch::x86_64::*;

use crate::aes::ROUNDS;

/// A register of `BLOCKS` 128-bit blocks.
///
/// # Safety
/// Every function requires the processor features named at the implementation; the pointers of `load`,
/// `store` and `broadcast` must be valid for `BLOCKS`, `BLOCKS` and one `u128`, in any alignment.
pub(super) trait Vector: Copy {
    const BLOCKS: usize;
    unsafe fn load(from: *const u128) -> Self;
    unsafe fn store(self, to: *mut u128);
    /// The same block in every lane.
    unsafe fn broadcast(block: *const u128) -> Self;
    unsafe fn xor(self, other: Self) -> Self;
    unsafe fn and(self, other: Self) -> Self;
    /// Sums of 64-bit halves.
    unsafe fn add(self, other: Self) -> Self;
    /// Swaps the 64-bit halves of every block.
    unsafe fn swap_halves(self) -> Self;
    unsafe fn round(self, key: Self) -> Self;
    unsafe fn last_round(self, key: Self) -> Self;
}

macro_rules! vector {
    ($type:ty, $features:literal, $blocks:literal, $load:ident, $store:ident, $cast:ty, $broadcast:expr,
     $xor:ident, $and:ident, $add:ident, $shuffle:ident, $round:ident, $last:ident) => {
        #[doc = concat!("Requires ", $features, ".")]
        impl Vector for $type {
            const BLOCKS: usize = $blocks;
            #[inline(always)]
            unsafe fn load(from: *const u128) -> Self {
                // SAFETY: valid pointer and features, by the contract of the trait.
                unsafe { $load(from.cast::<$cast>()) }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut u128) {
                // SAFETY: valid pointer and features, by the contract of the trait.
                unsafe { $store(to.cast::<$cast>(), self) }
            }
            #[inline(always)]
            unsafe fn broadcast(block: *const u128) -> Self {
                // SAFETY: valid pointer and features, by the contract of the trait.
                unsafe { $broadcast(_mm_loadu_si128(block.cast())) }
            }
            #[inline(always)]
            unsafe fn xor(self, other: Self) -> Self {
                // SAFETY: features, by the contract of the trait.
                unsafe { $xor(self, other) }
            }
            #[inline(always)]
            unsafe fn and(self, other: Self) -> Self {
                // SAFETY: features, by the contract of the trait.
                unsafe { $and(self, other) }
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                // SAFETY: features, by the contract of the trait.
                unsafe { $add(self, other) }
            }
            #[inline(always)]
            unsafe fn swap_halves(self) -> Self {
                // SAFETY: features, by the contract of the trait.
                unsafe { $shuffle::<0x4e>(self) }
            }
            #[inline(always)]
            unsafe fn round(self, key: Self) -> Self {
                // SAFETY: features, by the contract of the trait.
                unsafe { $round(self, key) }
            }
            #[inline(always)]
            unsafe fn last_round(self, key: Self) -> Self {
                // SAFETY: features, by the contract of the trait.
                unsafe { $last(self, key) }
            }
        }
    };
}

vector!(
    __m128i,
    "AES-NI and AVX",
    1,
    _mm_loadu_si128,
    _mm_storeu_si128,
    __m128i,
    std::convert::identity,
    _mm_xor_si128,
    _mm_and_si128,
    _mm_add_epi64,
    _mm_shuffle_epi32,
    _mm_aesenc_si128,
    _mm_aesenclast_si128
);
vector!(
    __m256i,
    "VAES and AVX2",
    2,
    _mm256_loadu_si256,
    _mm256_storeu_si256,
    __m256i,
    _mm256_broadcastsi128_si256,
    _mm256_xor_si256,
    _mm256_and_si256,
    _mm256_add_epi64,
    _mm256_shuffle_epi32,
    _mm256_aesenc_epi128,
    _mm256_aesenclast_epi128
);
vector!(
    __m512i,
    "VAES and AVX-512F",
    4,
    _mm512_loadu_si512,
    _mm512_storeu_si512,
    __m512i,
    _mm512_broadcast_i32x4,
    _mm512_xor_si512,
    _mm512_and_si512,
    _mm512_add_epi64,
    _mm512_shuffle_epi32,
    _mm512_aesenc_epi128,
    _mm512_aesenclast_epi128
);

/// Round keys in every lane, in memory.
pub(super) struct Keys<V>([V; ROUNDS + 1]);

impl<V: Vector> Keys<V> {
    /// # Safety
    /// The features of `V`.
    #[inline(always)]
    pub(super) unsafe fn new(round_keys: &[u128; ROUNDS + 1]) -> Self {
        // SAFETY: features, by the contract of this function; the pointers are to elements of an array.
        unsafe {
            let [k0, k1, k2, k3, k4, k5, k6, k7, k8, k9, k10] = round_keys;
            Self([
                V::broadcast(k0),
                V::broadcast(k1),
                V::broadcast(k2),
                V::broadcast(k3),
                V::broadcast(k4),
                V::broadcast(k5),
                V::broadcast(k6),
                V::broadcast(k7),
                V::broadcast(k8),
                V::broadcast(k9),
                V::broadcast(k10),
            ])
        }
    }

    /// The read is volatile so that keys stay in memory: eleven of them and eight blocks do not fit in sixteen
    /// registers, and a compiler that prefers the keys has only a few blocks in flight (half the speed).
    #[inline(always)]
    fn round(&self, round: usize) -> V {
        // SAFETY: a reference to an element of an array.
        unsafe { (&raw const self.0[round]).read_volatile() }
    }
}

/// AES of `WIDTH` registers at once, enough of them to hide the latency of a round.
///
/// # Safety
/// The features of `V`.
#[inline(always)]
pub(super) unsafe fn encrypt<V: Vector, const WIDTH: usize>(
    keys: &Keys<V>,
    state: &mut [V; WIDTH],
) {
    // SAFETY: features, by the contract of this function.
    unsafe {
        let key = keys.round(0);
        for block in state.iter_mut() {
            *block = block.xor(key);
        }
        rounds(keys, state);
    }
}

/// The rest of AES after the first round key was added.
///
/// # Safety
/// The features of `V`.
#[inline(always)]
pub(super) unsafe fn rounds<V: Vector, const WIDTH: usize>(keys: &Keys<V>, state: &mut [V; WIDTH]) {
    // SAFETY: features, by the contract of this function.
    unsafe {
        for round in 1..ROUNDS {
            let key = keys.round(round);
            for block in state.iter_mut() {
                *block = block.round(key);
            }
        }
        let key = keys.round(ROUNDS);
        for block in state.iter_mut() {
            *block = block.last_round(key);
        }
    }
}
