//! Bit packing: `count` words of `bits` bits each, little-endian bit order, unused high bits of the last byte zero.

use std::ops::{BitAnd, BitXor};

use crate::simd::{self, widened};

/// An unsigned integer that holds ring elements.
#[expect(private_bounds, reason = "the kernels' own")]
pub trait Word:
    simd::Lane
    + Default
    + PartialEq
    + BitAnd<Output = Self>
    + BitXor<Output = Self>
    + Send
    + Sync
    + 'static
{
    /// Bits of the type.
    const BITS: u32;
    /// The low bits of a word of 32 bits.
    fn of(word: u32) -> Self;
    /// As a word of 32 bits.
    fn get(self) -> u32;
    /// The sum, modulo the type's power of two.
    #[must_use]
    fn plus(self, other: Self) -> Self;
    /// The difference, modulo the type's power of two.
    #[must_use]
    fn minus(self, other: Self) -> Self;
    /// Eight bits from a position on.
    fn byte(self, position: u32) -> u8;
    /// All bits from one.
    fn all(bit: u8) -> Self;
}

/// What the types have in common.
macro_rules! arithmetic {
    () => {
        #[inline(always)]
        fn plus(self, other: Self) -> Self {
            self.wrapping_add(other)
        }

        #[inline(always)]
        fn minus(self, other: Self) -> Self {
            self.wrapping_sub(other)
        }

        #[inline(always)]
        fn byte(self, position: u32) -> u8 {
            (self >> position) as u8
        }

        #[inline(always)]
        fn all(bit: u8) -> Self {
            Self::default().wrapping_sub(Self::from(bit))
        }
    };
}

impl Word for u16 {
    const BITS: u32 = 16;

    arithmetic!();

    #[inline(always)]
    fn of(word: u32) -> Self {
        word as Self
    }

    #[inline(always)]
    fn get(self) -> u32 {
        u32::from(self)
    }
}

impl Word for u32 {
    const BITS: u32 = 32;

    arithmetic!();

    #[inline(always)]
    fn of(word: u32) -> Self {
        word
    }

    #[inline(always)]
    fn get(self) -> u32 {
        self
    }
}

/// A packed buffer or a width that does not fit what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("packed words: expected {expected} bytes, got {got}")]
pub struct LengthError {
    /// Bytes that the words need.
    pub expected: usize,
    /// Bytes that were there.
    pub got: usize,
}

/// Bytes that `count` words of `bits` bits take. Saturates instead of overflowing.
pub fn packed_len(count: usize, bits: u32) -> usize {
    let bits = bits as usize;
    // count * bits / 8 without the overflow of count * bits
    (count / 8)
        .saturating_mul(bits)
        .saturating_add(((count % 8) * bits).div_ceil(8))
}

macro_rules! for_width {
    ($bits:expr, $call:ident$args:tt, [$($width:literal)*]) => {
        match $bits {
            $($width => $call::<_, $width>$args,)*
            _ => 0,
        }
    };
}

/// Appends the low `bits` (1 to 32) bits of every word to `out`.
pub fn pack<W: Word>(words: &[W], bits: u32, out: &mut Vec<u8>) {
    debug_assert!((1..=W::BITS).contains(&bits), "width {bits}");
    let start = out.len();
    out.resize(start + packed_len(words.len(), bits), 0);
    let dst = &mut out[start..];
    let done = widened(
        #[inline(always)]
        || {
            for_width!(bits, pack_blocks(words, dst),
                [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32])
        },
    );
    let rest = words[done..].iter().map(|&word| u64::from(word.get()));
    pack_tail(rest, bits, &mut dst[done / 8 * bits as usize..]);
}

/// Reads `out.len()` words of `bits` (1 to 32) bits.
///
/// # Errors
/// [`LengthError`] when `bytes` has not exactly the length [`packed_len`] says.
pub fn unpack<W: Word>(bytes: &[u8], bits: u32, out: &mut [W]) -> Result<(), LengthError> {
    debug_assert!((1..=W::BITS).contains(&bits), "width {bits}");
    check_len(bytes, out.len(), bits)?;
    let done = widened(
        #[inline(always)]
        || {
            for_width!(bits, unpack_blocks(bytes, out),
                [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32])
        },
    );
    let mut words = TailReader::new(&bytes[done / 8 * bits as usize..], bits);
    for word in &mut out[done..] {
        *word = W::of(words.next_word() as u32);
    }
    Ok(())
}

