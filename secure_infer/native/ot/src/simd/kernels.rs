//! The AES kernels, written once over [`Vector`] and compiled for each register width.

use super::vector::{Keys, Vector, encrypt, rounds};
use crate::aes::AesKey;
use crate::planes::CHUNK;

/// Registers in flight.
const WIDTH: usize = 8;
/// OTs whose sixteen hashes are computed side by side.
const OTS: usize = 2;
/// Blocks of the widest register.
const MAX_BLOCKS: usize = 4;

/// The tweaks `domain * 2^64 + first + k` of as many registers as asked for.
struct Tweaks<V> {
    next: V,
    step: V,
}

impl<V: Vector> Tweaks<V> {
    /// # Safety
    /// The features of `V`.
    #[inline(always)]
    unsafe fn new(domain: u64, first: u64) -> Self {
        let mut blocks = [0; MAX_BLOCKS];
        for (k, block) in blocks.iter_mut().enumerate() {
            *block = u128::from(domain) << 64 | u128::from(first.wrapping_add(k as u64));
        }
        let step = V::BLOCKS as u128;
        // SAFETY: features, by the contract of this function; `blocks` has at least V::BLOCKS elements.
        unsafe {
            Self {
                next: V::load(blocks.as_ptr()),
                step: V::broadcast(&step),
            }
        }
    }

    /// # Safety
    /// The features of `V`.
    #[inline(always)]
    unsafe fn take(&mut self) -> V {
        let taken = self.next;
        // SAFETY: features, by the contract of this function.
        self.next = unsafe { taken.add(self.step) };
        taken
    }
}

/// Runs the body for `WIDTH` registers of blocks at a time, then for single ones, the last one through a copy
/// when it is not full. In the body `$at` points to the blocks of `$count` registers.
macro_rules! in_registers {
    ($blocks:ident, $vector:ident, $at:ident, $count:ident => $body:block) => {{
        let mut groups = $blocks.chunks_exact_mut(WIDTH * $vector::BLOCKS);
        for group in groups.by_ref() {
            const $count: usize = WIDTH;
            let $at = group.as_mut_ptr();
            $body
        }
        let mut singles = groups.into_remainder().chunks_exact_mut($vector::BLOCKS);
        for single in singles.by_ref() {
            const $count: usize = 1;
            let $at = single.as_mut_ptr();
            $body
        }
        let rest = singles.into_remainder();
        if !rest.is_empty() {
            const $count: usize = 1;
            let mut copy = [0; MAX_BLOCKS];
            copy[..rest.len()].copy_from_slice(rest);
            let $at = copy.as_mut_ptr();
            $body
            rest.copy_from_slice(&copy[..rest.len()]);
        }
    }};
}

/// # Safety
/// The features of `V`.
#[inline(always)]
pub(super) unsafe fn counter<V: Vector>(key: &AesKey, domain: u64, first: u64, out: &mut [u128]) {
    // SAFETY: features, by the contract of this function; `at` points to COUNT * V::BLOCKS blocks.
    unsafe {
        let keys = Keys::<V>::new(&key.round_keys);
        let mut tweaks = Tweaks::<V>::new(domain, first);
        in_registers!(out, V, at, COUNT => {
            let mut state = [tweaks.next; COUNT];
            for block in &mut state {
                *block = tweaks.take();
            }
            encrypt(&keys, &mut state);
            for (k, block) in state.iter().enumerate() {
                block.store(at.add(k * V::BLOCKS));
            }
        });
    }
}

/// pi(pi(x) ^ i) ^ pi(x).
///
/// # Safety
/// The features of `V`.
#[inline(always)]
unsafe fn hash<V: Vector, const N: usize>(keys: &Keys<V>, state: &mut [V; N], tweaks: &[V; N]) {
    // SAFETY: features, by the contract of this function.
    unsafe {
        encrypt(keys, state);
        let once = *state;
        for (block, tweak) in state.iter_mut().zip(tweaks) {
            *block = block.xor(*tweak);
        }
        encrypt(keys, state);
        for (block, once) in state.iter_mut().zip(&once) {
            *block = block.xor(*once);
        }
    }
}

/// # Safety
/// The features of `V`.
#[inline(always)]
pub(super) unsafe fn tmmo<V: Vector>(key: &AesKey, domain: u64, first: u64, blocks: &mut [u128]) {
    // SAFETY: features, by the contract of this function; `at` points to COUNT * V::BLOCKS blocks.
    unsafe {
        let keys = Keys::<V>::new(&key.round_keys);
        let mut tweaks = Tweaks::<V>::new(domain, first);
        in_registers!(blocks, V, at, COUNT => {
            let mut state = [tweaks.next; COUNT];
            let mut taken = [tweaks.next; COUNT];
            for (k, (block, tweak)) in state.iter_mut().zip(&mut taken).enumerate() {
                *block = V::load(at.add(k * V::BLOCKS));
                *tweak = tweaks.take();
            }
            hash(&keys, &mut state, &taken);
            for (k, block) in state.iter().enumerate() {
                block.store(at.add(k * V::BLOCKS));
            }
        });
    }
}

