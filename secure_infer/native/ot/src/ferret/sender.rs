//! The party with Delta. It answers refills.

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::code::GROUP;
use super::params::{K, LOG_BIN, TREES};
use super::tree::{Grower, Leaves, Sums};
use super::{
    Coins, LAST_LEVEL, Public, Round, Supply, TREE_OTS, TWEAK, boxed, corrections_len, due, seeds,
    values_len,
};
use crate::engine::{OtKind, OtSenderEngine, Refill};
use crate::error::{OtError, check_len};
use crate::softspoken::{OtSender, pad_mask};

/// Ferret sender: Delta and shares w = v + u*Delta.
///
/// A secret: it is neither copied nor printed.
/// ```compile_fail
/// fn copied<T: Clone>() {}
/// copied::<blindread_ot::FerretSender>();
/// ```
/// ```compile_fail
/// fn printed<T: std::fmt::Debug>() {}
/// printed::<blindread_ot::FerretSender>();
/// ```
pub struct FerretSender {
    public: Public,
    /// Makes the first round of each kind, with the same Delta.
    bootstrap: OtSender,
    coins: Coins,
    pub(super) bits: Supply<false, SenderRound>,
    pub(super) nibbles: Supply<true, SenderRound>,
    /// Trees over F_16 ever grown.
    trees: u64,
}

/// w of the LPN secret, and a tree per bin.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct SenderRound {
    base: Box<[u128; K]>,
    roots: Vec<u128>,
    delta: u128,
}

impl Round for SenderRound {
    fn base(&self) -> &[u128; K] {
        &self.base
    }

    fn leaves(&self, grower: &Grower<'_>, tree: usize, leaves: &mut Leaves) {
        grower.full(self.roots[tree], self.delta, leaves);
    }
}

/// Trees that a thread grows before it asks for more.
const TREES_AT_ONCE: usize = 64;

/// The next samples of a supply, not hashed; `w` holds whole groups.
fn draw<const LARGE: bool>(
    supply: &mut Supply<LARGE, SenderRound>,
    public: &Public,
    w: &mut [u128],
) -> Result<(), OtError> {
    let groups = w.as_chunks_mut::<GROUP>().0.iter_mut();
    supply.groups(public, groups, |made, w| *w = *made.blocks)
}

impl FerretSender {
    /// Starts from an engine that has not made any OT yet, and takes over its threads; `rng` gives the seed of all later
    /// coins.
    #[must_use]
    pub fn new(bootstrap: OtSender, rng: &mut impl CryptoRng) -> Self {
        let workers = bootstrap.workers().clone();
        Self {
            public: Public::new(bootstrap.hash_key(), &workers),
            bootstrap,
            coins: Coins::new(rng),
            bits: Supply::new(&workers),
            nibbles: Supply::new(&workers),
            trees: 0,
        }
    }

    fn delta(&self) -> u128 {
        self.bootstrap.multiples()[1]
    }

    /// New trees and their sums, from fresh roots.
    fn grow(&mut self, large: bool) -> (Vec<u128>, Vec<Sums>) {
        let mut roots = vec![0; TREES];
        self.coins.fill(self.public.backend, &mut roots);
        let (grower, delta) = (self.public.grower(large), self.delta());
        let mut sums = vec![Sums::default(); TREES];
        let blocks = roots
            .chunks(TREES_AT_ONCE)
            .zip(sums.chunks_mut(TREES_AT_ONCE));
        self.public.workers.each_with(
            &mut self.bits.scratch,
            blocks,
            |scratch, (roots, sums): (&[u128], &mut [Sums])| {
                for (root, sums) in roots.iter().zip(sums) {
                    *sums = grower.full(*root, delta, &mut scratch.leaves);
                }
            },
        );
        (roots, sums)
    }

    fn round(&self, seeds: &[u128], roots: Vec<u128>) -> SenderRound {
        let mut base = boxed();
        base.copy_from_slice(&seeds[..K]);
        SenderRound {
            base,
            roots,
            delta: self.delta(),
        }
    }

    fn refill_bits(&mut self, request: &[u8], answer: &mut Vec<u8>) -> Result<(), OtError> {
        let mut w = Zeroizing::new(vec![0; seeds(false)]);
        if self.bits.level().started {
            draw(&mut self.bits, &self.public, &mut w)?;
        } else {
            self.bootstrap.vole_f2(request, &mut w);
        }
        let (roots, sums) = self.grow(false);
        for (sums, w) in sums.iter().zip(w[K..].as_chunks::<LOG_BIN>().0) {
            push_levels(&sums.left, w, answer);
        }
        let round = self.round(&w, roots);
        self.bits.rounds.push_back(round);
        Ok(())
    }

