//! The party with the (random) choices. It sends nothing but the corrections that it starts with.

use std::ops::Range;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::code::Secret;
use super::params::{LOG_BIN, TREES};
use super::stock::Stock;
use super::tree::{Grower, Leaves};
use super::{
    CHOICE, GROUP, Party, Public, Round, Rounds, Sums, TWEAK, clear_choices, last_level_pads,
    seeds, split_seeds, tree_blocks,
};
use crate::Wire;
use crate::engine::{OtKind, OtReceiverEngine};
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
    rounds: Rounds<Receiver>,
    /// Entries of one-of-sixteen OTs and their pads.
    entries: [Stock<u8>; 2],
    choices: Stock<u8>,
    pads: Stock<u32>,
}

struct Receiver {
    /// Trees over F_16 ever begun.
    trees: u64,
}

/// v of the LPN secret, in which u is the nibble [`CHOICE`], and what is known of each bin's tree.
#[derive(Zeroize, ZeroizeOnDrop)]
struct ReceiverRound {
    large: bool,
    base: Box<Secret>,
    bins: Vec<Bin>,
}

/// A bin and its tree; before the sender has told the tree's sums, what hides them.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Bin {
    /// Position and value of the error.
    error: usize,
    value: u128,
    /// The sum of the side that the error's path does not take, of each level.
    known: [u128; LOG_BIN],
    /// Over F_16, the sum of all leaves plus value*Delta; over F_2, where they sum to Delta, 0.
    total: u128,
}

impl Bin {
    /// From v of a tree's random OTs (over F_16, hashed for the last level), u of these, and u and v of the sample that
    /// gives the error's value.
    fn new(v: &[u128; LOG_BIN], u: impl Iterator<Item = u128>, value: u128, total: u128) -> Self {
        let error = (u.enumerate()).fold(0, |at, (level, u)| at | (1 ^ u as usize) << level);
        Self {
            error,
            value,
            known: *v,
            total,
        }
    }

    /// Takes up the sums that the sender tells.
    fn learn(&mut self, large: bool, blocks: &[[u8; 16]]) {
        let block = |at: usize| u128::from_le_bytes(blocks[at]);
        let correlated = if large { LOG_BIN - 1 } else { LOG_BIN };
        for (level, known) in self.known[..correlated].iter_mut().enumerate() {
            *known ^= block(level);
        }
        if large {
            let (left, right) = (block(LOG_BIN - 1), block(LOG_BIN));
            let is_left = (self.error >> (LOG_BIN - 1)) as u128;
            self.known[LOG_BIN - 1] ^= right ^ ((left ^ right) & is_left.wrapping_neg());
            self.total ^= block(LOG_BIN + 1);
        }
    }
}

impl Round for ReceiverRound {
    fn base(&self) -> &Secret {
        &self.base
    }

    fn learn(&mut self, trees: Range<usize>, sums: &[u8]) {
        let blocks = sums.as_chunks::<16>().0.chunks(tree_blocks(self.large));
        for (bin, blocks) in self.bins[trees].iter_mut().zip(blocks) {
            bin.learn(self.large, blocks);
        }
    }

    fn leaves(&self, grower: &Grower<'_>, tree: usize, leaves: &mut Leaves, _: &mut [u8]) {
        let bin = &self.bins[tree];
        let others = grower.punctured(bin.error, &bin.known, leaves);
        leaves[bin.error] = others ^ bin.total;
        clear_choices(leaves);
        leaves[bin.error] |= bin.value;
    }
}

impl Party for Receiver {
    type Round = ReceiverRound;

    fn round(&mut self, public: &Public, seeds: &[u128], ots: Option<&[u128]>) -> ReceiverRound {
        let (base, rest) = split_seeds(seeds);
        let bins = match ots {
            Some(ots) => self.bins(public, ots, rest),
            None => (rest.as_chunks().0.iter())
                .map(|v| Bin::new(v, v.iter().map(|v| v & CHOICE), 1, 0))
                .collect(),
        };
        ReceiverRound {
            large: ots.is_some(),
            base,
            bins,
        }
    }
}

impl Receiver {
    /// The bins of a round over F_16.
    fn bins(&mut self, public: &Public, ots: &[u128], errors: &[u128]) -> Vec<Bin> {
        let ots = ots.as_chunks::<LOG_BIN>().0;
        let last = ots.iter().map(|ots| ots[LOG_BIN - 1]);
        let pads = last_level_pads(public, self.trees, last);
        self.trees += TREES as u64;
        (ots.iter().zip(&*pads).zip(errors))
            .map(|((ots, pad), error)| {
                let mut v = Zeroizing::new(*ots);
                v[LOG_BIN - 1] = *pad;
                let u = ots.iter().map(|v| v & CHOICE);
                Bin::new(&v, u, error & CHOICE, *error)
            })
            .collect()
    }
}

impl FerretReceiver {
    /// Starts from an engine that has not made any OT yet, and takes over its threads; sends corrections. With `tables`
    /// there will be one-of-sixteen OTs, too.
    ///
    /// # Errors
    /// Those of the wire.
    pub fn start(
        mut bootstrap: OtReceiver,
        tables: bool,
        wire: &mut dyn Wire,
    ) -> Result<Self, OtError> {
        let mut u = Zeroizing::new(vec![0; seeds(false)]);
        let mut bits = Zeroizing::new(vec![0; seeds(false)]);
        bootstrap.vole_f2(wire, &mut u, &mut bits)?;
        put_choices(&u, &mut bits);
        let nibbles = if tables {
            let mut u = Zeroizing::new(vec![0; seeds(true)]);
            let mut v = Zeroizing::new(vec![0; seeds(true)]);
            bootstrap.vole_f16(wire, &mut u, &mut v)?;
            put_choices(&u, &mut v);
            Some(v)
        } else {
            None
        };
        let (key, workers) = (bootstrap.hash_key(), bootstrap.workers());
        Ok(Self {
            rounds: Rounds::new(key, workers, Receiver { trees: 0 }, [Some(bits), nibbles]),
            entries: [Stock::new(), Stock::new()],
            choices: Stock::new(),
            pads: Stock::new(),
        })
    }

