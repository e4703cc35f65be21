//! AES-128 in wide batches: a PRG in counter mode and a hash for correlated OT.
//!
//! Reference: FIPS 197; C. Guo, J. Katz, X. Wang, Y. Yu, "Efficient and secure multiparty computation
//! from fixed-key block ciphers" (eprint 2019/074), the construction TMMO; L. Roy, "SoftSpokenOT" (eprint
//! 2022/192) (TCR hash for linear correlations).
//!
//! A block is a `u128` whose little-endian bytes are the cipher's bytes.
//! - [`AesKey::counter`]: block c is AES(domain * 2^64 + c), the AES key is the secret seed.
//! - [`AesKey::tmmo`]: H(x, i) = pi(pi(x) ^ i) ^ pi(x) with pi = AES under a *public* key. In the ideal
//!   cipher model it is tweakable circular correlation robust, with Delta of 128 bits of entropy. Two AES
//!   calls per hash.
//! - [`AesKey::mmo_bits_of_16`]: bit x of pi(y) ^ y for y = w + x*Delta, all x of F_16. One AES call per hash.
//! - [`AesKey::mmo_bits_of_4_by_4`]: sixteen bits of pi(y) ^ y for y = w + x*Delta, all x of F_4, of two OTs; sum
//!   i of the 16 is one bit of hash i / 4 of the first OT plus one of hash i % 4 of the second, and each bit of a
//!   hash is used once.
//!   Both in the ideal cipher model it is correlation robust, which is what semi-honest OT extension needs (same
//!   paper, section 4): all y differ but with probability 2^-60, since w and v are pseudorandom in an honest
//!   run, so no tweak is needed; and the output, a single masked bit, is never fed back, so neither is
//!   circularity. Its bound is that of TMMO.
//!
//! NOTE: against a receiver that deviates a tweakable hash is needed here as well: 8 or 16 AES calls more per
//! one-of-sixteen OT for the sender.
//!
//! NOTE: the key of pi is public but fresh per connection and direction (it is a hash of the base-OT
//! transcript), where the paper has one key for all: connections then use independent permutations and
//! an attacker gains nothing from collecting hashes of many of them.

use aes::cipher::{Array, BlockCipherEncrypt, KeyInit};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::planes::CHUNK;
use crate::simd::Backend;

/// Rounds of AES-128, so there are `ROUNDS + 1` round keys.
pub(crate) const ROUNDS: usize = 10;

/// An expanded AES-128 key. The first round key is the key itself.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(crate) struct AesKey {
    pub(crate) round_keys: [u128; ROUNDS + 1],
}

impl AesKey {
    /// Expands `key`, without look-ups that depend on it.
    pub(crate) fn new(key: u128) -> Self {
        let mut round_keys = [0; ROUNDS + 1];
        round_keys[0] = key;
        let mut rcon = 1_u32;
        for round in 1..=ROUNDS {
            round_keys[round] = next_round_key(round_keys[round - 1], rcon);
            rcon = (rcon << 1) ^ ((rcon >> 7) * 0x11b);
        }
        Self { round_keys }
    }

    /// Fills `out` with the stream of this key in `domain`, from block number `first` on.
    pub(crate) fn counter(&self, backend: Backend, domain: u64, first: u64, out: &mut [u128]) {
        backend.counter(self, domain, first, out);
    }

    /// Replaces block k by its hash under the tweak `domain * 2^64 + first + k`.
    pub(crate) fn tmmo(&self, backend: Backend, domain: u64, first: u64, blocks: &mut [u128]) {
        backend.tmmo(self, domain, first, blocks);
    }

    /// Replaces block y by pi(y) ^ y.
    pub(crate) fn mmo(&self, backend: Backend, blocks: &mut [u128]) {
        backend.mmo(self, blocks);
    }

    /// Bit x of `out[k]`: bit x of pi(y) ^ y for y = `blocks[k] ^ multiples[x]`.
    pub(crate) fn mmo_bits_of_16(
        &self,
        backend: Backend,
        blocks: &[u128],
        multiples: &[u128; 16],
        out: &mut [u16],
    ) {
        debug_assert_eq!(blocks.len(), out.len());
        backend.mmo_bits_of_16(self, blocks, multiples, out);
    }

    /// Bit i of `out[k]`: bit i of pi(y) ^ y for y = `first[k] ^ multiples[i / 4]`, plus bit i of the same for
    /// y = `second[k] ^ multiples[i % 4]`. At most a chunk.
    pub(crate) fn mmo_bits_of_4_by_4(
        &self,
        backend: Backend,
        first: &[u128; CHUNK],
        second: &[u128; CHUNK],
        multiples: &[u128; 4],
        out: &mut [u16],
    ) {
        debug_assert!(out.len() <= CHUNK);
        backend.mmo_bits_of_4_by_4(self, first, second, multiples, out);
    }

    /// Encrypts a few blocks (set-up only).
    pub(crate) fn encrypt(&self, blocks: &mut [u128]) {
        portable_encrypt(&self.cipher(), blocks);
    }

    fn cipher(&self) -> aes::Aes128 {
        aes::Aes128::new(&Array(self.round_keys[0].to_le_bytes()))
    }
}

/// The key schedule of FIPS 197, section 5.2.
fn next_round_key(previous: u128, rcon: u32) -> u128 {
    let word = |k: u32| (previous >> (32 * k)) as u32;
    let mut next = 0;
    let mut carry = sub_word(word(3)).rotate_right(8) ^ rcon;
    for k in 0..4 {
        carry ^= word(k);
        next |= u128::from(carry) << (32 * k);
    }
    next
}

