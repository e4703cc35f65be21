//! The party with the (random) choices. It asks for refills.

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::code::{self, Choices, GROUP};
use super::params::{K, LOG_BIN, TREES};
use super::tree::{Grower, Leaves};
use super::{
    Coins, LAST_LEVEL, Made, Public, Round, Supply, TREE_OTS, TWEAK, boxed, due, seeds, take_block,
    tree_blocks,
};
use crate::engine::{OtKind, OtReceiverEngine, Refill};
use crate::error::{OtError, check_len};
use crate::softspoken::{OtReceiver, pad_mask};

/// Ferret receiver: random choices u, shares v with w = v + u*Delta.
///
/// A secret: it is neither copied nor printed.
/// ```compile_fail
/// fn copied<T: Clone>() {}
/// copied::<blindread_ot::FerretReceiver>();
/// ```
/// ```compile_fail
/// fn printed<T: std::fmt::Debug>() {}
/// printed::<blindread_ot::FerretReceiver>();
/// ```
pub struct FerretReceiver {
    public: Public,
    /// Makes the first round of each kind.
    bootstrap: OtReceiver,
    coins: Coins,
    bits: Supply<false, ReceiverRound>,
    nibbles: Supply<true, ReceiverRound>,
    pending: Option<Pending>,
    /// Trees over F_16 ever grown.
    trees: u64,
}

/// u and v of samples.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Samples {
    u: Vec<u8>,
    v: Vec<u128>,
}

/// What a requested round starts from.
#[derive(ZeroizeOnDrop)]
struct Pending {
    #[zeroize(skip)]
    kind: OtKind,
    seeds: Samples,
    /// The random OTs of its trees.
    ots: Samples,
    /// Error values, per tree.
    values: Vec<u8>,
}

/// u and v of the LPN secret, and what is known of each bin's tree.
#[derive(Zeroize, ZeroizeOnDrop)]
struct ReceiverRound {
    base: Box<[u128; K]>,
    choices: Box<Choices>,
    bins: Vec<Bin>,
}

#[derive(Zeroize, ZeroizeOnDrop)]
struct Bin {
    /// Position and value of the error.
    error: usize,
    value: u8,
    /// The sum of the side that the error's path does not take, of each level.
    known: [u128; LOG_BIN],
    /// Sum of all leaves plus value*Delta.
    total: u128,
}

impl Round for ReceiverRound {
    fn base(&self) -> &[u128; K] {
        &self.base
    }

    fn choices(&self) -> Option<&Choices> {
        Some(&self.choices)
    }

    fn leaves(&self, grower: &Grower<'_>, tree: usize, leaves: &mut Leaves) {
        let bin = &self.bins[tree];
        let others = grower.punctured(bin.error, &bin.known, leaves);
        leaves[bin.error] = others ^ bin.total;
    }
}

impl Samples {
    fn new(n: usize) -> Self {
        Self {
            u: vec![0; n],
            v: vec![0; n],
        }
    }

    /// The next samples of a supply, not hashed; whole groups.
    fn draw<const LARGE: bool>(
        &mut self,
        supply: &mut Supply<LARGE, ReceiverRound>,
        public: &Public,
    ) -> Result<(), OtError> {
        let u = self.u.as_chunks_mut::<GROUP>().0.iter_mut();
        let groups = self.v.as_chunks_mut::<GROUP>().0.iter_mut().zip(u);
        supply.groups(public, groups, |made, (v, u)| {
            made.add_error();
            *u = *made.u;
            *v = *made.blocks;
        })
    }
}

impl Made<'_, ReceiverRound> {
    /// Completes u of the group by its error.
    fn add_error(&mut self) {
        let bin = &self.round.bins[self.tree];
        let place = bin.error.wrapping_sub(self.first_leaf);
        if let Some(u) = self.u.get_mut(place) {
            *u ^= bin.value;
        }
    }
}

impl FerretReceiver {
    /// Starts from an engine that has not made any OT yet, and takes over its threads; `rng` gives the seed of all later
    /// coins.
    #[must_use]
    pub fn new(bootstrap: OtReceiver, rng: &mut impl CryptoRng) -> Self {
        let workers = bootstrap.workers().clone();
        Self {
            public: Public::new(bootstrap.hash_key(), &workers),
            bootstrap,
            coins: Coins::new(rng),
            bits: Supply::new(&workers),
            nibbles: Supply::new(&workers),
            pending: None,
            trees: 0,
        }
    }