    fn refill_nibbles(&mut self, request: &[u8], answer: &mut Vec<u8>) -> Result<(), OtError> {
        self.bits.check_ready(TREE_OTS)?;
        let mut w = Zeroizing::new(vec![0; seeds(true)]);
        let (corrections, values) = request.split_at(request.len() - values_len(true));
        if self.nibbles.level().started {
            draw(&mut self.nibbles, &self.public, &mut w)?;
        } else {
            self.bootstrap.vole_f16(corrections, &mut w);
        }
        let mut ots = Zeroizing::new(vec![0; TREE_OTS]);
        draw(&mut self.bits, &self.public, &mut ots)?;
        let ots = ots.as_chunks::<LOG_BIN>().0;
        let [left_pads, right_pads] = self.last_level_pads(ots);
        let (roots, sums) = self.grow(true);
        for (tree, (sums, ots)) in sums.iter().zip(ots).enumerate() {
            push_levels(&sums.left[..LOG_BIN - 1], ots, answer);
            let (left, right) = (sums.left[LOG_BIN - 1], sums.last_right);
            let value = values[tree / 2] >> (4 * (tree & 1)) & 15;
            let error = w[K + tree] ^ self.bootstrap.multiples()[usize::from(value)];
            for block in [
                left ^ left_pads[tree],
                right ^ right_pads[tree],
                left ^ right ^ error,
            ] {
                answer.extend_from_slice(&block.to_le_bytes());
            }
        }
        let round = self.round(&w, roots);
        self.nibbles.rounds.push_back(round);
        Ok(())
    }

    /// Hashes of w and w + Delta of every tree's last random OT.
    fn last_level_pads(&mut self, ots: &[[u128; LOG_BIN]]) -> [Zeroizing<Vec<u128>>; 2] {
        let pads = [0, self.delta()].map(|offset| {
            let last = ots.iter().map(|ots| ots[LOG_BIN - 1] ^ offset);
            let mut pads = Zeroizing::new(last.collect::<Vec<u128>>());
            let Public { backend, hash, .. } = &self.public;
            hash.tmmo(*backend, LAST_LEVEL, self.trees, &mut pads);
            pads
        });
        self.trees += TREES as u64;
        pads
    }
}

/// Left sums under w.
fn push_levels(sums: &[u128], w: &[u128; LOG_BIN], answer: &mut Vec<u8>) {
    for (sum, w) in sums.iter().zip(w) {
        answer.extend_from_slice(&(sum ^ w).to_le_bytes());
    }
}

impl OtSenderEngine for FerretSender {
    fn one_of_16_len(&self, _n: usize) -> usize {
        0
    }

    fn random_ot_len(&self, _n: usize) -> usize {
        0
    }

    fn refill(&self, kind: OtKind, n: usize) -> Option<Refill> {
        due(kind, n, self.bits.level(), self.nibbles.level())
    }

    fn answer_refill(
        &mut self,
        refill: Refill,
        request: &[u8],
        answer: &mut Vec<u8>,
    ) -> Result<(), OtError> {
        let (large, level) = match refill.kind {
            OtKind::RandomOt => (false, self.bits.level()),
            OtKind::OneOf16 => (true, self.nibbles.level()),
        };
        let expected = corrections_len(large, level.started) + values_len(large);
        check_len("refill request", expected, request.len())?;
        if large {
            self.refill_nibbles(request, answer)
        } else {
            self.refill_bits(request, answer)
        }
    }

    fn one_of_16(&mut self, n: usize, corrections: &[u8], pads: &mut [u16]) -> Result<(), OtError> {
        check_len("corrections of one-of-sixteen OTs", 0, corrections.len())?;
        check_len("pads of one-of-sixteen OTs", n, pads.len())?;
        self.nibbles.check_ready(n)?;
        let Public { backend, pick, .. } = &self.public;
        let multiples = self.bootstrap.multiples();
        self.nibbles
            .groups(&self.public, pads.chunks_mut(GROUP), |made, pads| {
                let blocks = &made.blocks[..pads.len()];
                pick.mmo_bits_of_16(*backend, blocks, multiples, pads);
            })
    }

    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        corrections: &[u8],
        pads0: &mut [u32],
        pads1: &mut [u32],
    ) -> Result<(), OtError> {
        let mask = pad_mask(bits)?;
        check_len("corrections of random OTs", 0, corrections.len())?;
        check_len("pads of choice 0", n, pads0.len())?;
        check_len("pads of choice 1", n, pads1.len())?;
        self.bits.check_ready(n)?;
        let delta = self.delta();
        let Public { backend, hash, .. } = &self.public;
        let out = pads0.chunks_mut(GROUP).zip(pads1.chunks_mut(GROUP));
        self.bits.groups(&self.public, out, |made, (pads0, pads1)| {
            for (other, block) in made.other.iter_mut().zip(made.blocks.iter()) {
                *other = block ^ delta;
            }
            for (blocks, pads) in [(&mut *made.blocks, pads0), (&mut *made.other, pads1)] {
                hash.tmmo(*backend, TWEAK, made.tweak, blocks);
                for (pad, hash) in pads.iter_mut().zip(blocks.iter()) {
                    *pad = *hash as u32 & mask;
                }
            }
        })
    }
}

#[cfg(test)]
impl FerretSender {
    /// The next groups of w, and all x*Delta.
    pub(super) fn samples(&mut self, large: bool, groups: usize) -> (Vec<u128>, [u128; 16]) {
        let mut w = vec![0; groups * GROUP];
        if large {
            draw(&mut self.nibbles, &self.public, &mut w).unwrap();
        } else {
            draw(&mut self.bits, &self.public, &mut w).unwrap();
        }
        (w, *self.bootstrap.multiples())
    }

    pub(super) fn use_backend(&mut self, backend: crate::simd::Backend) {
        self.public.backend = backend;
    }

    pub(super) fn rounds(&self) -> [usize; 2] {
        [self.bits.rounds.len(), self.nibbles.rounds.len()]
    }
}
