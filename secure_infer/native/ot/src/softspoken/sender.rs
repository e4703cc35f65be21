//! The party with Delta. It only listens.

use zeroize::{ZeroizeOnDrop, Zeroizing};

use super::expand::{
    Expander, Kind, OneOf16, RandomOt, batch_chunks, chunk_len, one_of_16_len, pad_mask,
    random_ot_len,
};
use crate::aes::AesKey;
use crate::engine::OtSenderEngine;
use crate::error::{OtError, check_len};
use crate::planes::{self, CHUNK, ROW_LEN, Row};
use crate::simd::Backend;
use crate::softspoken::TREES;

/// SoftSpokenOT sender: Delta and shares w = v + u*Delta.
///
/// A secret: it is neither copied nor printed.
/// ```compile_fail
/// fn copied<T: Clone>() {}
/// copied::<blindread_ot::OtSender>();
/// ```
/// ```compile_fail
/// fn printed<T: std::fmt::Debug>() {}
/// printed::<blindread_ot::OtSender>();
/// ```
#[derive(ZeroizeOnDrop)]
pub struct OtSender {
    expander: Expander,
    /// Entry x is x*Delta, nibble by nibble in F_16.
    multiples: [u128; 16],
    /// Chunks used so far, by [`Kind::COUNTER`].
    used: [u64; 2],
}

/// Where the hashing of a chunk finds what it needs.
struct Hashing<'a> {
    backend: Backend,
    key: &'a AesKey,
    pick: &'a AesKey,
    tweak: u64,
    multiples: &'a [u128; 16],
}

impl OtSender {
    pub(super) fn new(delta: u128, leaves: &[u128], hash_keys: [u128; 2]) -> Self {
        Self {
            expander: Expander::new(leaves, 1, hash_keys),
            multiples: multiples(delta),
            used: [0; 2],
        }
    }

    /// As many shares w for u in F_2, not hashed, as there is room for.
    pub(crate) fn vole_f2(&mut self, corrections: &[u8], w: &mut [u128]) {
        self.vole::<1, RandomOt>(corrections, w);
    }

    /// As many shares w for u in F_16, not hashed, as there is room for.
    pub(crate) fn vole_f16(&mut self, corrections: &[u8], w: &mut [u128]) {
        self.vole::<4, OneOf16>(corrections, w);
    }

    fn vole<const PLANES: usize, K: Kind<PLANES>>(&mut self, corrections: &[u8], w: &mut [u128]) {
        self.extend::<PLANES, K>(w.len(), corrections, |range, _, blocks| {
            let w = &mut w[range];
            w.copy_from_slice(&blocks[..w.len()]);
        });
    }

    /// Entry x is x*Delta.
    pub(crate) fn multiples(&self) -> &[u128; 16] {
        &self.multiples
    }

    /// The public key of the hash.
    pub(crate) fn hash_key(&self) -> u128 {
        self.expander.hash.round_keys[0]
    }

    /// Makes one batch from its corrections.
    fn batch<const PLANES: usize, K: Kind<PLANES>>(
        &mut self,
        first: u64,
        rows: &mut [[Row; PLANES]],
        corrections: &[u8],
    ) {
        for tree in 0..TREES {
            let delta =
                std::array::from_fn(|j| (self.multiples[1] >> (4 * tree + j) & 1).wrapping_neg());
            if tree == 0 {
                rows.fill([[0; 2]; PLANES]);
            } else {
                let at = (tree - 1) * PLANES * ROW_LEN;
                for (rows, message) in rows
                    .iter_mut()
                    .zip(corrections.chunks_exact(chunk_len(PLANES)))
                {
                    let message = &message[at..at + PLANES * ROW_LEN];
                    for (row, bytes) in rows.iter_mut().zip(message.as_chunks::<ROW_LEN>().0) {
                        *row = planes::row_from_bytes(bytes);
                    }
                }
            }
            self.expander.tree::<PLANES, K>(tree, first, delta, rows);
        }
    }

