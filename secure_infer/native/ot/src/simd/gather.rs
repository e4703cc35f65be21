//! Sums over rows of the local code, with AVX2.

use std::arch::x86_64::*;

use crate::ferret::code::{GROUP, POWERS, SYMBOL, Secret, Stream, Symbol, WORDS};
use crate::ferret::params::LOCALITY;

/// Rows between the prefetch of their symbols and their use.
const AHEAD: usize = 16;

/// The columns of a row.
type Row = [u16; LOCALITY];

/// A symbol in registers: x0 and x1, x2 and x3.
type Halves = [__m256i; 2];

/// [`super::Backend::add_rows`].
#[target_feature(enable = "avx2")]
pub(super) fn add_rows<const LARGE: bool>(
    secret: &Secret,
    stream: &Stream,
    blocks: &mut [u128; GROUP],
) {
    // SAFETY: as many bytes, of a larger alignment; x86 is little-endian.
    let words = unsafe { &*(&raw const *stream).cast::<[u16; WORDS]>() };
    let rows = words.as_chunks::<LOCALITY>().0;
    for (at, (symbol, row)) in blocks.as_chunks_mut().0.iter_mut().zip(rows).enumerate() {
        if let Some(later) = rows.get(at + AHEAD) {
            for column in later {
                _mm_prefetch::<_MM_HINT_T0>((&raw const secret[usize::from(*column)]).cast());
            }
        }
        let total = sum(load(symbol), row_symbol::<LARGE>(secret, row));
        store(symbol, total);
    }
}

/// What a row makes of the secret.
#[target_feature(enable = "avx2")]
#[inline]
fn row_symbol<const LARGE: bool>(secret: &Secret, row: &Row) -> Halves {
    let mut total = [_mm256_setzero_si256(); 2];
    let mut end = LOCALITY;
    for count in POWERS.into_iter().rev() {
        total = times_y::<LARGE>(total);
        for column in &row[end - count..end] {
            let Symbol(symbol) = &secret[usize::from(*column)];
            total = sum(total, load(symbol));
        }
        end -= count;
    }
    total
}

/// y times a symbol: x3, x0 + x3, x1 (over F_16, + a x3), x2.
#[target_feature(enable = "avx2")]
#[inline]
fn times_y<const LARGE: bool>([low, high]: Halves) -> Halves {
    let turned = [
        _mm256_permute2x128_si256::<0x21>(high, low),
        _mm256_permute2x128_si256::<0x21>(low, high),
    ];
    let of_y = _mm256_permute2x128_si256::<0x18>(high, high);
    let of_y2 = if LARGE {
        times_a(_mm256_permute2x128_si256::<0x81>(high, high))
    } else {
        _mm256_setzero_si256()
    };
    sum(turned, [of_y, of_y2])
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

#[target_feature(enable = "avx2")]
#[inline]
fn sum(a: Halves, b: Halves) -> Halves {
    [_mm256_xor_si256(a[0], b[0]), _mm256_xor_si256(a[1], b[1])]
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(symbol: &[u128; SYMBOL]) -> Halves {
    let at = symbol.as_ptr().cast::<__m256i>();
    // SAFETY: a symbol has 64 bytes; the loads have no alignment.
    unsafe { [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))] }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(symbol: &mut [u128; SYMBOL], [low, high]: Halves) {
    let at = symbol.as_mut_ptr().cast::<__m256i>();
    // SAFETY: a symbol has 64 bytes; the stores have no alignment.
    unsafe {
        _mm256_storeu_si256(at, low);
        _mm256_storeu_si256(at.add(1), high);
    }
}
