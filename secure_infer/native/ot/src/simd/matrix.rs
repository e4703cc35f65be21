//! Butterfly and transposition of bit matrices with AVX2.

use std::arch::x86_64::*;

use crate::ggm::LEAVES;
use crate::planes::{CHUNK, Chunk, Combine, Row, STREAM_BLOCKS, Streams};

/// [`Combine::run`].
#[target_feature(enable = "avx2")]
pub(super) fn combine<const PLANES: usize>(
    combine: &Combine<'_, PLANES>,
    tree: usize,
    u: &mut [[Row; PLANES]],
    chunks: &mut [Chunk],
) {
    let delta = combine.delta.map(|mask| _mm256_set1_epi64x(mask as i64));
    for (index, (u, chunk)) in u.iter_mut().zip(chunks).enumerate() {
        let mut degrees = [_mm256_setzero_si256(); 7];
        for (plane, u) in u.iter_mut().enumerate() {
            let at = 2 * (index * PLANES + plane);
            let correction = load(u);
            let (sum, sums) = fold(combine.streams, at);
            store(u, sum);
            for (j, sum) in sums.into_iter().enumerate() {
                let sum = _mm256_xor_si256(sum, _mm256_and_si256(correction, delta[j]));
                degrees[plane + j] = _mm256_xor_si256(degrees[plane + j], sum);
                if PLANES == 2 && plane == 1 {
                    degrees[2 + j] = _mm256_xor_si256(degrees[2 + j], sum);
                }
            }
        }
        for high in [6, 5, 4] {
            degrees[high - 4] = _mm256_xor_si256(degrees[high - 4], degrees[high]);
            degrees[high - 3] = _mm256_xor_si256(degrees[high - 3], degrees[high]);
        }
        for (row, degree) in chunk.rows[4 * tree..4 * tree + 4].iter_mut().zip(degrees) {
            store(row, degree);
        }
    }
}

/// (sum over x of row x, for each j: sum over x with bit j of row x); row x is at `at` of stream x.
#[target_feature(enable = "avx2")]
#[inline]
fn fold(streams: &Streams, at: usize) -> (__m256i, [__m256i; 4]) {
    let zero = _mm256_setzero_si256();
    let mut rows = [zero; LEAVES / 2];
    let mut sums = [zero; 4];
    for x in 0..LEAVES / 2 {
        let high = load_pair(&streams[x + LEAVES / 2], at);
        sums[3] = _mm256_xor_si256(sums[3], high);
        rows[x] = _mm256_xor_si256(load_pair(&streams[x], at), high);
    }
    for x in 0..4 {
        sums[2] = _mm256_xor_si256(sums[2], rows[x + 4]);
        rows[x] = _mm256_xor_si256(rows[x], rows[x + 4]);
    }
    for x in 0..2 {
        sums[1] = _mm256_xor_si256(sums[1], rows[x + 2]);
        rows[x] = _mm256_xor_si256(rows[x], rows[x + 2]);
    }
    sums[0] = rows[1];
    (_mm256_xor_si256(rows[0], rows[1]), sums)
}

#[target_feature(enable = "avx2")]
#[inline]
fn load_pair(stream: &[u128; STREAM_BLOCKS], at: usize) -> __m256i {
    let pair = &stream[at..at + 2];
    // SAFETY: two blocks are 32 bytes; the load has no alignment.
    unsafe { _mm256_loadu_si256(pair.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn load(row: &Row) -> __m256i {
    // SAFETY: a row is 32 bytes; the load has no alignment.
    unsafe { _mm256_loadu_si256(row.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
#[inline]
fn store(row: &mut Row, register: __m256i) {
    // SAFETY: a row is 32 bytes; the store has no alignment.
    unsafe { _mm256_storeu_si256(row.as_mut_ptr().cast(), register) }
}

/// Bit i of block k becomes bit k of row i; the rows are used up.
///
/// First the 8 by 8 bit squares of each 8 rows are transposed, between registers, so that byte b of register r
/// belongs to OT 8 b + r; then, for each r, the 16 by 32 bytes of the 16 groups of rows.
#[target_feature(enable = "avx2")]
pub(super) fn transpose(chunk: &mut Chunk, blocks: &mut [u128; CHUNK]) {
    for rows in chunk.rows.as_chunks_mut::<8>().0 {
        let mut registers = [_mm256_setzero_si256(); 8];
        for (register, row) in registers.iter_mut().zip(rows.iter()) {
            *register = load(row);
        }
        transpose_squares(&mut registers);
        for (register, row) in registers.iter().zip(rows.iter_mut()) {
            store(row, *register);
        }
    }
    for r in 0..8 {
        let mut registers = [_mm256_setzero_si256(); 16];
        for (g, register) in registers.iter_mut().enumerate() {
            *register = load(&chunk.rows[8 * g + r]);
        }
        for _ in 0..4 {
            registers = shuffle_bytes(&registers);
        }
        for (b, register) in registers.iter().enumerate() {
            let (low, high) = (
                _mm256_castsi256_si128(*register),
                _mm256_extracti128_si256::<1>(*register),
            );
            // SAFETY: both are elements of `blocks`, of 16 bytes; the stores have no alignment.
            unsafe {
                _mm_storeu_si128((&raw mut blocks[8 * b + r]).cast(), low);
                _mm_storeu_si128((&raw mut blocks[8 * b + r + CHUNK / 2]).cast(), high);
            }
        }
    }
}

/// Swaps bit c of register r with bit r of register c, in every byte.
#[target_feature(enable = "avx2")]
#[inline]
fn transpose_squares(rows: &mut [__m256i; 8]) {
    for r in [0, 2, 4, 6] {
        (rows[r], rows[r + 1]) = swap_bits::<1>(rows[r], rows[r + 1], 0x55);
    }
    for r in [0, 1, 4, 5] {
        (rows[r], rows[r + 2]) = swap_bits::<2>(rows[r], rows[r + 2], 0x33);
    }
    for r in [0, 1, 2, 3] {
        (rows[r], rows[r + 4]) = swap_bits::<4>(rows[r], rows[r + 4], 0x0f);
    }
}

/// Swaps the bits of `a` at `mask << SHIFT` with those of `b` at `mask`.
#[target_feature(enable = "avx2")]
#[inline]
fn swap_bits<const SHIFT: i32>(a: __m256i, b: __m256i, mask: i8) -> (__m256i, __m256i) {
    let difference = _mm256_xor_si256(_mm256_srli_epi16::<SHIFT>(a), b);
    let swap = _mm256_and_si256(difference, _mm256_set1_epi8(mask));
    (
        _mm256_xor_si256(a, _mm256_slli_epi16::<SHIFT>(swap)),
        _mm256_xor_si256(b, swap),
    )
}

/// In each half: number a byte by its register (4 bits), then its place (4 bits), and rotate these 8 bits by one.
#[target_feature(enable = "avx2")]
#[inline]
fn shuffle_bytes(from: &[__m256i; 16]) -> [__m256i; 16] {
    let mut to = *from;
    for i in 0..8 {
        to[2 * i] = _mm256_unpacklo_epi8(from[i], from[i + 8]);
        to[2 * i + 1] = _mm256_unpackhi_epi8(from[i], from[i + 8]);
    }
    to
}