/// pi(x) ^ x.
///
/// # Safety
/// The features of `V`.
#[inline(always)]
pub(super) unsafe fn mmo<V: Vector>(key: &AesKey, blocks: &mut [u128]) {
    // SAFETY: features, by the contract of this function; `at` points to COUNT * V::BLOCKS blocks.
    unsafe {
        let (keys, zero) = (Keys::<V>::new(&key.round_keys), V::broadcast(&0));
        in_registers!(blocks, V, at, COUNT => {
            let mut state = [zero; COUNT];
            for (k, block) in state.iter_mut().enumerate() {
                *block = V::load(at.add(k * V::BLOCKS));
            }
            let inputs = state;
            encrypt(&keys, &mut state);
            for (k, (block, input)) in state.iter().zip(inputs).enumerate() {
                block.xor(input).store(at.add(k * V::BLOCKS));
            }
        });
    }
}

/// Bit x of `out[k]`: bit x of pi(y) ^ y for y = `blocks[k] ^ multiples[x]`, [`OTS`] OTs at a time, four registers of each.
/// Register r of an OT has in its lanes the next V::BLOCKS entries; every entry has a bit of its own, so that they
/// add up without moving.
///
/// # Safety
/// The features of `V`.
#[inline(always)]
pub(super) unsafe fn bits_of_16<V: Vector>(
    key: &AesKey,
    blocks: &[u128],
    multiples: &[u128; 16],
    out: &mut [u16],
) {
    // What is added to a word comes first, with the first round key; the part of y in the result comes last.
    let mut table = [0; 16];
    let mut own = 0;
    for (x, (entry, multiple)) in table.iter_mut().zip(multiples).enumerate() {
        *entry = multiple ^ key.round_keys[0];
        own |= *multiple as u16 & 1 << x;
    }
    let single: [u128; 16] = std::array::from_fn(|x| 1 << x);
    // SAFETY: features, by the contract of this function; registers of `table` and `single` are loaded at multiples of
    // V::BLOCKS below 16; `lanes` has room for the widest register.
    unsafe {
        let keys = Keys::<V>::new(&key.round_keys);
        for (blocks, out) in blocks.chunks(OTS).zip(out.chunks_mut(OTS)) {
            let mut words = [V::broadcast(&0); OTS];
            let mut bits = words;
            for (k, word) in words.iter_mut().enumerate() {
                *word = V::broadcast(&blocks[k.min(blocks.len() - 1)]);
            }
            for first in (0..16).step_by(4 * V::BLOCKS) {
                let mut state = [words[0]; 4 * OTS];
                for r in 0..4 {
                    let entries = V::load(&raw const table[first + r * V::BLOCKS]);
                    for (ot, word) in words.iter().enumerate() {
                        state[4 * ot + r] = word.xor(entries);
                    }
                }
                rounds(&keys, &mut state);
                for r in 0..4 {
                    let mask = V::load(&raw const single[first + r * V::BLOCKS]);
                    for (ot, bits) in bits.iter_mut().enumerate() {
                        *bits = bits.xor(state[4 * ot + r].and(mask));
                    }
                }
            }
            for ((bits, block), out) in bits.iter().zip(blocks).zip(out) {
                let mut lanes = [0; MAX_BLOCKS];
                bits.store(lanes.as_mut_ptr());
                let sum = lanes.iter().fold(0, |sum, lane| sum ^ *lane as u16);
                *out = sum ^ own ^ *block as u16;
            }
        }
    }
}