/// As [`pack`], for words of 1 to 57 bits.
pub fn pack_u64(words: &[u64], bits: u32, out: &mut Vec<u8>) {
    debug_assert!((1..=57).contains(&bits), "width {bits}");
    let start = out.len();
    out.resize(start + packed_len(words.len(), bits), 0);
    pack_tail(words.iter().copied(), bits, &mut out[start..]);
}

/// As [`unpack`], for words of 1 to 57 bits.
///
/// # Errors
/// [`LengthError`] when `bytes` has not exactly the length [`packed_len`] says.
pub fn unpack_u64(bytes: &[u8], bits: u32, out: &mut [u64]) -> Result<(), LengthError> {
    debug_assert!((1..=57).contains(&bits), "width {bits}");
    check_len(bytes, out.len(), bits)?;
    let (width, mask) = (bits as usize, (1u64 << bits) - 1);
    // a word starts at most 7 bits into its byte, so that 8 bytes always hold all of it
    let whole = if bytes.len() < 8 {
        0
    } else {
        ((bytes.len() - 8) * 8 / width + 1).min(out.len())
    };
    let done = widened(
        #[inline(always)]
        || match bits {
            36 => unpack_wide::<36>(bytes, &mut out[..whole]),
            50 => unpack_wide::<50>(bytes, &mut out[..whole]),
            _ => 0,
        },
    );
    for (i, word) in out[..whole].iter_mut().enumerate().skip(done) {
        let at = i * width;
        let mut eight = [0u8; 8];
        eight.copy_from_slice(&bytes[at / 8..at / 8 + 8]);
        *word = (u64::from_le_bytes(eight) >> (at % 8)) & mask;
    }
    for (i, word) in out.iter_mut().enumerate().skip(whole) {
        let at = i * width;
        let mut eight = [0u8; 8];
        let rest = &bytes[at / 8..];
        let count = rest.len().min(8);
        eight[..count].copy_from_slice(&rest[..count]);
        *word = (u64::from_le_bytes(eight) >> (at % 8)) & mask;
    }
    Ok(())
}

/// [`unpack_eights`], after the processor's own instructions as far as they go.
#[inline(always)]
fn unpack_wide<const BITS: usize>(bytes: &[u8], out: &mut [u64]) -> usize {
    let done = simd::unpack::<u64, BITS>(bytes, out);
    done + unpack_eights::<BITS>(&bytes[done / 8 * BITS..], &mut out[done..])
}

/// Unpacks words in groups of 8, which take exactly `BITS` bytes, while 8 bytes can be read from where a word begins;
/// returns how many words it took. With the width known, places and shifts are.
#[inline(always)]
fn unpack_eights<const BITS: usize>(bytes: &[u8], out: &mut [u64]) -> usize {
    let mut done = 0;
    for (words, at) in out
        .as_chunks_mut::<8>()
        .0
        .iter_mut()
        .zip((0..).step_by(BITS))
    {
        let Some(bytes) = bytes.get(at..at + 7 * BITS / 8 + 8) else {
            break;
        };
        for (k, word) in words.iter_mut().enumerate() {
            let mut eight = [0; 8];
            eight.copy_from_slice(&bytes[k * BITS / 8..][..8]);
            *word = u64::from_le_bytes(eight) >> (k * BITS % 8) & ((1 << BITS) - 1);
        }
        done += 8;
    }
    done
}

fn check_len(bytes: &[u8], count: usize, bits: u32) -> Result<(), LengthError> {
    let expected = packed_len(count, bits);
    if bytes.len() == expected {
        Ok(())
    } else {
        Err(LengthError {
            expected,
            got: bytes.len(),
        })
    }
}

/// Packs groups of 32 words; returns how many words it took.
#[inline(always)]
fn pack_blocks<W: Word, const BITS: usize>(words: &[W], dst: &mut [u8]) -> usize {
    let first = simd::pack::<W, BITS>(words, dst);
    first + portable_pack::<W, BITS>(&words[first..], &mut dst[first / 8 * BITS..])
}

/// Packs groups of 32 words, which take exactly `BITS` words of 32 bits; returns how many words it took.
#[inline(always)]
fn portable_pack<W: Word, const BITS: usize>(words: &[W], dst: &mut [u8]) -> usize {
    let mask = (u64::MAX >> (64 - BITS)) as u32;
    let (blocks, _) = words.as_chunks::<32>();
    for (block, bytes) in blocks.iter().zip(dst.chunks_exact_mut(4 * BITS)) {
        if BITS <= 16 {
            pack_short::<W, BITS>(block, bytes);
            continue;
        }
        let mut packed = bytes.chunks_exact_mut(4);
        let (mut held, mut filled) = (0u64, 0);
        for &word in block {
            held |= u64::from(word.get() & mask) << filled;
            filled += BITS;
            if filled >= 32 {
                if let Some(four) = packed.next() {
                    four.copy_from_slice(&(held as u32).to_le_bytes());
                }
                held >>= 32;
                filled -= 32;
            }
        }
    }
    words.len() / 32 * 32
}

