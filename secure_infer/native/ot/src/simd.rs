//! Run-time choice between the vector kernels and their portable twins.

use crate::aes::{self, AesKey};
use crate::planes::{self, CHUNK, Chunk, Combine, Row};

/// Which kernels to use, chosen once per engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Plain Rust with the crate `aes`.
    Portable,
}

impl Backend {
    /// The fastest one that this processor has.
    pub(crate) fn detect() -> Self {
        Self::Portable
    }

    pub(crate) fn counter(self, key: &AesKey, domain: u64, first: u64, out: &mut [u128]) {
        aes::portable_counter(key, domain, first, out);
    }

    pub(crate) fn tmmo(self, key: &AesKey, domain: u64, first: u64, blocks: &mut [u128]) {
        aes::portable_tmmo(key, domain, first, blocks);
    }

    pub(crate) fn tmmo_bits_of_16(
        self,
        key: &AesKey,
        domain: u64,
        first: u64,
        blocks: &[u128],
        multiples: &[u128; 16],
        out: &mut [u16],
    ) {
        aes::portable_tmmo_bits_of_16(key, domain, first, blocks, multiples, out);
    }

    pub(crate) fn combine<const PLANES: usize>(
        self,
        combine: &Combine<'_, PLANES>,
        tree: usize,
        u: &mut [[Row; PLANES]],
        chunks: &mut [Chunk],
    ) {
        combine.run(tree, u, chunks);
    }

    pub(crate) fn transpose(self, chunk: &Chunk, blocks: &mut [u128; CHUNK]) {
        planes::portable_transpose(chunk, blocks);
    }
}