    fn request_bits(&mut self, request: &mut Vec<u8>) -> Result<Pending, OtError> {
        let mut seeds = Samples::new(seeds(false));
        if self.bits.level().started {
            seeds.draw(&mut self.bits, &self.public)?;
        } else {
            let Samples { u, v } = &mut seeds;
            self.bootstrap.vole_f2(request, u, v);
        }
        let mut ots = Samples::new(TREE_OTS);
        ots.u.copy_from_slice(&seeds.u[K..]);
        ots.v.copy_from_slice(&seeds.v[K..]);
        Ok(Pending {
            kind: OtKind::RandomOt,
            seeds,
            ots,
            values: vec![1; TREES],
        })
    }

    fn request_nibbles(&mut self, request: &mut Vec<u8>) -> Result<Pending, OtError> {
        self.bits.check_ready(TREE_OTS)?;
        let mut seeds = Samples::new(seeds(true));
        if self.nibbles.level().started {
            seeds.draw(&mut self.nibbles, &self.public)?;
        } else {
            let Samples { u, v } = &mut seeds;
            self.bootstrap.vole_f16(request, u, v);
        }
        let mut ots = Samples::new(TREE_OTS);
        ots.draw(&mut self.bits, &self.public)?;
        let values = self.error_values();
        let corrections = values.iter().zip(&seeds.u[K..]).map(|(value, u)| value ^ u);
        let mut low = None;
        for correction in corrections {
            match low.take() {
                None => low = Some(correction),
                Some(low) => request.push(low | correction << 4),
            }
        }
        Ok(Pending {
            kind: OtKind::OneOf16,
            seeds,
            ots,
            values,
        })
    }

    /// Uniform in F_16*, by rejection (whose number of turns tells nothing of what is kept).
    pub(super) fn error_values(&mut self) -> Vec<u8> {
        let mut values = Vec::with_capacity(TREES);
        let mut coins = Zeroizing::new([0; 8]);
        while values.len() < TREES {
            self.coins.fill(self.public.backend, &mut *coins);
            let nibbles = coins
                .iter()
                .flat_map(|block| (0..32).map(move |k| (block >> (4 * k)) as u8 & 15));
            let room = TREES - values.len();
            values.extend(nibbles.filter(|nibble| *nibble != 0).take(room));
        }
        values
    }

    /// What the answer tells of one tree.
    fn bin(&self, pending: &Pending, tree: usize, answer: &mut &[u8]) -> Bin {
        let ots = tree * LOG_BIN..(tree + 1) * LOG_BIN;
        let (u, v) = (&pending.ots.u[ots.clone()], &pending.ots.v[ots]);
        let error = (0..LOG_BIN).fold(0, |at, level| at | usize::from(1 ^ u[level]) << level);
        let large = pending.kind == OtKind::OneOf16;
        let correlated = if large { LOG_BIN - 1 } else { LOG_BIN };
        let mut known = [0; LOG_BIN];
        for (known, v) in known[..correlated].iter_mut().zip(v) {
            *known = take_block(answer) ^ v;
        }
        let mut total = 0;
        if large {
            let (left, right) = (take_block(answer), take_block(answer));
            let mut pad = Zeroizing::new([v[LOG_BIN - 1]]);
            let Public { backend, hash, .. } = &self.public;
            let tweak = self.trees + tree as u64;
            hash.tmmo(*backend, LAST_LEVEL, tweak, &mut *pad);
            let choose_right = u128::from(u[LOG_BIN - 1]).wrapping_neg();
            known[LOG_BIN - 1] = left ^ ((left ^ right) & choose_right) ^ pad[0];
            total = take_block(answer) ^ pending.seeds.v[K + tree];
        }
        Bin {
            error,
            value: pending.values[tree],
            known,
            total,
        }
    }
}

impl OtReceiverEngine for FerretReceiver {
    fn one_of_16_len(&self, _n: usize) -> usize {
        0
    }

    fn random_ot_len(&self, _n: usize) -> usize {
        0
    }

