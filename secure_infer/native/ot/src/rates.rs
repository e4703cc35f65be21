//! Work of known size, for measuring what a processor can do; the caller holds the clock.
//!
//! What is computed here is thrown away; keys and tables are fixed numbers, nothing is secret.

use std::hint::black_box;

use crate::aes::AesKey;
use crate::ferret::code::{self, GROUP, SYMBOL, Secret, Stream, WORDS};
use crate::ferret::params::LOCALITY;
use crate::simd::Backend;

/// Encrypts at least `blocks` AES-128 blocks that never leave the registers; returns how many.
#[must_use]
pub fn aes_blocks(blocks: usize) -> usize {
    let (backend, key) = (Backend::detect(), AesKey::new(1));
    let (per_pass, _) = backend.spin(&key, 1);
    let (done, sum) = backend.spin(&key, blocks.div_ceil(per_pass));
    black_box(sum);
    done
}

/// Random reads of 64 bytes as `ferret` does them: the sums over rows of its code, in its table of 4 MiB.
pub struct RandomReads {
    secret: Box<Secret>,
    streams: Vec<Stream>,
}

impl Default for RandomReads {
    fn default() -> Self {
        Self::new()
    }
}

impl RandomReads {
    /// Reads of a group.
    const READS: usize = GROUP / SYMBOL * LOCALITY;
    /// Groups whose reads touch the whole table.
    const GROUPS: usize = 2048;

    /// Fills the table and draws the columns.
    #[must_use]
    pub fn new() -> Self {
        let (backend, key) = (Backend::detect(), AesKey::new(2));
        let mut streams = vec![[0; WORDS / 8]; Self::GROUPS];
        key.counter(backend, 0, 0, streams.as_flattened_mut());
        Self {
            secret: code::secret(&[]),
            streams,
        }
    }

    /// Makes at least `reads` reads; returns how many.
    #[must_use]
    pub fn run(&self, reads: usize) -> usize {
        let backend = Backend::detect();
        let mut blocks = [0; GROUP];
        let groups = reads.div_ceil(Self::READS);
        for group in 0..groups {
            let stream = &self.streams[group % Self::GROUPS];
            backend.add_rows::<false>(&self.secret, stream, &mut blocks);
        }
        black_box(blocks);
        groups * Self::READS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_work_is_at_least_what_was_asked_for() {
        for asked in [1, 1000, 100_003] {
            assert!((asked..asked + 64).contains(&aes_blocks(asked)));
            let reads = RandomReads::new().run(asked);
            assert!((asked..asked + RandomReads::READS).contains(&reads));
        }
    }

    #[test]
    fn kernels_encrypt_as_often_as_the_portable_twin() {
        let key = AesKey::new(5);
        for backend in Backend::available() {
            let (blocks, sum) = backend.spin(&key, 3);
            // Counters 0, 1, ... through three encryptions each, summed up.
            let mut expected: Vec<u128> = (0..blocks as u128 / 3).collect();
            for _ in 0..3 {
                key.encrypt(&mut expected);
            }
            assert_eq!(sum, expected.iter().fold(0, |sum, block| sum ^ block));
        }
    }
}