/// Bit i of `out[k]`: bit i of pi(x) ^ x for x = `first[k]` ^ `multiples[i / 4]`, plus the same for
/// `second[k]` ^ `multiples[i % 4]`. Registers hold different tables, so nothing moves between lanes.
///
/// # Safety
/// The features of `V`.
#[inline(always)]
pub(super) unsafe fn bits_of_4_by_4<V: Vector>(
    key: &AesKey,
    first: &[u128; CHUNK],
    second: &[u128; CHUNK],
    multiples: &[u128; 4],
    out: &mut [u16],
) {
    const BITS: [[u128; 4]; 2] = [
        [0x000f, 0x00f0, 0x0f00, 0xf000],
        [0x1111, 0x2222, 0x4444, 0x8888],
    ];
    // SAFETY: features, by the contract of this function; registers are loaded at multiples of V::BLOCKS,
    // which divides CHUNK, below CHUNK; `lanes` has room for the widest register.
    unsafe {
        let (keys, zero) = (Keys::<V>::new(&key.round_keys), V::broadcast(&0));
        let (mut addends, mut masks) = ([zero; 8], [zero; 8]);
        for k in 0..8 {
            addends[k] = V::broadcast(&multiples[k % 4]);
            masks[k] = V::broadcast(&BITS[k / 4][k % 4]);
        }
        for (index, out) in out
            .chunks_mut(V::BLOCKS)
            .take(CHUNK / V::BLOCKS)
            .enumerate()
        {
            let at = index * V::BLOCKS;
            let words = [
                V::load(&raw const first[at]),
                V::load(&raw const second[at]),
            ];
            let mut state = [zero; 8];
            for (k, (block, addend)) in state.iter_mut().zip(&addends).enumerate() {
                *block = words[k / 4].xor(*addend);
            }
            let inputs = state;
            encrypt(&keys, &mut state);
            let mut bits = zero;
            for (k, block) in state.iter().enumerate() {
                bits = bits.xor(block.xor(inputs[k]).and(masks[k]));
            }
            let mut lanes = [0; MAX_BLOCKS];
            bits.store(lanes.as_mut_ptr());
            for (out, lane) in out.iter_mut().zip(lanes) {
                *out = lane as u16;
            }
        }
    }
}

/// H(x) = pi(sigma(x)) + sigma(x) of every block, sigma(hi, lo) = (hi + lo, hi).
///
/// # Safety
/// The features of `V`.
#[inline(always)]
unsafe fn half_tree_hash<V: Vector>(keys: &Keys<V>, high: V, state: &mut [V; WIDTH]) {
    // SAFETY: features, by the contract of this function.
    unsafe {
        for block in state.iter_mut() {
            *block = block.swap_halves().xor(block.and(high));
        }
        let inputs = *state;
        encrypt(keys, state);
        for (block, input) in state.iter_mut().zip(&inputs) {
            *block = block.xor(*input);
        }
    }
}

/// Left child H(x) and right child H(x) + x, or H(x + 1) if `SPLIT`, of every node x in `left`; the sums of both.
///
/// # Safety
/// The features of `V`.
#[inline(always)]
pub(super) unsafe fn grow<V: Vector, const SPLIT: bool>(
    key: &AesKey,
    left: &mut [u128],
    right: &mut [u128],
) -> [u128; 2] {
    let step = WIDTH * V::BLOCKS;
    let mut sums = [0; 2];
    // SAFETY: features, by the contract of this function; WIDTH registers fit in `step` blocks, and in the
    // spare ones; `lanes` has room for the widest register.
    unsafe {
        let keys = Keys::<V>::new(&key.round_keys);
        let mut totals = [V::broadcast(&0); 2];
        let mut lefts = left.chunks_exact_mut(step);
        let mut rights = right.chunks_exact_mut(step);
        for (left, right) in lefts.by_ref().zip(rights.by_ref()) {
            let grown = grow_step::<V, SPLIT>(&keys, left.as_mut_ptr(), right.as_mut_ptr());
            totals = [totals[0].xor(grown[0]), totals[1].xor(grown[1])];
        }
        let rest = [lefts.into_remainder(), rights.into_remainder()];
        if !rest[0].is_empty() {
            let mut spare = [[0; WIDTH * MAX_BLOCKS]; 2];
            spare[0][..rest[0].len()].copy_from_slice(rest[0]);
            let [from, to] = &mut spare;
            grow_step::<V, SPLIT>(&keys, from.as_mut_ptr(), to.as_mut_ptr());
            for ((nodes, spare), sum) in rest.into_iter().zip(&spare).zip(&mut sums) {
                nodes.copy_from_slice(&spare[..nodes.len()]);
                *sum = nodes.iter().fold(0, |sum, node| sum ^ node);
            }
        }
        for (sum, total) in sums.iter_mut().zip(totals) {
            let mut lanes = [0; MAX_BLOCKS];
            total.store(lanes.as_mut_ptr());
            *sum = lanes.iter().fold(*sum, |sum, lane| sum ^ lane);
        }
    }
    sums
}

