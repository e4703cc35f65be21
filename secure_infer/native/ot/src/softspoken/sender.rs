//! The party with Delta. It only listens.

use blindread_pool::Workers;
use zeroize::ZeroizeOnDrop;

use super::expand::{
    KINDS, Keys, Kind, Nibble, OneOf4, RandomOt, Scratch, TWEAK, batch_chunks, batches, chunk_len,
    pad_mask, range_of,
};
use crate::Wire;
use crate::engine::OtSenderEngine;
use crate::error::{OtError, check_len};
use crate::planes::{self, CHUNK, ROW_LEN};
#[cfg(test)]
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
    keys: Keys,
    /// Entry x is x*Delta, nibble by nibble in F_16.
    multiples: [u128; 16],
    #[zeroize(skip)]
    workers: Workers,
    /// One per thread.
    scratch: Vec<Scratch>,
    /// Chunks used so far, by [`Kind::COUNTER`].
    used: [u64; KINDS],
}

/// What the hashing of a chunk needs besides its blocks.
struct Hashing<'a> {
    keys: &'a Keys,
    multiples: &'a [u128; 16],
    /// Of the chunk's first OT.
    tweak: u64,
}

/// Makes one batch of w (rows of the chunks) from its corrections.
fn batch<const PLANES: usize, K: Kind<PLANES>>(
    keys: &Keys,
    delta: u128,
    scratch: &mut Scratch,
    first: u64,
    corrections: &[u8],
) {
    let count = corrections.len() / chunk_len(PLANES);
    scratch.rows.fill([0; 2]);
    for tree in 0..TREES {
        let delta = std::array::from_fn(|j| (delta >> (4 * tree + j) & 1).wrapping_neg());
        if tree > 0 {
            let at = (tree - 1) * PLANES * ROW_LEN;
            let rows = scratch.rows.as_chunks_mut::<PLANES>().0;
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
        keys.tree::<PLANES, K>(scratch, tree, first, delta, count);
    }
}

impl OtSender {
    pub(super) fn new(delta: u128, leaves: &[u128], hash_keys: [u128; 2]) -> Self {
        Self {
            keys: Keys::new(leaves, 1, hash_keys),
            multiples: multiples(delta),
            scratch: Scratch::for_all(&Workers::one()),
            workers: Workers::one(),
            used: [0; KINDS],
        }
    }

    /// The same engine, which divides its work among these threads.
    #[must_use]
    pub fn with_workers(mut self, workers: &Workers) -> Self {
        self.scratch = Scratch::for_all(workers);
        self.workers = workers.clone();
        self
    }

    pub(crate) fn workers(&self) -> &Workers {
        &self.workers
    }

    /// As many shares w for u in F_2, not hashed, as there is room for.
    pub(crate) fn vole_f2(&mut self, wire: &mut dyn Wire, w: &mut [u128]) -> Result<(), OtError> {
        self.vole::<1, RandomOt>(wire, w)
    }

    /// As many shares w for u in F_16, not hashed, as there is room for.
    pub(crate) fn vole_f16(&mut self, wire: &mut dyn Wire, w: &mut [u128]) -> Result<(), OtError> {
        self.vole::<4, Nibble>(wire, w)
    }

    fn vole<const PLANES: usize, K: Kind<PLANES>>(
        &mut self,
        wire: &mut dyn Wire,
        w: &mut [u128],
    ) -> Result<(), OtError> {
        let chunks = w.len().div_ceil(CHUNK);
        let batches = w.chunks_mut(batch_chunks(PLANES) * CHUNK);
        self.extend::<PLANES, K, _>(chunks, wire, batches, |_, scratch, w, index| {
            let range = range_of(index, w.len());
            let w = &mut w[range];
            w.copy_from_slice(&scratch.blocks[..w.len()]);
        })
    }

    /// Entry x is x*Delta.
    pub(crate) fn multiples(&self) -> &[u128; 16] {
        &self.multiples
    }

    /// The public key of the hash.
    pub(crate) fn hash_key(&self) -> u128 {
        self.keys.hash.round_keys[0]
    }

    /// `chunks` chunks of OTs, batch by batch, with the room for the results of each in `out`. For each chunk, in order,
    /// `deliver` gets its shares w in the scratch's blocks, its batch's room and its number in the batch.
    fn extend<const PLANES: usize, K: Kind<PLANES>, O: Send>(
        &mut self,
        chunks: usize,
        wire: &mut dyn Wire,
        out: impl Iterator<Item = O> + Send,
        deliver: impl Fn(&Hashing<'_>, &mut Scratch, &mut O, usize) + Sync,
    ) -> Result<(), OtError> {
        let (keys, multiples) = (&self.keys, &self.multiples);
        let used = self.used[K::COUNTER];
        let batches = batches(chunks, PLANES)
            .zip(out)
            .map(|(batch, out)| (batch, out, Vec::new()));
        self.workers.stream(
            &mut self.scratch,
            wire,
            batches,
            |wire, (range, _, corrections)| wire.recv(range.len() * chunk_len(PLANES), corrections),
            |scratch, (range, out, corrections)| {
                let first = used + range.start as u64;
                batch::<PLANES, K>(keys, multiples[1], scratch, first, corrections);
                for index in 0..range.len() {
                    scratch.transpose(keys, index);
                    let hashing = Hashing {
                        keys,
                        multiples,
                        tweak: (first + index as u64) * CHUNK as u64,
                    };
                    deliver(&hashing, scratch, out, index);
                }
                Ok(())
            },
            |_, _| Ok(()),
        )?;
        self.used[K::COUNTER] += chunks as u64;
        Ok(())
    }
}

impl OtSenderEngine for OtSender {
    fn one_of_16(
        &mut self,
        n: usize,
        wire: &mut dyn Wire,
        pads: &mut [u16],
    ) -> Result<(), OtError> {
        check_len("pads of one-of-sixteen OTs", n, pads.len())?;
        let batches = pads.chunks_mut(batch_chunks(2) * CHUNK / 2);
        let chunks = 2 * n.div_ceil(CHUNK);
        self.extend::<2, OneOf4, _>(chunks, wire, batches, |hashing, scratch, pads, index| {
            let Scratch { blocks, other, .. } = scratch;
            if index % 2 == 0 {
                std::mem::swap(blocks, other);
                return;
            }
            let (keys, range) = (hashing.keys, range_of(index / 2, pads.len()));
            let multiples = F4.map(|x| hashing.multiples[x]);
            keys.pick
                .mmo_bits_of_4_by_4(keys.backend, other, blocks, &multiples, &mut pads[range]);
        })
    }

    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        wire: &mut dyn Wire,
        [pads0, pads1]: [&mut [u32]; 2],
    ) -> Result<(), OtError> {
        let mask = pad_mask(bits)?;
        check_len("pads of choice 0", n, pads0.len())?;
        check_len("pads of choice 1", n, pads1.len())?;
        let size = batch_chunks(1) * CHUNK;
        let batches = pads0.chunks_mut(size).zip(pads1.chunks_mut(size));
        let chunks = n.div_ceil(CHUNK);
        self.extend::<1, RandomOt, _>(chunks, wire, batches, |hashing, scratch, out, index| {
            let Scratch { blocks, other, .. } = scratch;
            let range = range_of(index, out.0.len());
            for (other, block) in other.iter_mut().zip(blocks.iter()) {
                *other = block ^ hashing.multiples[1];
            }
            for (blocks, pads) in [(blocks, &mut *out.0), (other, &mut *out.1)] {
                let (keys, tweak) = (hashing.keys, hashing.tweak);
                keys.hash.tmmo(keys.backend, TWEAK, tweak, &mut blocks[..]);
                for (pad, hash) in pads[range.clone()].iter_mut().zip(blocks.iter()) {
                    *pad = *hash as u32 & mask;
                }
            }
        })
    }
}

/// The elements of F_4 = {0, 1, a + a^2, 1 + a + a^2}, by the two bits of u.
const F4: [usize; 4] = [0, 1, 6, 7];

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
        let scratch = &mut self.scratch[0];
        batch::<PLANES, K>(&self.keys, self.multiples[1], scratch, 0, corrections);
        let mut w = Vec::new();
        for index in 0..batch_chunks(PLANES) {
            scratch.transpose(&self.keys, index);
            w.extend_from_slice(&scratch.blocks[..]);
        }
        (w, self.multiples)
    }

    pub(super) fn delta(&self) -> u128 {
        self.multiples[1]
    }

    pub(super) fn use_backend(&mut self, backend: Backend) {
        self.keys.backend = backend;
    }
}