    /// All batches; for each chunk, `deliver` hashes its blocks w into the range it is given.
    fn extend<const PLANES: usize, K: Kind<PLANES>>(
        &mut self,
        n: usize,
        corrections: &[u8],
        mut deliver: impl FnMut(std::ops::Range<usize>, &Hashing<'_>, &mut [u128; CHUNK]),
    ) {
        let mut rows = Zeroizing::new(vec![[[0; 2]; PLANES]; batch_chunks(PLANES)]);
        let mut done = 0;
        for message in corrections.chunks(batch_chunks(PLANES) * chunk_len(PLANES)) {
            let count = message.len() / chunk_len(PLANES);
            let first = self.used[K::COUNTER];
            self.batch::<PLANES, K>(first, &mut rows[..count], message);
            for index in 0..count {
                self.expander.transpose(index);
                let Expander {
                    backend,
                    hash,
                    pick,
                    blocks,
                    ..
                } = &mut self.expander;
                let tweak = (first + index as u64) * CHUNK as u64;
                let hashing = Hashing {
                    backend: *backend,
                    key: hash,
                    pick,
                    tweak,
                    multiples: &self.multiples,
                };
                deliver(done..n.min(done + CHUNK), &hashing, blocks);
                done += CHUNK;
            }
            self.used[K::COUNTER] += count as u64;
        }
    }
}

impl OtSenderEngine for OtSender {
    fn one_of_16_len(&self, n: usize) -> usize {
        one_of_16_len(n)
    }

    fn random_ot_len(&self, n: usize) -> usize {
        random_ot_len(n)
    }

    fn one_of_16(&mut self, n: usize, corrections: &[u8], pads: &mut [u16]) -> Result<(), OtError> {
        check_len(
            "corrections of one-of-sixteen OTs",
            one_of_16_len(n),
            corrections.len(),
        )?;
        check_len("pads of one-of-sixteen OTs", n, pads.len())?;
        self.extend::<4, OneOf16>(n, corrections, |range, hashing, blocks| {
            let pads = &mut pads[range];
            let blocks = &blocks[..pads.len()];
            let (backend, multiples) = (hashing.backend, hashing.multiples);
            hashing
                .pick
                .mmo_bits_of_16(backend, blocks, multiples, pads);
        });
        Ok(())
    }

    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        corrections: &[u8],
        pads0: &mut [u32],
        pads1: &mut [u32],
    ) -> Result<(), OtError> {
        let mask = pad_mask(bits)?;
        check_len(
            "corrections of random OTs",
            random_ot_len(n),
            corrections.len(),
        )?;
        check_len("pads of choice 0", n, pads0.len())?;
        check_len("pads of choice 1", n, pads1.len())?;
        let mut other = Zeroizing::new([0; CHUNK]);
        self.extend::<1, RandomOt>(n, corrections, |range, hashing, blocks| {
            for (other, block) in other.iter_mut().zip(blocks.iter()) {
                *other = block ^ hashing.multiples[1];
            }
            for (blocks, pads) in [(blocks, &mut *pads0), (&mut *other, &mut *pads1)] {
                hashing
                    .key
                    .tmmo(hashing.backend, RandomOt::TWEAK, hashing.tweak, blocks);
                for (pad, hash) in pads[range.clone()].iter_mut().zip(blocks.iter()) {
                    *pad = *hash as u32 & mask;
                }
            }
        });
        Ok(())
    }
}

/// x*Delta for all x: doubling in every nibble, then sums.
fn multiples(delta: u128) -> [u128; 16] {
    const LOW: u128 = u128::from_le_bytes([0x11; 16]);
    let mut powers = [delta; 4];
    for j in 1..4 {
        let carry = powers[j - 1] >> 3 & LOW;
        powers[j] = (powers[j - 1] & (LOW * 7)) << 1 ^ carry ^ carry << 1;
    }
    std::array::from_fn(|x| {
        (0..4)
            .filter(|j| x >> j & 1 == 1)
            .fold(0, |sum, j| sum ^ powers[j])
    })
}

#[cfg(test)]
impl OtSender {
    /// One batch of w, not hashed, and all x*Delta.
    pub(super) fn vole_batch<const PLANES: usize, K: Kind<PLANES>>(
        &mut self,
        corrections: &[u8],
    ) -> (Vec<u128>, [u128; 16]) {
        let count = batch_chunks(PLANES);
        self.batch::<PLANES, K>(0, &mut vec![[[0; 2]; PLANES]; count], corrections);
        (
            (0..count)
                .flat_map(|index| *self.expander.transpose(index))
                .collect(),
            self.multiples,
        )
    }

    pub(super) fn delta(&self) -> u128 {
        self.multiples[1]
    }

    pub(super) fn use_backend(&mut self, backend: Backend) {
        self.expander.backend = backend;
    }
}
