//! Words packed and unpacked with permutations of bytes and of words.

use super::{Vectors, vectors};

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

/// Unpacks words of `BITS` bits (at most 32, or 57 for words of 64) while 64 bytes can be read at once; returns how many
/// words it took, whole bytes of them: none where the processor lacks the instructions.
pub(crate) fn unpack<W: Lane, const BITS: usize>(bytes: &[u8], out: &mut [W]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if matches!(vectors(), Vectors::Avx512) {
        // SAFETY: the processor has the instructions.
        return unsafe { unpack_avx512::<W, BITS>(bytes, out) };
    }
    let _ = (bytes, out);
    0
}

/// Packs the low `BITS` bits of words while 64 bytes can be written at once; returns how many words it took, whole bytes
/// of them.
pub(crate) fn pack<W: Lane, const BITS: usize>(words: &[W], dst: &mut [u8]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if matches!(vectors(), Vectors::Avx512) {
        // SAFETY: the processor has the instructions.
        return unsafe {
            match (size_of::<W>(), BITS) {
                (2 | 4, ..=16) => pack_short_avx512::<W, BITS>(words, dst),
                (4, ..=32) => pack_avx512::<W, BITS>(words, dst),
                _ => 0,
            }
        };
    }
    let _ = (words, dst);
    0
}

/// Words that [`unpack`] makes: plain integers, of which any bits are a value.
pub(crate) trait Lane: Copy {}

impl Lane for u16 {}
impl Lane for u32 {}
impl Lane for u64 {}

/// Every word's bytes are brought to a lane of their own, with room for the bits before the word's first one.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn unpack_avx512<W: Lane, const BITS: usize>(bytes: &[u8], out: &mut [W]) -> usize {
    let lane = match (size_of::<W>(), BITS) {
        (2, ..=9) => 2,
        (2 | 4, ..=25) => 4,
        _ => 8,
    };
    let group = 64 / lane;
    let (mut places, mut shifts, mut masks) = ([0u8; 64], [0u8; 64], [0u8; 64]);
    for k in 0..group {
        for j in 0..lane {
            places[k * lane + j] = (k * BITS / 8 + j) as u8;
        }
        shifts[k * lane] = (k * BITS % 8) as u8;
        masks[k * lane..][..lane].copy_from_slice(&((1u64 << BITS) - 1).to_le_bytes()[..lane]);
    }
    let mut done = 0;
    // SAFETY: arrays of 64 bytes; `bytes` has 64 bytes from `at` on, and `out` room for `group` words from `done` on.
    unsafe {
        let [places, shifts, masks] =
            [places, shifts, masks].map(|array| _mm512_loadu_epi8(array.as_ptr().cast()));
        while done + group <= out.len() && done / 8 * BITS + 64 <= bytes.len() {
            let words = _mm512_loadu_epi8(bytes.as_ptr().add(done / 8 * BITS).cast());
            let words = _mm512_permutexvar_epi8(places, words);
            let words = match lane {
                2 => _mm512_srlv_epi16(words, shifts),
                4 => _mm512_srlv_epi32(words, shifts),
                _ => _mm512_srlv_epi64(words, shifts),
            };
            let (words, to) = (_mm512_and_si512(words, masks), out.as_mut_ptr().add(done));
            match (size_of::<W>(), lane) {
                (2, 4) => _mm256_storeu_si256(to.cast(), _mm512_cvtepi32_epi16(words)),
                (2, 8) => _mm_storeu_si128(to.cast(), _mm512_cvtepi64_epi16(words)),
                (4, 8) => _mm256_storeu_si256(to.cast(), _mm512_cvtepi64_epi32(words)),
                _ => _mm512_storeu_epi8(to.cast(), words),
            }
            done += group;
        }
    }
    done
}