/// Four words in 64 bits move together to two pairs, those to a four, and two fours are written at once.
#[inline(always)]
fn pack_short<W: Word, const BITS: usize>(block: &[W; 32], bytes: &mut [u8]) {
    let (word, pair) = (lanes(BITS, 32), lanes(2 * BITS, 64));
    let mut fours = [0u64; 8];
    for (four, words) in fours.iter_mut().zip(block.as_chunks::<4>().0) {
        let [a, b, c, d] = words.map(|word| u64::from(word.get() as u16));
        let spread = a | b << 16 | c << 32 | d << 48;
        let pairs = spread & word | (spread >> 16 & word) << BITS;
        *four = pairs & pair | (pairs >> 32 & pair) << (2 * BITS);
    }
    // of 8 words, which take BITS bytes, 16 bytes are written: the next ones write over what is too much
    let mut packed = [0u8; 4 * 16];
    for (i, &[low, high]) in fours.as_chunks::<2>().0.iter().enumerate() {
        let eight = u128::from(low) | u128::from(high) << (4 * BITS);
        packed[i * BITS..i * BITS + 16].copy_from_slice(&eight.to_le_bytes());
    }
    bytes.copy_from_slice(&packed[..4 * BITS]);
}

/// The inverse of [`pack_short`].
#[inline(always)]
fn unpack_short<W: Word, const BITS: usize>(bytes: &[u8], block: &mut [W; 32]) {
    let mut packed = [0u8; 4 * 16];
    packed[..4 * BITS].copy_from_slice(bytes);
    let mut fours = [0u64; 8];
    for (i, [low, high]) in fours.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let mut sixteen = [0; 16];
        sixteen.copy_from_slice(&packed[i * BITS..i * BITS + 16]);
        let eight = u128::from_le_bytes(sixteen);
        (*low, *high) = (eight as u64, (eight >> (4 * BITS)) as u64);
    }
    let (word, pair) = (lanes(BITS, 32), lanes(2 * BITS, 64));
    for (four, words) in fours.iter().zip(block.as_chunks_mut::<4>().0) {
        let pairs = four & pair | (four >> (2 * BITS) & pair) << 32;
        let spread = pairs & word | (pairs >> BITS & word) << 16;
        *words = [0, 16, 32, 48].map(|at| W::of((spread >> at) as u32 & 0xffff));
    }
}

/// The lowest `bits` bits of every `apart` bits.
const fn lanes(bits: usize, apart: usize) -> u64 {
    let (one, mut all, mut at) = (u64::MAX >> (64 - bits), 0, 0);
    while at < 64 {
        all |= one << at;
        at += apart;
    }
    all
}

/// The inverse of [`pack_blocks`].
#[inline(always)]
fn unpack_blocks<W: Word, const BITS: usize>(bytes: &[u8], out: &mut [W]) -> usize {
    let first = simd::unpack::<W, BITS>(bytes, out);
    first + portable_unpack::<W, BITS>(&bytes[first / 8 * BITS..], &mut out[first..])
}

/// The inverse of [`portable_pack`].
#[inline(always)]
fn portable_unpack<W: Word, const BITS: usize>(bytes: &[u8], out: &mut [W]) -> usize {
    let mask = (u64::MAX >> (64 - BITS)) as u32;
    let done = out.len() / 32 * 32;
    let (blocks, _) = out.as_chunks_mut::<32>();
    for (block, bytes) in blocks.iter_mut().zip(bytes.chunks_exact(4 * BITS)) {
        if BITS <= 16 {
            unpack_short::<W, BITS>(bytes, block);
            continue;
        }
        let mut packed = bytes.chunks_exact(4);
        let (mut held, mut filled) = (0u64, 0);
        for word in block {
            if filled < BITS {
                let mut four = [0u8; 4];
                if let Some(next) = packed.next() {
                    four.copy_from_slice(next);
                }
                held |= u64::from(u32::from_le_bytes(four)) << filled;
                filled += 32;
            }
            *word = W::of(held as u32 & mask);
            held >>= BITS;
            filled -= BITS;
        }
    }
    done
}