/// The S-box on four bytes: one AES round without MixColumns on four equal columns (ShiftRows is idle).
fn sub_word(word: u32) -> u32 {
    let column = u128::from(word);
    let mut block = Array((column | column << 32 | column << 64 | column << 96).to_le_bytes());
    aes::hazmat::cipher_round(&mut block, &Array([0; 16]));
    aes::hazmat::inv_mix_columns(&mut block);
    u128::from_le_bytes(block.0) as u32
}

/// Blocks that the portable code hands to the crate `aes` at once.
const PORTABLE_WIDTH: usize = 16;

fn portable_encrypt(cipher: &aes::Aes128, blocks: &mut [u128]) {
    let mut bytes = [Array([0; 16]); PORTABLE_WIDTH];
    for chunk in blocks.chunks_mut(PORTABLE_WIDTH) {
        for (to, from) in bytes.iter_mut().zip(chunk.iter()) {
            to.0 = from.to_le_bytes();
        }
        cipher.encrypt_blocks(&mut bytes[..chunk.len()]);
        for (to, from) in chunk.iter_mut().zip(&bytes) {
            *to = u128::from_le_bytes(from.0);
        }
    }
    for block in &mut bytes {
        block.0.zeroize();
    }
}

/// Portable twin of the counter kernels.
pub(crate) fn portable_counter(key: &AesKey, domain: u64, first: u64, out: &mut [u128]) {
    for (k, block) in out.iter_mut().enumerate() {
        *block = tweak(domain, first, k);
    }
    portable_encrypt(&key.cipher(), out);
}

/// Portable twin of the measuring kernels, with a batch of its own width.
pub(crate) fn portable_spin(key: &AesKey, passes: usize) -> (usize, u128) {
    let cipher = key.cipher();
    let mut blocks: [u128; PORTABLE_WIDTH] = std::array::from_fn(|k| tweak(0, 0, k));
    for _ in 0..passes {
        portable_encrypt(&cipher, &mut blocks);
    }
    let sum = blocks.iter().fold(0, |sum, block| sum ^ block);
    (passes * PORTABLE_WIDTH, sum)
}

/// Portable twin of the hash kernels.
pub(crate) fn portable_tmmo(key: &AesKey, domain: u64, first: u64, blocks: &mut [u128]) {
    portable_tmmo_with(&key.cipher(), blocks, |k| tweak(domain, first, k));
}

/// Portable twin of the untweaked hash kernels.
pub(crate) fn portable_mmo(key: &AesKey, blocks: &mut [u128]) {
    let cipher = key.cipher();
    let mut inputs = [0; PORTABLE_WIDTH];
    for chunk in blocks.chunks_mut(PORTABLE_WIDTH) {
        inputs[..chunk.len()].copy_from_slice(chunk);
        portable_encrypt(&cipher, chunk);
        for (block, input) in chunk.iter_mut().zip(&inputs) {
            *block ^= input;
        }
    }
    inputs.zeroize();
}

/// Portable twin of the one-of-sixteen hash kernels.
pub(crate) fn portable_mmo_bits_of_16(
    key: &AesKey,
    blocks: &[u128],
    multiples: &[u128; 16],
    out: &mut [u16],
) {
    let cipher = key.cipher();
    let mut hashes = [0; 16];
    for (block, bits) in blocks.iter().zip(out.iter_mut()) {
        for (hash, multiple) in hashes.iter_mut().zip(multiples) {
            *hash = block ^ multiple;
        }
        portable_encrypt(&cipher, &mut hashes);
        *bits = 0;
        for (x, (hash, multiple)) in hashes.iter().zip(multiples).enumerate() {
            *bits |= (hash ^ block ^ multiple) as u16 & 1 << x;
        }
    }
    hashes.zeroize();
}

/// Portable twin of the hash kernels of pairs of one-of-four OTs.
pub(crate) fn portable_mmo_bits_of_4_by_4(
    key: &AesKey,
    first: &[u128; CHUNK],
    second: &[u128; CHUNK],
    multiples: &[u128; 4],
    out: &mut [u16],
) {
    let cipher = key.cipher();
    let mut hashes = [0; 8];
    for ((first, second), bits) in first.iter().zip(second).zip(out.iter_mut()) {
        for (k, multiple) in multiples.iter().enumerate() {
            (hashes[k], hashes[4 + k]) = (first ^ multiple, second ^ multiple);
        }
        let inputs = hashes;
        portable_encrypt(&cipher, &mut hashes);
        for (hash, input) in hashes.iter_mut().zip(inputs) {
            *hash ^= input;
        }
        *bits = 0;
        for i in 0..16 {
            *bits |= ((hashes[i / 4] ^ hashes[4 + i % 4]) >> i & 1) as u16 * (1 << i);
        }
    }
    hashes.zeroize();
}

fn portable_tmmo_with(cipher: &aes::Aes128, blocks: &mut [u128], tweak: impl Fn(usize) -> u128) {
    let mut inner = [0; PORTABLE_WIDTH];
    for (chunk_index, chunk) in blocks.chunks_mut(PORTABLE_WIDTH).enumerate() {
        portable_encrypt(cipher, chunk);
        for (k, (once, block)) in inner.iter_mut().zip(chunk.iter_mut()).enumerate() {
            *once = *block;
            *block ^= tweak(chunk_index * PORTABLE_WIDTH + k);
        }
        portable_encrypt(cipher, chunk);
        for (block, once) in chunk.iter_mut().zip(&inner) {
            *block ^= once;
        }
    }
    inner.zeroize();
}

fn tweak(domain: u64, first: u64, k: usize) -> u128 {
    u128::from(domain) << 64 | u128::from(first.wrapping_add(k as u64))
}

#[cfg(test)]
mod tests;