/// Two words of 16 bits move together to a pair, two pairs to a four, two fours to an eight of whole bytes, and four eights
/// are written at once.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn pack_short_avx512<W: Lane, const BITS: usize>(words: &[W], dst: &mut [u8]) -> usize {
    let mut places = [0u8; 64];
    for (at, place) in places.iter_mut().enumerate().take(4 * BITS) {
        *place = (16 * (at / BITS) + at % BITS) as u8;
    }
    let bits = BITS as i64;
    // of a four: how far it moves for the low and for the high half of an eight
    let up = _mm512_set_epi64(64, 4 * bits, 64, 4 * bits, 64, 4 * bits, 64, 4 * bits);
    let rest = 64 - 4 * bits;
    let down = _mm512_set_epi64(rest, 64, rest, 64, rest, 64, rest, 64);
    let mask = _mm512_set1_epi16((u16::MAX >> (16 - BITS)) as i16);
    let (one, two) = (_mm_cvtsi64_si128(bits), _mm_cvtsi64_si128(2 * bits));
    let mut done = 0;
    // SAFETY: an array of 64 bytes; `words` has 32 from `done` on and `dst` room for 64 bytes from `at` on.
    unsafe {
        let places = _mm512_loadu_epi8(places.as_ptr().cast());
        while done + 32 <= words.len() && done / 8 * BITS + 64 <= dst.len() {
            let from = words.as_ptr().add(done);
            let words = if size_of::<W>() == 2 {
                _mm512_loadu_epi16(from.cast())
            } else {
                let [low, high] = [from, from.add(16)]
                    .map(|half| _mm512_cvtepi32_epi16(_mm512_loadu_epi32(half.cast())));
                _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
            };
            let words = _mm512_and_si512(words, mask);
            let pairs = _mm512_or_si512(
                _mm512_maskz_mov_epi16(0x5555_5555, words),
                _mm512_sll_epi32(_mm512_srli_epi32::<16>(words), one),
            );
            let fours = _mm512_or_si512(
                _mm512_maskz_mov_epi32(0x5555, pairs),
                _mm512_sll_epi64(_mm512_srli_epi64::<32>(pairs), two),
            );
            let second = _mm512_unpackhi_epi64(fours, fours);
            let moved = _mm512_or_si512(
                _mm512_sllv_epi64(second, up),
                _mm512_srlv_epi64(second, down),
            );
            let eights = _mm512_or_si512(_mm512_maskz_mov_epi64(0x55, fours), moved);
            let packed = _mm512_permutexvar_epi8(places, eights);
            _mm512_storeu_epi8(dst.as_mut_ptr().add(done / 8 * BITS).cast(), packed);
            done += 32;
        }
    }
    done
}

/// Every 64 bits of the result are put together from the words of 32 bits that have bits there, 17 or more each, 16 words
/// at a time.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw")]
fn pack_avx512<W: Lane, const BITS: usize>(words: &[W], dst: &mut [u8]) -> usize {
    /// Words of 17 bits and more that have bits among 64.
    const PARTS: usize = 5;
    let (mut places, mut shifts) = ([[0u64; 8]; PARTS], [[64u64; 8]; PARTS]);
    for lane in 0..8 {
        let first = 64 * lane / BITS;
        for part in 0..PARTS {
            let word = first + part;
            if word < 16 {
                places[part][lane] = word as u64;
                shifts[part][lane] = if part == 0 {
                    (64 * lane - word * BITS) as u64
                } else {
                    (word * BITS - 64 * lane).min(64) as u64
                };
            }
        }
    }
    let mut done = 0;
    // SAFETY: arrays of eight words; `words` has 16 from `done` on and `dst` room for 64 bytes from `at` on.
    unsafe {
        let (mut place, mut shift) = (
            [_mm512_setzero_si512(); PARTS],
            [_mm512_setzero_si512(); PARTS],
        );
        for part in 0..PARTS {
            place[part] = _mm512_loadu_epi64(places[part].as_ptr().cast());
            shift[part] = _mm512_loadu_epi64(shifts[part].as_ptr().cast());
        }
        let mask = _mm512_set1_epi32((u32::MAX >> (32 - BITS)) as i32);
        while done + 16 <= words.len() && done / 8 * BITS + 64 <= dst.len() {
            let sixteen = _mm512_loadu_epi32(words.as_ptr().add(done).cast());
            let sixteen = _mm512_and_si512(sixteen, mask);
            let low = _mm512_maskz_permutexvar_epi32(0x5555, place[0], sixteen);
            let mut packed = _mm512_srlv_epi64(low, shift[0]);
            for part in 1..PARTS {
                let word = _mm512_maskz_permutexvar_epi32(0x5555, place[part], sixteen);
                packed = _mm512_or_si512(packed, _mm512_sllv_epi64(word, shift[part]));
            }
            _mm512_storeu_epi8(dst.as_mut_ptr().add(done / 8 * BITS).cast(), packed);
            done += 16;
        }
    }
    done
}
