//! What both parties do with their leaves: streams, butterfly, transposition, a chunk at a time.
//!
//! Batches are independent of each other: streams and tweaks are indexed by the number of the chunk in the connection, and
//! so threads may take batches in any order.

use std::ops::{Deref, DerefMut, Range};

use blindread_pool::Workers;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::OtError;
use crate::aes::AesKey;
use crate::ggm::LEAVES;
use crate::planes::{CHUNK, Chunk, Combine, ROW_LEN, Row, STREAM_BLOCKS, Streams};
use crate::simd::Backend;
use crate::softspoken::TREES;

/// A kind of extension, by the number of bits of u.
pub(super) trait Kind<const PLANES: usize> {
    /// Which of a party's two counters of used chunks.
    const COUNTER: usize;
    /// High half of the counters of this kind's leaf streams.
    const STREAM: u64;
}

/// u in F_2.
pub(super) struct RandomOt;
/// u in F_4: two of them are a one-of-sixteen OT.
pub(super) struct OneOf4;
/// u in F_16, not hashed here.
pub(super) struct Nibble;

/// Kinds of extension: counters that a party keeps.
pub(super) const KINDS: usize = 3;

/// High half of the tweaks with which random OTs are hashed.
pub(super) const TWEAK: u64 = u64::from_le_bytes(*b"sso1 tcr");

impl Kind<1> for RandomOt {
    const COUNTER: usize = 0;
    const STREAM: u64 = u64::from_le_bytes(*b"sso1 prg");
}

impl Kind<2> for OneOf4 {
    const COUNTER: usize = 1;
    const STREAM: u64 = u64::from_le_bytes(*b"sso2 prg");
}

impl Kind<4> for Nibble {
    const COUNTER: usize = 2;
    const STREAM: u64 = u64::from_le_bytes(*b"sso4 prg");
}

/// Bytes of corrections for one chunk.
pub(super) const fn chunk_len(planes: usize) -> usize {
    (TREES - 1) * planes * ROW_LEN
}

/// Chunks in one batch.
pub(super) const fn batch_chunks(planes: usize) -> usize {
    STREAM_BLOCKS * 128 / CHUNK / planes
}

const MAX_CHUNKS: usize = batch_chunks(1);

/// Bytes of corrections for `n` one-of-sixteen OTs.
#[must_use]
pub const fn one_of_16_len(n: usize) -> usize {
    n.div_ceil(CHUNK).saturating_mul(2 * chunk_len(2))
}

/// Bytes of corrections for `n` random OTs.
#[must_use]
pub const fn random_ot_len(n: usize) -> usize {
    n.div_ceil(CHUNK).saturating_mul(chunk_len(1))
}

/// Leaf keys and hashes of one party.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Keys {
    #[zeroize(skip)]
    pub(super) backend: Backend,
    /// Key 16 i + x is leaf x of tree i.
    leaves: Vec<AesKey>,
    /// For one-of-two OTs.
    pub(super) hash: AesKey,
    /// For one-of-sixteen OTs.
    pub(super) pick: AesKey,
    /// The first leaf that is known: 1 for the OT sender (leaves reindexed by Delta).
    first_leaf: usize,
}

/// Begins at the beginning of a cache line: no vector of 64 bytes lies across two.
#[derive(Zeroize)]
#[repr(align(64))]
pub(super) struct Aligned<T>(T);

impl<T> Deref for Aligned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Aligned<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

/// Work space of one thread, for one batch at a time; other threads' are two cache lines away, which processors move
/// together.
#[derive(Zeroize, ZeroizeOnDrop)]
#[repr(align(128))]
pub(super) struct Scratch {
    streams: Box<Aligned<Streams>>,
    chunks: Vec<Chunk>,
    /// The current tree's rows of corrections, then of u.
    pub(super) rows: [Row; MAX_CHUNKS],
    /// u of tree 0.
    pub(super) first: [Row; MAX_CHUNKS],
    pub(super) blocks: Box<Aligned<[u128; CHUNK]>>,
    /// The sender's other blocks w + Delta of random OTs; the first of two one-of-four OTs.
    pub(super) other: Box<Aligned<[u128; CHUNK]>>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            streams: Box::new(Aligned([[0; STREAM_BLOCKS]; LEAVES])),
            chunks: (0..MAX_CHUNKS).map(|_| Chunk::ZERO).collect(),
            rows: [[0; 2]; MAX_CHUNKS],
            first: [[0; 2]; MAX_CHUNKS],
            blocks: Box::new(Aligned([0; CHUNK])),
            other: Box::new(Aligned([0; CHUNK])),
        }
    }

    /// One for each thread.
    pub(super) fn for_all(workers: &Workers) -> Vec<Self> {
        (0..workers.threads()).map(|_| Self::new()).collect()
    }

    /// Transposes chunk `index` of the batch into `blocks`.
    pub(super) fn transpose(&mut self, keys: &Keys, index: usize) {
        keys.backend
            .transpose(&mut self.chunks[index], &mut self.blocks);
    }
}

impl Keys {
    pub(super) fn new(leaves: &[u128], first_leaf: usize, hash_key: [u128; 2]) -> Self {
        let [hash, pick] = hash_key.map(AesKey::new);
        Self {
            backend: Backend::detect(),
            leaves: leaves.iter().map(|leaf| AesKey::new(*leaf)).collect(),
            hash,
            pick,
            first_leaf,
        }
    }

    /// Streams and rows of one tree for `count` chunks from chunk `first` of the connection on.
    ///
    /// The scratch's `rows` hold the corrections on entry (times `delta`, 0 for the receiver) and u on exit.
    pub(super) fn tree<const PLANES: usize, K: Kind<PLANES>>(
        &self,
        scratch: &mut Scratch,
        tree: usize,
        first: u64,
        delta: [u128; 4],
        count: usize,
    ) {
        let blocks = 2 * PLANES * count;
        let first_block = first * (2 * PLANES) as u64;
        for leaf in self.first_leaf..LEAVES {
            let stream = &mut scratch.streams[leaf][..blocks];
            self.leaves[LEAVES * tree + leaf].counter(self.backend, K::STREAM, first_block, stream);
        }
        let combine = Combine {
            streams: &scratch.streams,
            delta,
        };
        let rows = &mut scratch.rows.as_chunks_mut::<PLANES>().0[..count];
        self.backend
            .combine(&combine, tree, rows, &mut scratch.chunks[..count]);
    }
}

/// The batches of so many chunks.
pub(super) fn batches(chunks: usize, planes: usize) -> impl Iterator<Item = Range<usize>> + Send {
    let size = batch_chunks(planes);
    (0..chunks)
        .step_by(size)
        .map(move |start| start..chunks.min(start + size))
}

/// Where in a batch of `n` OTs chunk `index` lies.
pub(super) fn range_of(index: usize, n: usize) -> Range<usize> {
    index * CHUNK..n.min((index + 1) * CHUNK)
}

/// Ones at the lowest `bits` bits.
pub(crate) fn pad_mask(bits: u32) -> Result<u32, OtError> {
    if (1..=32).contains(&bits) {
        Ok(u32::MAX >> (32 - bits))
    } else {
        Err(OtError::Bits { got: bits })
    }
}