    fn refill(&self, kind: OtKind, n: usize) -> Option<Refill> {
        due(kind, n, self.bits.level(), self.nibbles.level())
    }

    fn request_refill(&mut self, refill: Refill, request: &mut Vec<u8>) -> Result<(), OtError> {
        if self.pending.is_some() {
            return Err(OtError::Refill {
                expected: "the answer to the last request",
            });
        }
        let pending = match refill.kind {
            OtKind::RandomOt => self.request_bits(request)?,
            OtKind::OneOf16 => self.request_nibbles(request)?,
        };
        self.pending = Some(pending);
        Ok(())
    }

    fn finish_refill(&mut self, answer: &[u8]) -> Result<(), OtError> {
        let Some(pending) = &self.pending else {
            return Err(OtError::Refill {
                expected: "a request first",
            });
        };
        let large = pending.kind == OtKind::OneOf16;
        let expected = 16 * TREES * tree_blocks(large);
        check_len("refill answer", expected, answer.len())?;
        let mut rest = answer;
        let bins = (0..TREES)
            .map(|tree| self.bin(pending, tree, &mut rest))
            .collect();
        let mut base = boxed();
        base.copy_from_slice(&pending.seeds.v[..K]);
        let mut choices: Box<Choices> = boxed();
        let u = &pending.seeds.u[..K];
        if large {
            code::pack::<true>(u, &mut choices);
        } else {
            code::pack::<false>(u, &mut choices);
        }
        let round = ReceiverRound {
            base,
            choices,
            bins,
        };
        if large {
            self.trees += TREES as u64;
            self.nibbles.rounds.push_back(round);
        } else {
            self.bits.rounds.push_back(round);
        }
        self.pending = None;
        Ok(())
    }

    fn one_of_16(
        &mut self,
        n: usize,
        _corrections: &mut Vec<u8>,
        omega: &mut [u8],
        pads: &mut [u8],
    ) -> Result<(), OtError> {
        check_len("omega of one-of-sixteen OTs", n, omega.len())?;
        check_len("pads of one-of-sixteen OTs", n, pads.len())?;
        self.nibbles.check_ready(n)?;
        let Public { backend, pick, .. } = &self.public;
        let out = omega.chunks_mut(GROUP).zip(pads.chunks_mut(GROUP));
        self.nibbles
            .groups(&self.public, out, |made, (omega, pads)| {
                made.add_error();
                omega.copy_from_slice(&made.u[..omega.len()]);
                pick.mmo(*backend, made.blocks);
                for (pad, hash) in pads.iter_mut().zip(made.blocks.iter()) {
                    *pad = *hash as u8 & 1;
                }
            })
    }

    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        _corrections: &mut Vec<u8>,
        choices: &mut [u8],
        pads: &mut [u32],
    ) -> Result<(), OtError> {
        check_len("choices of random OTs", n, choices.len())?;
        check_len("pads of random OTs", n, pads.len())?;
        let mask = pad_mask(bits)?;
        self.bits.check_ready(n)?;
        let Public { backend, hash, .. } = &self.public;
        let out = choices.chunks_mut(GROUP).zip(pads.chunks_mut(GROUP));
        self.bits
            .groups(&self.public, out, |made, (choices, pads)| {
                made.add_error();
                choices.copy_from_slice(&made.u[..choices.len()]);
                hash.tmmo(*backend, TWEAK, made.tweak, made.blocks);
                for (pad, hash) in pads.iter_mut().zip(made.blocks.iter()) {
                    *pad = *hash as u32 & mask;
                }
            })
    }
}

#[cfg(test)]
impl FerretReceiver {
    /// The next groups of u and v.
    pub(super) fn samples(&mut self, large: bool, groups: usize) -> (Vec<u8>, Vec<u128>) {
        let mut samples = Samples::new(groups * GROUP);
        if large {
            samples.draw(&mut self.nibbles, &self.public).unwrap();
        } else {
            samples.draw(&mut self.bits, &self.public).unwrap();
        }
        (samples.u.clone(), samples.v.clone())
    }

    pub(super) fn use_backend(&mut self, backend: crate::simd::Backend) {
        self.public.backend = backend;
    }
}
