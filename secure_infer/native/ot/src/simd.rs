//! Run-time choice between the vector kernels and their portable twins.
//!
//! The only module of this crate with `unsafe` in it. `vector` has the three register widths behind one
//! trait, `kernels` the AES kernels written once over that trait, `matrix` the bit matrices, `gather` the sums over
//! rows of a local code.

use std::sync::OnceLock;

use crate::aes::{self, AesKey};
use crate::ferret::code::{self, GROUP, Secret, Stream};
use crate::ferret::tree;
use crate::planes::{self, CHUNK, Chunk, Combine, Row};

#[cfg(target_arch = "x86_64")]
mod gather;
#[cfg(target_arch = "x86_64")]
mod kernels;
#[cfg(target_arch = "x86_64")]
mod matrix;
#[cfg(target_arch = "x86_64")]
mod vector;

/// Which kernels to use, chosen once per engine.
///
/// Invariant: a value other than `Portable` exists only on a processor that has its features, because
/// [`Backend::available`] is the only place that makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backend(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// Plain Rust with the crate `aes`.
    Portable,
    /// AES-NI and AVX2: one block per instruction.
    #[cfg(target_arch = "x86_64")]
    AesNi,
    /// VAES and AVX2: two blocks.
    #[cfg(target_arch = "x86_64")]
    Vaes256,
    /// VAES and AVX-512: four blocks. Used only after [`agrees_with_portable`].
    #[cfg(target_arch = "x86_64")]
    Vaes512,
}

/// Calls the AES kernel of a backend's level.
macro_rules! dispatch {
    ($backend:ident, $portable:path, $kernel:ident $(::<$generic:ident>)? ($($argument:expr),*)) => {
        match $backend.0 {
            Level::Portable => $portable($($argument),*),
            // SAFETY, for all three: a backend of this level exists only where its features were detected.
            #[cfg(target_arch = "x86_64")]
            Level::AesNi => unsafe { kernels::aes_ni::$kernel$(::<$generic>)?($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            Level::Vaes256 => unsafe { kernels::vaes_256::$kernel$(::<$generic>)?($($argument),*) },
            #[cfg(target_arch = "x86_64")]
            Level::Vaes512 => unsafe { kernels::vaes_512::$kernel$(::<$generic>)?($($argument),*) },
        }
    };
}

impl Backend {
    pub(crate) const PORTABLE: Self = Self(Level::Portable);

    /// The fastest one that this processor has.
    pub(crate) fn detect() -> Self {
        static FASTEST: OnceLock<Backend> = OnceLock::new();
        *FASTEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self::PORTABLE))
    }

    /// All that this processor has, slowest first.
    pub(crate) fn available() -> Vec<Self> {
        let mut found = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("aes") && is_x86_feature_detected!("avx2") {
            found.push(Self(Level::AesNi));
            if is_x86_feature_detected!("vaes") {
                found.push(Self(Level::Vaes256));
                let wide = Self(Level::Vaes512);
                if is_x86_feature_detected!("avx512f") && agrees_with_portable(wide) {
                    found.push(wide);
                }
            }
        }
        found
    }

    pub(crate) fn counter(self, key: &AesKey, domain: u64, first: u64, out: &mut [u128]) {
        dispatch!(
            self,
            aes::portable_counter,
            counter(key, domain, first, out)
        );
    }

    /// Encrypts blocks `passes` times in place; how many encryptions that were, and a block that depends on them.
    pub(crate) fn spin(self, key: &AesKey, passes: usize) -> (usize, u128) {
        dispatch!(self, aes::portable_spin, spin(key, passes))
    }

    pub(crate) fn tmmo(self, key: &AesKey, domain: u64, first: u64, blocks: &mut [u128]) {
        dispatch!(self, aes::portable_tmmo, tmmo(key, domain, first, blocks));
    }

    pub(crate) fn mmo(self, key: &AesKey, blocks: &mut [u128]) {
        dispatch!(self, aes::portable_mmo, mmo(key, blocks));
    }

    pub(crate) fn mmo_bits_of_16(
        self,
        key: &AesKey,
        blocks: &[u128],
        multiples: &[u128; 16],
        out: &mut [u16],
    ) {
        dispatch!(
            self,
            aes::portable_mmo_bits_of_16,
            bits_of_16(key, blocks, multiples, out)
        );
    }

    pub(crate) fn mmo_bits_of_4_by_4(
        self,
        key: &AesKey,
        first: &[u128; CHUNK],
        second: &[u128; CHUNK],
        multiples: &[u128; 4],
        out: &mut [u16],
    ) {
        dispatch!(
            self,
            aes::portable_mmo_bits_of_4_by_4,
            bits_of_4_by_4(key, first, second, multiples, out)
        );
    }

    /// Children of the nodes in `left`, and the sums of both sides; see [`crate::ferret::tree`].
    pub(crate) fn grow<const SPLIT: bool>(
        self,
        key: &AesKey,
        left: &mut [u128],
        right: &mut [u128],
    ) -> [u128; 2] {
        debug_assert_eq!(left.len(), right.len());
        dispatch!(
            self,
            tree::portable_grow::<SPLIT>,
            grow::<SPLIT>(key, left, right)
        )
    }

    /// Adds to each symbol of a group what its row, whose columns are in the stream, makes of the secret.
    pub(crate) fn add_rows<const LARGE: bool>(
        self,
        secret: &Secret,
        stream: &Stream,
        blocks: &mut [u128; GROUP],
    ) {
        match self.0 {
            Level::Portable => code::portable_add_rows::<LARGE>(secret, stream, blocks),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: every level but `Portable` exists only where AVX2 was detected.
            _ => unsafe { gather::add_rows::<LARGE>(secret, stream, blocks) },
        }
    }

    /// [`Combine::run`].
    pub(crate) fn combine<const PLANES: usize>(
        self,
        combine: &Combine<'_, PLANES>,
        tree: usize,
        u: &mut [[Row; PLANES]],
        chunks: &mut [Chunk],
    ) {
        match self.0 {
            Level::Portable => combine.run(tree, u, chunks),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: every level but `Portable` exists only where AVX2 was detected.
            _ => unsafe { matrix::combine(combine, tree, u, chunks) },
        }
    }

    /// Bit i of block k becomes bit k of row i; the chunk's rows are used up.
    pub(crate) fn transpose(self, chunk: &mut Chunk, blocks: &mut [u128; CHUNK]) {
        match self.0 {
            Level::Portable => planes::portable_transpose(chunk, blocks),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: every level but `Portable` exists only where AVX2 was detected.
            _ => unsafe { matrix::transpose(chunk, blocks) },
        }
    }
}