fn pack_tail(words: impl Iterator<Item = u64>, bits: u32, dst: &mut [u8]) {
    let mask = (1u64 << bits) - 1;
    let mut bytes = dst.iter_mut();
    let (mut held, mut filled) = (0u64, 0);
    for word in words {
        held |= (word & mask) << filled;
        filled += bits;
        while filled >= 8 {
            if let Some(byte) = bytes.next() {
                *byte = held as u8;
            }
            held >>= 8;
            filled -= 8;
        }
    }
    if let Some(byte) = bytes.next() {
        *byte = held as u8;
    }
}

struct TailReader<'a> {
    bytes: std::slice::Iter<'a, u8>,
    held: u64,
    filled: u32,
    bits: u32,
}

impl<'a> TailReader<'a> {
    fn new(bytes: &'a [u8], bits: u32) -> Self {
        Self {
            bytes: bytes.iter(),
            held: 0,
            filled: 0,
            bits,
        }
    }

    fn next_word(&mut self) -> u64 {
        while self.filled < self.bits {
            self.held |= u64::from(self.bytes.next().copied().unwrap_or(0)) << self.filled;
            self.filled += 8;
        }
        let word = self.held & ((1u64 << self.bits) - 1);
        self.held >>= self.bits;
        self.filled -= self.bits;
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// One bit after the other, the definition.
    fn pack_by_bits(words: &[u64], bits: u32) -> Vec<u8> {
        let mut out = vec![0u8; (words.len() * bits as usize).div_ceil(8)];
        for (i, word) in words.iter().enumerate() {
            for j in 0..bits as usize {
                let at = i * bits as usize + j;
                out[at / 8] |= ((word >> j & 1) as u8) << (at % 8);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn words_of_every_width_packed_equal_the_definition_and_come_back(
            words in prop::collection::vec(any::<u32>(), 0..200), bits in 1u32..=32
        ) {
            let mut packed = vec![7u8];
            pack(&words, bits, &mut packed);
            let wide: Vec<u64> = words.iter().map(|&w| u64::from(w)).collect();
            prop_assert_eq!(&packed[1..], &pack_by_bits(&wide, bits)[..]);
            let mut back = vec![0u32; words.len()];
            unpack(&packed[1..], bits, &mut back).unwrap();
            let mask = (u64::MAX >> (64 - bits)) as u32;
            prop_assert_eq!(back, words.iter().map(|w| w & mask).collect::<Vec<_>>());
            if bits <= 16 {
                let short: Vec<u16> = words.iter().map(|&w| w as u16).collect();
                let mut again = vec![7u8];
                pack(&short, bits, &mut again);
                prop_assert_eq!(&again, &packed);
                let mut back = vec![0u16; words.len()];
                unpack(&packed[1..], bits, &mut back).unwrap();
                prop_assert_eq!(back, short.iter().map(|w| w & mask as u16).collect::<Vec<_>>());
            }
        }

        #[test]
        fn portable_kernels_of_every_width_equal_the_definition_and_come_back(
            words in prop::array::uniform32(any::<u32>()), bits in 1u32..=32
        ) {
            let mut packed = vec![7u8; packed_len(32, bits)];
            let (from, to) = (&words[..], &mut packed[..]);
            let done = for_width!(bits, portable_pack(from, to),
                [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32]);
            prop_assert_eq!(done, 32);
            prop_assert_eq!(&packed, &pack_by_bits(&words.map(u64::from), bits));
            let mut back = [0u32; 32];
            let (from, to) = (&packed[..], &mut back[..]);
            let done = for_width!(bits, portable_unpack(from, to),
                [1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32]);
            prop_assert_eq!(done, 32);
            prop_assert_eq!(back, words.map(|word| word & (u64::MAX >> (64 - bits)) as u32));
        }

        #[test]
        fn wide_words_packed_equal_the_definition_and_come_back(
            words in prop::collection::vec(any::<u64>(), 0..100), bits in 1u32..=57
        ) {
            let mut packed = Vec::new();
            pack_u64(&words, bits, &mut packed);
            prop_assert_eq!(&packed, &pack_by_bits(&words, bits));
            let mut back = vec![0; words.len()];
            unpack_u64(&packed, bits, &mut back).unwrap();
            prop_assert_eq!(back, words.iter().map(|w| w & ((1 << bits) - 1)).collect::<Vec<_>>());
        }

        #[test]
        fn bytes_of_another_length_are_refused(count in 0usize..70, bits in 1u32..=32, off in 1usize..5) {
            let expected = packed_len(count, bits);
            let error = LengthError { expected, got: expected + off };
            prop_assert_eq!(unpack(&vec![0; expected + off], bits, &mut vec![0u32; count]), Err(error));
        }
    }
}
