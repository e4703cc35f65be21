//! The party with the (random) choices. It speaks alone.

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::expand::{
    Expander, Kind, OneOf16, RandomOt, batch_chunks, chunk_len, one_of_16_len, pad_mask,
    random_ot_len,
};
use crate::engine::OtReceiverEngine;
use crate::error::{OtError, check_len};
use crate::planes::{self, CHUNK, ROW_LEN, Row};
use crate::softspoken::TREES;

/// SoftSpokenOT receiver: random choices u, shares v with w = v + u*Delta.
///
/// A secret: it is neither copied nor printed.
/// ```compile_fail
/// fn copied<T: Clone>() {}
/// copied::<blindread_ot::OtReceiver>();
/// ```
/// ```compile_fail
/// fn printed<T: std::fmt::Debug>() {}
/// printed::<blindread_ot::OtReceiver>();
/// ```
#[derive(ZeroizeOnDrop)]
pub struct OtReceiver {
    expander: Expander,
    /// Chunks used so far, by [`Kind::COUNTER`].
    used: [u64; 2],
}

/// u of all chunks of a batch: that of tree 0, and that of the current tree.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Choices<const PLANES: usize> {
    first: Vec<[Row; PLANES]>,
    tree: Vec<[Row; PLANES]>,
}

impl OtReceiver {
    pub(super) fn new(leaves: &[u128], hash_keys: [u128; 2]) -> Self {
        Self {
            expander: Expander::new(leaves, 0, hash_keys),
            used: [0; 2],
        }
    }

    /// Makes one batch; `corrections` has room for exactly `choices.first.len()` chunks.
    fn batch<const PLANES: usize, K: Kind<PLANES>>(
        &mut self,
        first: u64,
        choices: &mut Choices<PLANES>,
        corrections: &mut [u8],
    ) {
        self.expander
            .tree::<PLANES, K>(0, first, [0; 4], &mut choices.first);
        for tree in 1..TREES {
            self.expander
                .tree::<PLANES, K>(tree, first, [0; 4], &mut choices.tree);
            let at = (tree - 1) * PLANES * ROW_LEN;
            let messages = corrections.chunks_exact_mut(chunk_len(PLANES));
            for ((own, first), message) in choices.tree.iter().zip(&choices.first).zip(messages) {
                for plane in 0..PLANES {
                    let correction = [
                        own[plane][0] ^ first[plane][0],
                        own[plane][1] ^ first[plane][1],
                    ];
                    message[at + plane * ROW_LEN..][..ROW_LEN]
                        .copy_from_slice(&planes::row_bytes(&correction));
                }
            }
        }
    }

    /// All batches of `n` OTs. For each chunk, `deliver` gets its choices, its hashes and where it begins.
    fn extend<const PLANES: usize, K: Kind<PLANES>>(
        &mut self,
        n: usize,
        corrections: &mut Vec<u8>,
        mut deliver: impl FnMut(std::ops::Range<usize>, &[Row; PLANES], &[u128; CHUNK]),
    ) {
        self.correlate::<PLANES, K>(n, corrections, |range, rows, expander, tweak| {
            K::hash(expander, tweak);
            deliver(range, rows, &expander.blocks);
        });
    }

    /// As many u in F_2 and shares v, not hashed, as there is room for.
    pub(crate) fn vole_f2(&mut self, corrections: &mut Vec<u8>, u: &mut [u8], v: &mut [u128]) {
        self.vole::<1, RandomOt>(corrections, u, v);
    }

    /// As many u in F_16 and shares v, not hashed, as there is room for.
    pub(crate) fn vole_f16(&mut self, corrections: &mut Vec<u8>, u: &mut [u8], v: &mut [u128]) {
        self.vole::<4, OneOf16>(corrections, u, v);
    }

    fn vole<const PLANES: usize, K: Kind<PLANES>>(
        &mut self,
        corrections: &mut Vec<u8>,
        u: &mut [u8],
        v: &mut [u128],
    ) {
        self.correlate::<PLANES, K>(v.len(), corrections, |range, rows, expander, _| {
            planes::elements(rows, &mut u[range.clone()]);
            let v = &mut v[range];
            v.copy_from_slice(&expander.blocks[..v.len()]);
        });
    }

