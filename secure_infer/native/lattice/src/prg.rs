//! AES-128 in counter mode: the generator behind everything secret, and the expansion of public seeds.

use std::convert::Infallible;

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use aes::{Aes128, Block};
use rand_core::{CryptoRng, TryCryptoRng, TryRng};
use zeroize::Zeroize;

use crate::simd::widened;

pub(crate) const BUFFER: usize = 4096;

/// Bytes on whole cache lines, so that no vector straddles two.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(crate) struct Lines<const LEN: usize>(pub(crate) [u8; LEN]);

/// A cryptographic generator from a seed of 32 bytes: AES-128-CTR, key and first counter being the seed's halves.
///
/// Distinguishing costs 2^128 for the key; 2^32 blocks of one seed differ from random by 2^-65.
/// Neither printed nor cloned; zeroed on drop.
pub struct Prg {
    cipher: Aes128,
    counter: u128,
    buffer: Lines<BUFFER>,
    used: usize,
}

impl Prg {
    /// Starts the generator; the caller erases the seed.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        let (mut key, mut counter) = (Array::from([0u8; 16]), [0u8; 16]);
        key.copy_from_slice(&seed[..16]);
        counter.copy_from_slice(&seed[16..]);
        let prg = Self {
            cipher: Aes128::new(&key),
            counter: u128::from_le_bytes(counter),
            buffer: Lines([0; BUFFER]),
            used: BUFFER,
        };
        key.zeroize();
        counter.zeroize();
        prg
    }

    /// A generator seeded by another one.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let prg = Self::from_seed(&seed);
        seed.zeroize();
        prg
    }

    /// A second generator at the same place, for a thread that takes other buffers of the stream.
    pub(crate) fn fork(&self) -> Self {
        Self {
            cipher: self.cipher.clone(),
            counter: self.counter,
            buffer: self.buffer,
            used: self.used,
        }
    }

    /// Goes to where `origin`, which this is a fork of, would be after that many [`Self::refill`]s.
    pub(crate) fn seek(&mut self, origin: &Self, refills: usize) {
        let blocks = refills as u128 * (BUFFER / 16) as u128;
        self.counter = origin.counter.wrapping_add(blocks);
        self.used = BUFFER;
    }

    /// Fills any number of bytes; long runs go past the buffer.
    pub fn fill(&mut self, mut out: &mut [u8]) {
        let held = out.len().min(BUFFER - self.used);
        let (now, rest) = out.split_at_mut(held);
        now.copy_from_slice(&self.buffer.0[self.used..self.used + held]);
        self.used += held;
        out = rest;
        let (blocks, tail) = Array::slice_as_chunks_mut(out);
        stream(&self.cipher, &mut self.counter, blocks);
        if !tail.is_empty() {
            let count = tail.len();
            tail.copy_from_slice(&self.refill()[..count]);
            self.used = count;
        }
    }

    /// The next [`BUFFER`] bytes in place; what was left of the previous ones is dropped.
    ///
    /// For bulk sampling without copies to erase: the buffer is erased with the generator.
    pub(crate) fn refill(&mut self) -> &[u8; BUFFER] {
        let (blocks, _) = Array::slice_as_chunks_mut(&mut self.buffer.0);
        stream(&self.cipher, &mut self.counter, blocks);
        self.used = BUFFER;
        &self.buffer.0
    }
}

/// Zeroes bytes for good: the barrier makes the compiler believe that they are read afterwards. (A volatile write for
/// every single byte, as `zeroize` does it, would take as long as the sampling.)
fn erase(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

fn stream(cipher: &Aes128, counter: &mut u128, blocks: &mut [Block]) {
    // in pieces that stay in L1 between the two passes
    for blocks in blocks.chunks_mut(BUFFER / 16) {
        write_counters(*counter, blocks);
        *counter = counter.wrapping_add(blocks.len() as u128);
        cipher.encrypt_blocks(blocks);
    }
}

/// The blocks that count on from `first`.
fn write_counters(first: u128, blocks: &mut [Block]) {
    // a carry in every lane takes a third longer, and is needed once in 2^64 blocks
    let (low, high) = (first as u64, (first >> 64) as u64);
    if low.checked_add(blocks.len() as u64).is_none() {
        for (block, index) in blocks.iter_mut().zip(0..) {
            *block = Array(first.wrapping_add(index).to_le_bytes());
        }
        return;
    }
    widened(
        #[inline(always)]
        || {
            for (block, index) in blocks.iter_mut().zip(0..) {
                block.0[..8].copy_from_slice(&(low + index).to_le_bytes());
                block.0[8..].copy_from_slice(&high.to_le_bytes());
            }
        },
    );
}

impl TryRng for Prg {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        match self.buffer.0.get(self.used..).and_then(<[u8]>::first_chunk) {
            Some(held) => {
                bytes = *held;
                self.used += 8;
            }
            None => self.fill(&mut bytes),
        }
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        self.fill(dst);
        Ok(())
    }
}

impl TryCryptoRng for Prg {}

impl Drop for Prg {
    fn drop(&mut self) {
        erase(&mut self.buffer.0);
        self.counter.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::Rng;

    #[test]
    fn prg_of_a_known_key_gives_aes_blocks() {
        // FIPS 197, appendix C.1: key 000102..0f, plaintext 00112233..ff
        let mut seed = [0; 32];
        for i in 0..16 {
            seed[i] = i as u8;
            seed[16 + i] = (i * 0x11) as u8;
        }
        let mut out = [0; 16];
        Prg::from_seed(&seed).fill(&mut out);
        let expected = 0x69c4_e0d8_6a7b_0430_d8cd_b780_70b4_c55a_u128;
        assert_eq!(out, expected.to_be_bytes());
    }

    #[test]
    fn counters_count_in_128_bits() {
        let mut blocks = [Array([0; 16]); 70];
        for first in [5, u128::from(u64::MAX) - 40, u128::MAX - 40] {
            write_counters(first, &mut blocks);
            for (block, index) in blocks.iter().zip(0..) {
                assert_eq!(block.0, first.wrapping_add(index).to_le_bytes());
            }
        }
    }

    #[test]
    fn fork_reads_any_buffer_of_the_origins_stream() {
        let mut origin = Prg::from_seed(&[7; 32]);
        origin.fill(&mut [0; 100]);
        let mut fork = origin.fork();
        let place = origin.fork();
        let buffers: Vec<_> = (0..5).map(|_| *origin.refill()).collect();
        for index in [3, 0, 4, 1, 2, 2] {
            fork.seek(&place, index);
            assert_eq!(fork.refill(), &buffers[index]);
        }
    }

    #[test]
    fn prg_read_in_pieces_gives_the_same_stream() {
        let mut whole = vec![0; 20_000];
        Prg::from_seed(&[7; 32]).fill(&mut whole);
        let (mut pieces, mut prg) = (vec![0; 20_000], Prg::from_seed(&[7; 32]));
        for (i, piece) in pieces.chunks_mut(8).enumerate() {
            match i % 3 {
                0 => piece.copy_from_slice(&prg.next_u64().to_le_bytes()),
                1 => prg.fill(piece),
                _ => piece
                    .chunks_mut(4)
                    .for_each(|p| p.copy_from_slice(&prg.next_u32().to_le_bytes())),
            }
        }
        assert_eq!(whole, pieces);
    }
}