    /// Bytes of sums for the next `n` OTs of a kind.
    #[must_use]
    pub fn sums_len(&self, kind: OtKind, n: usize) -> usize {
        let left = match kind {
            OtKind::OneOf16 => self.entries[0].left(),
            OtKind::RandomOt => self.pads.left(),
        };
        self.rounds.message_len(kind, n.saturating_sub(left))
    }

    /// A batch of one-of-sixteen OTs.
    fn make_entries(&mut self, sums: &mut Sums<'_>) {
        let count = self.rounds.batch(true, sums);
        let [omega, pads] =
            (self.entries.each_mut()).map(|stock| stock.refill(count).chunks_mut(GROUP));
        let public = self.rounds.public.clone();
        let out = omega.zip(pads);
        self.rounds.groups(true, out, sums, |made, (omega, pads)| {
            let Public { backend, pick, .. } = &*public;
            take_choices(made.blocks, omega);
            pick.mmo(*backend, made.blocks);
            for ((pad, hash), omega) in pads.iter_mut().zip(made.blocks.iter()).zip(&*omega) {
                *pad = (*hash as u16 >> omega) as u8 & 1;
            }
        });
    }

    /// A batch of random OTs.
    fn make_pads(&mut self, sums: &mut Sums<'_>) {
        let count = self.rounds.batch(false, sums);
        let choices = self.choices.refill(count).chunks_mut(GROUP);
        let out = choices.zip(self.pads.refill(count).chunks_mut(GROUP));
        let public = self.rounds.public.clone();
        self.rounds
            .groups(false, out, sums, |made, (choices, pads)| {
                let Public { backend, hash, .. } = &*public;
                take_choices(made.blocks, choices);
                hash.tmmo(*backend, TWEAK, made.tweak, made.blocks);
                for (pad, hash) in pads.iter_mut().zip(made.blocks.iter()) {
                    *pad = *hash as u32;
                }
            });
    }

    /// The sums for `n` OTs of a kind, if there are any.
    fn sums(&self, kind: OtKind, n: usize, wire: &mut dyn Wire) -> Result<Vec<u8>, OtError> {
        let (len, mut sums) = (self.sums_len(kind, n), Vec::new());
        if len > 0 {
            wire.recv(len, &mut sums)?;
        }
        Ok(sums)
    }
}

/// Writes choices into their blocks.
fn put_choices(u: &[u8], v: &mut [u128]) {
    for (v, u) in v.iter_mut().zip(u) {
        *v = *v & !CHOICE | u128::from(*u);
    }
}

/// Reads choices from their blocks.
fn take_choices(v: &[u128; GROUP], u: &mut [u8]) {
    for (u, v) in u.iter_mut().zip(v) {
        *u = (v & CHOICE) as u8;
    }
}

impl OtReceiverEngine for FerretReceiver {
    fn one_of_16(
        &mut self,
        n: usize,
        wire: &mut dyn Wire,
        omega: &mut [u8],
        pads: &mut [u8],
    ) -> Result<(), OtError> {
        check_len("omega of one-of-sixteen OTs", n, omega.len())?;
        check_len("pads of one-of-sixteen OTs", n, pads.len())?;
        self.rounds.check_set_up(OtKind::OneOf16)?;
        let sums = self.sums(OtKind::OneOf16, n, wire)?;
        let (mut sums, mut missing) = (Sums::Learn(&sums), n);
        while missing > 0 {
            if self.entries[0].left() == 0 {
                self.make_entries(&mut sums);
            }
            let count = missing.min(self.entries[0].left());
            for (stock, out) in self.entries.iter_mut().zip([&mut *omega, &mut *pads]) {
                stock.take(&mut out[n - missing..][..count]);
            }
            missing -= count;
        }
        Ok(())
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
        let sums = self.sums(OtKind::RandomOt, n, wire)?;
        let (mut sums, mut missing) = (Sums::Learn(&sums), n);
        while missing > 0 {
            if self.pads.left() == 0 {
                self.make_pads(&mut sums);
            }
            let count = missing.min(self.pads.left());
            self.choices.take(&mut choices[n - missing..][..count]);
            let now = &mut pads[n - missing..][..count];
            self.pads.take(now);
            now.iter_mut().for_each(|pad| *pad &= mask);
            missing -= count;
        }
        Ok(())
    }
}

#[cfg(test)]
impl FerretReceiver {
    /// The next groups of v.
    pub(super) fn samples(&mut self, large: bool, groups: usize, sums: &[u8]) -> Vec<u128> {
        let mut sums = Sums::Learn(sums);
        let v = self.rounds.blocks(large, groups, &mut sums);
        assert!(matches!(sums, Sums::Learn([])));
        v.to_vec()
    }

    /// Position and value of the errors of the round over F_16.
    pub(super) fn errors(&self) -> Vec<(usize, u128)> {
        let round = self.rounds.supplies[1].round.iter();
        let bins = round.flat_map(|round| &round.bins);
        bins.map(|bin| (bin.error, bin.value)).collect()
    }

    pub(super) fn use_backend(&mut self, backend: crate::simd::Backend) {
        std::sync::Arc::get_mut(&mut self.rounds.public)
            .unwrap()
            .backend = backend;
    }
}