    /// The public key of the hash.
    pub(crate) fn hash_key(&self) -> u128 {
        self.expander.hash.round_keys[0]
    }

    /// All batches of `n` OTs. For each chunk, `deliver` gets where it begins, its choices, the shares v in the
    /// expander's blocks, and its first tweak.
    fn correlate<const PLANES: usize, K: Kind<PLANES>>(
        &mut self,
        n: usize,
        corrections: &mut Vec<u8>,
        mut deliver: impl FnMut(std::ops::Range<usize>, &[Row; PLANES], &mut Expander, u64),
    ) {
        let chunks = n.div_ceil(CHUNK);
        let begin = corrections.len();
        corrections.resize(begin + chunks * chunk_len(PLANES), 0);
        let mut choices = Choices {
            first: Vec::new(),
            tree: Vec::new(),
        };
        let mut done = 0;
        for message in corrections[begin..].chunks_mut(batch_chunks(PLANES) * chunk_len(PLANES)) {
            let count = message.len() / chunk_len(PLANES);
            choices.first.resize(count, [[0; 2]; PLANES]);
            choices.tree.resize(count, [[0; 2]; PLANES]);
            let first = self.used[K::COUNTER];
            self.batch::<PLANES, K>(first, &mut choices, message);
            for (index, choices) in choices.first.iter().enumerate() {
                self.expander.transpose(index);
                let tweak = (first + index as u64) * CHUNK as u64;
                let range = done..n.min(done + CHUNK);
                deliver(range, choices, &mut self.expander, tweak);
                done += CHUNK;
            }
            self.used[K::COUNTER] += count as u64;
        }
    }
}

impl OtReceiverEngine for OtReceiver {
    fn one_of_16_len(&self, n: usize) -> usize {
        one_of_16_len(n)
    }

    fn random_ot_len(&self, n: usize) -> usize {
        random_ot_len(n)
    }

    fn one_of_16(
        &mut self,
        n: usize,
        corrections: &mut Vec<u8>,
        omega: &mut [u8],
        pads: &mut [u8],
    ) -> Result<(), OtError> {
        check_len("omega of one-of-sixteen OTs", n, omega.len())?;
        check_len("pads of one-of-sixteen OTs", n, pads.len())?;
        self.extend::<4, OneOf16>(n, corrections, |range, rows, hashes| {
            planes::elements(rows, &mut omega[range.clone()]);
            for (pad, hash) in pads[range].iter_mut().zip(hashes) {
                *pad = *hash as u8 & 1;
            }
        });
        Ok(())
    }

    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        corrections: &mut Vec<u8>,
        choices: &mut [u8],
        pads: &mut [u32],
    ) -> Result<(), OtError> {
        check_len("choices of random OTs", n, choices.len())?;
        check_len("pads of random OTs", n, pads.len())?;
        let mask = pad_mask(bits)?;
        self.extend::<1, RandomOt>(n, corrections, |range, rows, hashes| {
            planes::elements(rows, &mut choices[range.clone()]);
            for (pad, hash) in pads[range].iter_mut().zip(hashes) {
                *pad = *hash as u32 & mask;
            }
        });
        Ok(())
    }
}

#[cfg(test)]
impl OtReceiver {
    /// One batch of u (elements) and v, not hashed.
    pub(super) fn vole_batch<const PLANES: usize, K: Kind<PLANES>>(
        &mut self,
        corrections: &mut Vec<u8>,
    ) -> (Vec<u8>, Vec<u128>) {
        let count = batch_chunks(PLANES);
        let rows = vec![[[0; 2]; PLANES]; count];
        let mut choices = Choices {
            first: rows.clone(),
            tree: rows,
        };
        *corrections = vec![0; count * chunk_len(PLANES)];
        self.batch::<PLANES, K>(0, &mut choices, corrections);
        let mut u = vec![0; count * CHUNK];
        for (rows, u) in choices.first.iter().zip(u.chunks_mut(CHUNK)) {
            planes::elements(rows, u);
        }
        let v = (0..count)
            .flat_map(|index| *self.expander.transpose(index))
            .collect();
        (u, v)
    }

    pub(super) fn use_backend(&mut self, backend: crate::simd::Backend) {
        self.expander.backend = backend;
    }
}