/// Whether kernels that could not be run where they were written give what the portable ones give.
#[cfg(target_arch = "x86_64")]
fn agrees_with_portable(backend: Backend) -> bool {
    const LEN: usize = 75;
    let key = AesKey::new(u128::MAX / 7);
    let output = |backend: Backend| {
        let (mut stream, mut bits) = (vec![0; LEN], vec![0; LEN]);
        backend.counter(&key, 3, 1 << 33, &mut stream);
        let multiples = std::array::from_fn(|x| stream[LEN - 1 - x]);
        backend.mmo_bits_of_16(&key, &stream, &multiples, &mut bits);
        let (mut first, mut second) = ([0; CHUNK], [0; CHUNK]);
        backend.counter(&key, 5, 0, &mut first);
        backend.counter(&key, 6, 0, &mut second);
        let (four, mut pairs) = (std::array::from_fn(|x| stream[x]), vec![0; LEN]);
        backend.mmo_bits_of_4_by_4(&key, &first, &second, &four, &mut pairs);
        let mut hashes = stream.clone();
        backend.tmmo(&key, 7, 1 << 35, &mut hashes);
        let mut untweaked = stream.clone();
        backend.mmo(&key, &mut untweaked);
        let (mut left, mut right) = (stream.clone(), stream.clone());
        let sums = [
            backend.grow::<false>(&key, &mut left, &mut right),
            backend.grow::<true>(&key, &mut left, &mut right),
        ];
        (stream, bits, pairs, hashes, untweaked, left, right, sums)
    };
    output(backend) == output(Backend::PORTABLE)
}

#[cfg(test)]
mod tests;
