//! The party with the (random) choices. It speaks alone.

use blindread_pool::Workers;
use zeroize::ZeroizeOnDrop;

use super::expand::{
    KINDS, Keys, Kind, Nibble, OneOf4, RandomOt, Scratch, TWEAK, batch_chunks, batches, chunk_len,
    pad_mask, range_of,
};
use crate::Wire;
use crate::engine::OtReceiverEngine;
use crate::error::{OtError, check_len};
use crate::planes::{self, CHUNK, ROW_LEN};
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
    keys: Keys,
    #[zeroize(skip)]
    workers: Workers,
    /// One per thread.
    scratch: Vec<Scratch>,
    /// Chunks used so far, by [`Kind::COUNTER`].
    used: [u64; KINDS],
}

/// Makes one batch of u (`scratch.first`) and v (rows of the chunks); `corrections` has room for exactly its chunks.
fn batch<const PLANES: usize, K: Kind<PLANES>>(
    keys: &Keys,
    scratch: &mut Scratch,
    first: u64,
    corrections: &mut [u8],
) {
    let count = corrections.len() / chunk_len(PLANES);
    keys.tree::<PLANES, K>(scratch, 0, first, [0; 4], count);
    scratch.first = scratch.rows;
    for tree in 1..TREES {
        keys.tree::<PLANES, K>(scratch, tree, first, [0; 4], count);
        let at = (tree - 1) * PLANES * ROW_LEN;
        let own = scratch.rows.as_chunks::<PLANES>().0;
        let first = scratch.first.as_chunks::<PLANES>().0;
        let messages = corrections.chunks_exact_mut(chunk_len(PLANES));
        for ((own, first), message) in own.iter().zip(first).zip(messages) {
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

impl OtReceiver {
    pub(super) fn new(leaves: &[u128], hash_keys: [u128; 2]) -> Self {
        Self {
            keys: Keys::new(leaves, 0, hash_keys),
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

    /// As many u in F_2 and shares v, not hashed, as there is room for.
    pub(crate) fn vole_f2(
        &mut self,
        wire: &mut dyn Wire,
        u: &mut [u8],
        v: &mut [u128],
    ) -> Result<(), OtError> {
        self.vole::<1, RandomOt>(wire, u, v)
    }

    /// As many u in F_16 and shares v, not hashed, as there is room for.
    pub(crate) fn vole_f16(
        &mut self,
        wire: &mut dyn Wire,
        u: &mut [u8],
        v: &mut [u128],
    ) -> Result<(), OtError> {
        self.vole::<4, Nibble>(wire, u, v)
    }

    fn vole<const PLANES: usize, K: Kind<PLANES>>(
        &mut self,
        wire: &mut dyn Wire,
        u: &mut [u8],
        v: &mut [u128],
    ) -> Result<(), OtError> {
        self.correlate::<PLANES, K, _>(wire, u, v, |_, _, blocks, v| {
            v.copy_from_slice(&blocks[..v.len()]);
        })
    }

    /// The public key of the hash.
    pub(crate) fn hash_key(&self) -> u128 {
        self.keys.hash.round_keys[0]
    }

    /// As many OTs as there is room for in `u` and `out`. For each chunk, `deliver` gets its first tweak, the shares v
    /// and its part of `out`.
    fn correlate<const PLANES: usize, K: Kind<PLANES>, T: Send>(
        &mut self,
        wire: &mut dyn Wire,
        u: &mut [u8],
        out: &mut [T],
        deliver: impl Fn(&Keys, u64, &mut [u128; CHUNK], &mut [T]) + Sync,
    ) -> Result<(), OtError> {
        let chunks = out.len().div_ceil(CHUNK);
        let size = batch_chunks(PLANES) * CHUNK;
        let batches = u.chunks_mut(size).zip(out.chunks_mut(size));
        self.extend::<PLANES, K, _>(
            chunks,
            wire,
            batches,
            |keys, tweak, scratch, batch, index| {
                let (u, out) = batch;
                let range = range_of(index, out.len());
                let rows = &scratch.first.as_chunks::<PLANES>().0[index];
                planes::elements(rows, &mut u[range.clone()]);
                deliver(keys, tweak, &mut scratch.blocks, &mut out[range]);
            },
        )
    }

    /// `chunks` chunks of OTs, batch by batch, with the room for the results of each in `out`. For each chunk, in order,
    /// `deliver` gets its first tweak, its shares v in the scratch's blocks and u in the scratch's `first`, its batch's
    /// room and its number in the batch.
    fn extend<const PLANES: usize, K: Kind<PLANES>, O: Send>(
        &mut self,
        chunks: usize,
        wire: &mut dyn Wire,
        out: impl Iterator<Item = O> + Send,
        deliver: impl Fn(&Keys, u64, &mut Scratch, &mut O, usize) + Sync,
    ) -> Result<(), OtError> {
        let (keys, used) = (&self.keys, self.used[K::COUNTER]);
        let batches = batches(chunks, PLANES)
            .zip(out)
            .map(|(batch, out)| (batch, out, Vec::new()));
        self.workers.stream(
            &mut self.scratch,
            wire,
            batches,
            |_, _| Ok(()),
            |scratch, (range, out, corrections)| {
                let first = used + range.start as u64;
                corrections.resize(range.len() * chunk_len(PLANES), 0);
                batch::<PLANES, K>(keys, scratch, first, corrections);
                for index in 0..range.len() {
                    scratch.transpose(keys, index);
                    let tweak = (first + index as u64) * CHUNK as u64;
                    deliver(keys, tweak, scratch, out, index);
                }
                Ok(())
            },
            |wire, (_, _, corrections)| wire.send(corrections),
        )?;
        self.used[K::COUNTER] += chunks as u64;
        Ok(())
    }
}

impl OtReceiverEngine for OtReceiver {
    fn one_of_16(
        &mut self,
        n: usize,
        wire: &mut dyn Wire,
        omega: &mut [u8],
        pads: &mut [u8],
    ) -> Result<(), OtError> {
        check_len("omega of one-of-sixteen OTs", n, omega.len())?;
        check_len("pads of one-of-sixteen OTs", n, pads.len())?;
        let size = batch_chunks(2) * CHUNK / 2;
        let batches = omega.chunks_mut(size).zip(pads.chunks_mut(size));
        let chunks = 2 * n.div_ceil(CHUNK);
        self.extend::<2, OneOf4, _>(chunks, wire, batches, |keys, _, scratch, batch, index| {
            let Scratch {
                blocks,
                other,
                first,
                ..
            } = scratch;
            keys.pick.mmo(keys.backend, &mut blocks[..]);
            if index % 2 == 0 {
                std::mem::swap(blocks, other);
                return;
            }
            let range = range_of(index / 2, batch.0.len());
            let (omega, pads) = (&mut batch.0[range.clone()], &mut batch.1[range]);
            let rows = first.as_chunks::<2>().0;
            let ([low, middle], [high, top]) = (rows[index], rows[index - 1]);
            planes::elements(&[low, middle, high, top], omega);
            for (((pad, omega), first), second) in
                pads.iter_mut().zip(omega).zip(&other[..]).zip(&blocks[..])
            {
                *pad = ((first ^ second) >> *omega) as u8 & 1;
            }
        })
    }

    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        wire: &mut dyn Wire,
        choices: &mut [u8],
        pads: &mut [u32],
    ) -> Result<(), OtError> {
        check_len("choices of random OTs", n, choices.len())?;
        check_len("pads of random OTs", n, pads.len())?;
        let mask = pad_mask(bits)?;
        self.correlate::<1, RandomOt, _>(wire, choices, pads, |keys, tweak, blocks, pads| {
            keys.hash.tmmo(keys.backend, TWEAK, tweak, blocks);
            for (pad, hash) in pads.iter_mut().zip(blocks) {
                *pad = *hash as u32 & mask;
            }
        })
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
        *corrections = vec![0; count * chunk_len(PLANES)];
        let scratch = &mut self.scratch[0];
        batch::<PLANES, K>(&self.keys, scratch, 0, corrections);
        let mut u = vec![0; count * CHUNK];
        for (rows, u) in scratch
            .first
            .as_chunks::<PLANES>()
            .0
            .iter()
            .zip(u.chunks_mut(CHUNK))
        {
            planes::elements(rows, u);
        }
        let mut v = Vec::new();
        for index in 0..count {
            scratch.transpose(&self.keys, index);
            v.extend_from_slice(&scratch.blocks[..]);
        }
        (u, v)
    }

    pub(super) fn use_backend(&mut self, backend: crate::simd::Backend) {
        self.keys.backend = backend;
    }
}
