//! GGM trees of depth 4: sixteen leaf seeds, all but one of which the OT sender may learn.
//!
//! Reference: the punctured PRF of SoftSpokenOT (eprint 2022/192), made from base OTs.
//!
//! Child b of a node s is AES_s("ggm" | b). Level l has the sums K_0, K_1 of its left and right children;
//! who misses leaf delta chooses, at level l, the sum on the side that its path does *not* take.
//! Leaf x lies at position x (the first level decides bit 3).

use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::Zeroize;

use crate::aes::AesKey;

/// Depth of a tree: Delta has this many bits per tree.
pub(crate) const DEPTH: usize = 4;
/// Leaves of a tree.
pub(crate) const LEAVES: usize = 1 << DEPTH;

const DOMAIN: u128 = (u64::from_le_bytes(*b"ggm tree") as u128) << 64;

fn children(seed: u128) -> [u128; 2] {
    let mut pair = [DOMAIN, DOMAIN | 1];
    AesKey::new(seed).encrypt(&mut pair);
    pair
}

fn expand_level(nodes: &[u128; LEAVES], width: usize) -> [u128; LEAVES] {
    let mut next = [0; LEAVES];
    for (pair, node) in next.chunks_exact_mut(2).zip(&nodes[..width]) {
        pair.copy_from_slice(&children(*node));
    }
    next
}

/// All leaves of the tree under `root`, and the two sums of each level.
pub(crate) fn full_tree(root: u128) -> ([u128; LEAVES], [[u128; 2]; DEPTH]) {
    let mut nodes = [0; LEAVES];
    nodes[0] = root;
    let mut sums = [[0; 2]; DEPTH];
    for (level, sum) in sums.iter_mut().enumerate() {
        let next = expand_level(&nodes, 1 << level);
        for (position, node) in next.iter().enumerate() {
            sum[position & 1] ^= node;
        }
        nodes.zeroize();
        nodes = next;
    }
    (nodes, sums)
}

/// The leaves of a tree but leaf `delta` (0 there), from the sums that `delta` permits.
///
/// No branch and no address depends on `delta`.
pub(crate) fn punctured_tree(delta: u8, sums: &[u128; DEPTH]) -> [u128; LEAVES] {
    let mut nodes = [0; LEAVES];
    let mut hole = 0_u8;
    for (level, sum) in sums.iter().enumerate() {
        let mut next = expand_level(&nodes, 1 << level);
        for (position, node) in next.iter_mut().enumerate() {
            let below_hole = (position as u8 >> 1).ct_eq(&hole);
            node.conditional_assign(&0, below_hole);
        }
        let step = delta >> (DEPTH - 1 - level) & 1;
        let known_side = 1 - step;
        let mut sibling = *sum;
        for pair in next.chunks_exact(2) {
            sibling ^= u128::conditional_select(&pair[0], &pair[1], Choice::from(known_side));
        }
        hole = 2 * hole + step;
        for (position, node) in next.iter_mut().enumerate() {
            node.conditional_assign(&sibling, (position as u8).ct_eq(&(hole ^ 1)));
        }
        nodes.zeroize();
        nodes = next;
    }
    nodes
}

/// Moves leaf x to position x ^ delta, so that the missing one comes first.
pub(crate) fn reindex(leaves: &mut [u128; LEAVES], delta: u8) {
    for bit in 0..DEPTH {
        let swap = Choice::from(delta >> bit & 1);
        for low in (0..LEAVES).filter(|x| x >> bit & 1 == 0) {
            let (mut a, mut b) = (leaves[low], leaves[low | 1 << bit]);
            u128::conditional_swap(&mut a, &mut b, swap);
            (leaves[low], leaves[low | 1 << bit]) = (a, b);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn punctured_tree_every_delta_agrees_with_full_tree_but_at_delta() {
        let (leaves, sums) = full_tree(0x0123_4567_89ab_cdef_u128);
        for delta in 0..16_u8 {
            let chosen: [u128; DEPTH] = std::array::from_fn(|level| {
                sums[level][usize::from(1 - (delta >> (3 - level) & 1))]
            });
            let mut punctured = punctured_tree(delta, &chosen);
            for (x, (ours, theirs)) in punctured.iter().zip(&leaves).enumerate() {
                assert_eq!(*ours, if x == usize::from(delta) { 0 } else { *theirs });
            }
            reindex(&mut punctured, delta);
            assert_eq!(punctured[0], 0);
            assert_eq!(
                punctured[5],
                if delta == 5 {
                    leaves[0]
                } else {
                    leaves[usize::from(5 ^ delta)]
                }
            );
        }
    }

    #[test]
    fn full_tree_leaves_are_distinct() {
        let (mut leaves, _) = full_tree(7);
        leaves.sort_unstable();
        assert!(leaves.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