/// [`grow`] for `WIDTH` registers of nodes; the sums, lane by lane.
///
/// # Safety
/// The features of `V`; both pointers are valid for `WIDTH * V::BLOCKS` blocks.
#[inline(always)]
unsafe fn grow_step<V: Vector, const SPLIT: bool>(
    keys: &Keys<V>,
    from: *mut u128,
    to: *mut u128,
) -> [V; 2] {
    // SAFETY: by the contract of this function.
    unsafe {
        let high = V::broadcast(&(u128::from(u64::MAX) << 64));
        let one = V::broadcast(&1);
        let mut totals = [V::broadcast(&0); 2];
        let mut parents = [one; WIDTH];
        for (k, parent) in parents.iter_mut().enumerate() {
            *parent = V::load(from.add(k * V::BLOCKS));
        }
        let mut lefts = parents;
        half_tree_hash(keys, high, &mut lefts);
        let mut rights = parents;
        for (block, left) in rights.iter_mut().zip(&lefts) {
            *block = block.xor(if SPLIT { one } else { *left });
        }
        if SPLIT {
            half_tree_hash(keys, high, &mut rights);
        }
        for (k, (left, right)) in lefts.iter().zip(&rights).enumerate() {
            left.store(from.add(k * V::BLOCKS));
            right.store(to.add(k * V::BLOCKS));
            totals = [totals[0].xor(*left), totals[1].xor(*right)];
        }
        totals
    }
}

/// Encrypts `WIDTH` registers in place `passes` times, for measuring: AES alone, no memory but the round keys.
/// Returns the blocks that were encrypted, and a block that depends on all of them.
///
/// # Safety
/// The features of `V`.
#[inline(always)]
pub(super) unsafe fn spin<V: Vector>(key: &AesKey, passes: usize) -> (usize, u128) {
    // SAFETY: features, by the contract of this function; `lanes` has room for the widest register.
    unsafe {
        let keys = Keys::<V>::new(&key.round_keys);
        let mut counters = Tweaks::<V>::new(0, 0);
        let mut state = [counters.next; WIDTH];
        state.iter_mut().for_each(|block| *block = counters.take());
        for _ in 0..passes {
            encrypt(&keys, &mut state);
        }
        let sum = state[1..]
            .iter()
            .fold(state[0], |sum, block| sum.xor(*block));
        let mut lanes = [0; MAX_BLOCKS];
        sum.store(lanes.as_mut_ptr());
        let sum = lanes.iter().fold(0, |sum, lane| sum ^ lane);
        (passes * WIDTH * V::BLOCKS, sum)
    }
}

/// The kernels for one register width.
macro_rules! entry_points {
    ($module:ident, $vector:ty, $features:literal) => {
        #[doc = concat!("Kernels that require ", $features, ".")]
        pub(super) mod $module {
            use crate::aes::AesKey;
            use crate::planes::CHUNK;
            use std::arch::x86_64::*;

            #[target_feature(enable = $features)]
            pub(in crate::simd) fn counter(
                key: &AesKey,
                domain: u64,
                first: u64,
                out: &mut [u128],
            ) {
                // SAFETY: the features are enabled for this function.
                unsafe { super::counter::<$vector>(key, domain, first, out) }
            }

            #[target_feature(enable = $features)]
            pub(in crate::simd) fn spin(key: &AesKey, passes: usize) -> (usize, u128) {
                // SAFETY: the features are enabled for this function.
                unsafe { super::spin::<$vector>(key, passes) }
            }

            #[target_feature(enable = $features)]
            pub(in crate::simd) fn tmmo(
                key: &AesKey,
                domain: u64,
                first: u64,
                blocks: &mut [u128],
            ) {
                // SAFETY: the features are enabled for this function.
                unsafe { super::tmmo::<$vector>(key, domain, first, blocks) }
            }

            #[target_feature(enable = $features)]
            pub(in crate::simd) fn mmo(key: &AesKey, blocks: &mut [u128]) {
                // SAFETY: the features are enabled for this function.
                unsafe { super::mmo::<$vector>(key, blocks) }
            }

            #[target_feature(enable = $features)]
            pub(in crate::simd) fn bits_of_16(
                key: &AesKey,
                blocks: &[u128],
                multiples: &[u128; 16],
                out: &mut [u16],
            ) {
                // SAFETY: the features are enabled for this function.
                unsafe { super::bits_of_16::<$vector>(key, blocks, multiples, out) }
            }

            #[target_feature(enable = $features)]
            pub(in crate::simd) fn bits_of_4_by_4(
                key: &AesKey,
                first: &[u128; CHUNK],
                second: &[u128; CHUNK],
                multiples: &[u128; 4],
                out: &mut [u16],
            ) {
                // SAFETY: the features are enabled for this function.
                unsafe { super::bits_of_4_by_4::<$vector>(key, first, second, multiples, out) }
            }

            #[target_feature(enable = $features)]
            pub(in crate::simd) fn grow<const SPLIT: bool>(
                key: &AesKey,
                left: &mut [u128],
                right: &mut [u128],
            ) -> [u128; 2] {
                // SAFETY: the features are enabled for this function.
                unsafe { super::grow::<$vector, SPLIT>(key, left, right) }
            }
        }
    };
}

entry_points!(aes_ni, __m128i, "aes,avx2");
entry_points!(vaes_256, __m256i, "aes,vaes,avx2");
entry_points!(vaes_512, __m512i, "aes,vaes,avx512f");
