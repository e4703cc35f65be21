//! Sums over rows of the local code, with AVX2.

use std::arch::x86_64::*;

use crate::ferret::code::{GROUP, Rows, Stream, row_word};
use crate::ferret::params::{K, LOCALITY};

/// For each entry of F_16, its bits as masks of a block: bits 0 and 1, then bits 2 and 3.
#[repr(C, align(64))]
struct Masks([[u128; 4]; 16]);

static MASKS: Masks = {
    let mut masks = [[0; 4]; 16];
    let mut at = 0;
    while at < 64 {
        masks[at / 4][at % 4] = (((at / 4) >> (at % 4) & 1) as u128).wrapping_neg();
        at += 1;
    }
    Masks(masks)
};

/// [`crate::ferret::code::portable_rows`], eight words at a time.
#[target_feature(enable = "avx2")]
pub(super) fn rows<const LARGE: bool>(stream: &Stream, rows: &mut Rows) {
    // SAFETY: as many bytes as `Rows` has, of a larger alignment; x86 is little-endian.
    let words = unsafe { &*(&raw const *stream).cast::<Rows>() };
    for (row, word) in rows.iter_mut().zip(words) {
        *row = row_word::<LARGE>(*word);
    }
}

/// Rows between a block's prefetch and its use; with less, the multiplications over F_16 fill the window of the
/// processor and few reads are under way.
const AHEAD: usize = 8;

/// The block of a word's column.
#[target_feature(enable = "avx2")]
#[inline]
fn block(table: &[u128; K], word: u32) -> *const u128 {
    let offset = word as usize & ((K - 1) << 4);
    table.as_ptr().wrapping_byte_add(offset)
}

#[target_feature(enable = "avx2")]
#[inline]
fn prefetch(table: &[u128; K], row: &[u32; LOCALITY]) {
    for word in row {
        _mm_prefetch::<_MM_HINT_T0>(block(table, *word).cast());
    }
}

/// [`super::Backend::add_rows`].
#[target_feature(enable = "avx2")]
pub(super) fn add_rows<const LARGE: bool>(
    table: &[u128; K],
    rows: &Rows,
    blocks: &mut [u128; GROUP],
) {
    let rows = rows.as_chunks::<LOCALITY>().0;
    for (at, (sum, row)) in blocks.iter_mut().zip(rows).enumerate() {
        if let Some(later) = rows.get(at + AHEAD) {
            prefetch(table, later);
        }
        let products = if LARGE {
            multiples(table, row)
        } else {
            row_blocks(table, row)
        };
        // SAFETY: `sum` is a block; no access needs alignment.
        unsafe {
            let total = _mm_loadu_si128((&raw const *sum).cast());
            _mm_storeu_si128((&raw mut *sum).cast(), _mm_xor_si128(total, products));
        }
    }
}

/// The sum of a row's blocks.
#[target_feature(enable = "avx2")]
#[inline]
fn row_blocks(table: &[u128; K], row: &[u32; LOCALITY]) -> __m128i {
    let mut total = _mm_setzero_si128();
    for word in row {
        // SAFETY: `block` points to one of the K of `table`; the load has no alignment.
        let block = unsafe { _mm_loadu_si128(block(table, *word).cast()) };
        total = _mm_xor_si128(total, block);
    }
    total
}

/// The sum of a row's entries times its blocks.
#[target_feature(enable = "avx2")]
#[inline]
fn multiples(table: &[u128; K], row: &[u32; LOCALITY]) -> __m128i {
    let mut low = _mm256_setzero_si256();
    let mut high = _mm256_setzero_si256();
    for word in row {
        let masks = &MASKS.0[(*word & 15) as usize];
        // SAFETY: `block` points to a block of `table`; `masks` has 64 bytes and their alignment.
        unsafe {
            let block = _mm_loadu_si128(block(table, *word).cast());
            let twice = _mm256_broadcastsi128_si256(block);
            let pair = masks.as_ptr().cast::<__m256i>();
            low = _mm256_xor_si256(low, _mm256_and_si256(twice, _mm256_load_si256(pair)));
            high = _mm256_xor_si256(
                high,
                _mm256_and_si256(twice, _mm256_load_si256(pair.add(1))),
            );
        }
    }
    let pairs = _mm256_xor_si256(low, times_a(times_a(high)));
    let odd = times_a(_mm256_permute2x128_si256::<0x11>(pairs, pairs));
    _mm_xor_si128(_mm256_castsi256_si128(pairs), _mm256_castsi256_si128(odd))
}

/// The generator of F_16 times every nibble.
#[target_feature(enable = "avx2")]
#[inline]
fn times_a(x: __m256i) -> __m256i {
    let carry = _mm256_and_si256(_mm256_srli_epi16::<3>(x), _mm256_set1_epi8(0x11));
    let shifted = _mm256_slli_epi16::<1>(_mm256_and_si256(x, _mm256_set1_epi8(0x77)));
    let reduced = _mm256_xor_si256(carry, _mm256_slli_epi16::<1>(carry));
    _mm256_xor_si256(shifted, reduced)
}
