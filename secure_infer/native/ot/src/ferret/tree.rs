//! Correlated GGM trees: leaves whose level sums all differ by Delta, all but one of which the receiver may learn.
//!
//! Reference: X. Guo, K. Yang, X. Wang, W. Zhang, X. Xie, J. Zhang, Z. Liu, "Half-tree: halving the cost of
//! tree expansion in COT and DPF" (EUROCRYPT 2023, eprint 2022/1431), figures 4 (cGGM) and 6 (pcGGM).
//!
//! Level 0 has the nodes s and s + Delta. A node x has the children H(x) and H(x) + x, so that the nodes of every level
//! sum to Delta: who knows a level's left sum plus u*Delta knows its left or its right sum. Over F_16 the
//! last level has H(x) and H(x + 1) instead, which break the correlation.
//! H(x) = pi(sigma(x)) + sigma(x) with pi = AES under a public key and sigma(hi, lo) = (hi + lo, hi).
//!
//! Nodes are stored in place: children of node i of a level of width w are nodes i and w + i, so bit l of a leaf's
//! position is its branch at level l.
//! NOTE: in the receiver's tree one address per level depends on the (secret) position of the error.

use crate::aes::AesKey;
use crate::ferret::params::{BIN, LOG_BIN};
use crate::simd::Backend;

/// The leaves of one tree.
pub(super) type Leaves = [u128; BIN];

/// How a tree grows.
pub(super) struct Grower<'a> {
    pub(super) backend: Backend,
    /// The public key of pi.
    pub(super) key: &'a AesKey,
    /// Whether the last level is uncorrelated.
    pub(super) split_last: bool,
}

/// Left sum of every level, and the right sum of the last.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) left: [u128; LOG_BIN],
    pub(super) last_right: u128,
}

impl Grower<'_> {
    fn level(&self, level: usize, leaves: &mut Leaves) -> [u128; 2] {
        let (left, rest) = leaves.split_at_mut(1 << level);
        let right = &mut rest[..1 << level];
        if self.split_last && level + 1 == LOG_BIN {
            self.backend.grow::<true>(self.key, left, right)
        } else {
            self.backend.grow::<false>(self.key, left, right)
        }
    }

    /// All leaves under `root`.
    pub(super) fn full(&self, root: u128, delta: u128, leaves: &mut Leaves) -> Sums {
        (leaves[0], leaves[1]) = (root, root ^ delta);
        let mut sums = Sums {
            left: [root; LOG_BIN],
            last_right: 0,
        };
        for level in 1..LOG_BIN {
            [sums.left[level], sums.last_right] = self.level(level, leaves);
        }
        sums
    }

    /// All leaves but the one at `hole` (0 there), from the sum that is known of each level; returns their sum.
    pub(super) fn punctured(
        &self,
        hole: usize,
        known: &[u128; LOG_BIN],
        leaves: &mut Leaves,
    ) -> u128 {
        let mut at = hole & 1;
        (leaves[at], leaves[1 - at]) = (0, known[0]);
        let mut total = known[0];
        for (level, &known) in known.iter().enumerate().skip(1) {
            let sums = self.level(level, leaves);
            let branch = hole >> level & 1;
            let mask = (branch as u128).wrapping_neg();
            let known_side = sums[1] ^ ((sums[0] ^ sums[1]) & mask);
            let other_side = sums[0] ^ sums[1] ^ known_side;
            let sibling = at | (1 - branch) << level;
            at |= branch << level;
            leaves[sibling] ^= known ^ known_side;
            total = known ^ other_side ^ leaves[at];
            leaves[at] = 0;
        }
        total
    }
}

/// Portable twin of the tree kernels: children of the nodes in `left`, and the sums of both sides.
pub(crate) fn portable_grow<const SPLIT: bool>(
    key: &AesKey,
    left: &mut [u128],
    right: &mut [u128],
) -> [u128; 2] {
    let mut sums = [0; 2];
    for (left, right) in left.iter_mut().zip(right) {
        let mut pair = [sigma(*left), sigma(*left ^ 1)];
        let inputs = pair;
        key.encrypt(&mut pair);
        let parent = *left;
        *left = pair[0] ^ inputs[0];
        *right = if SPLIT {
            pair[1] ^ inputs[1]
        } else {
            *left ^ parent
        };
        sums[0] ^= *left;
        sums[1] ^= *right;
    }
    sums
}

fn sigma(x: u128) -> u128 {
    let high = x >> 64;
    x << 64 ^ high << 64 ^ high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctured_tree_any_hole_agrees_with_full_tree_but_there() {
        let key = AesKey::new(77);
        for split_last in [false, true] {
            let grower = Grower {
                backend: Backend::detect(),
                key: &key,
                split_last,
            };
            let delta = 0x1234_5678_9abc_def0_0fed_cba9_8765_4321;
            let (mut full, mut ours) = ([0; BIN], [1; BIN]);
            let sums = grower.full(0xfeed, delta, &mut full);
            let all = full.iter().fold(0, |sum, leaf| sum ^ leaf);
            assert_eq!(all == delta, !split_last);
            for hole in [0, 1, 2, 1023, 1024, 1365, BIN - 1] {
                let known = std::array::from_fn(|level| {
                    let right = if split_last && level + 1 == LOG_BIN {
                        sums.last_right
                    } else {
                        sums.left[level] ^ delta
                    };
                    [right, sums.left[level]][hole >> level & 1]
                });
                let total = grower.punctured(hole, &known, &mut ours);
                assert_eq!(total, all ^ full[hole]);
                for (at, (ours, full)) in ours.iter().zip(&full).enumerate() {
                    assert_eq!(*ours, if at == hole { 0 } else { *full });
                }
            }
            full.sort_unstable();
            assert!(full.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}
