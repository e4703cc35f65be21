//! The party with the (random) choices. It sends nothing but the corrections that it starts with.

use std::sync::Arc;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::code::GROUP;
use super::params::{K, LOG_BIN, TREES};
use super::tree::{Grower, Leaves};
use super::{
    CHOICE, LAST_LEVEL, Made, Public, Round, Supply, TREE_OTS, TWEAK, boxed, clear_choices,
    is_large, seeds, sums_len, tree_blocks, tree_len,
};
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
    public: Arc<Public>,
    /// Over F_2 and over F_16.
    supplies: [Supply<ReceiverRound>; 2],
    /// What the first rounds start from.
    first: [Option<Blocks>; 2],
    /// Trees over F_16 ever begun.
    trees: u64,
}

/// v of samples, in which u is the nibble [`CHOICE`].
type Blocks = Zeroizing<Vec<u128>>;

/// v of the LPN secret, and what is known of each bin's tree.
#[derive(Zeroize, ZeroizeOnDrop)]
struct ReceiverRound {
    base: Box<[u128; K]>,
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
    fn base(&self) -> &[u128; K] {
        &self.base
    }

    fn leaves(&self, grower: &Grower<'_>, tree: usize, leaves: &mut Leaves, _: &mut [u8]) {
        let bin = &self.bins[tree];
        let others = grower.punctured(bin.error, &bin.known, leaves);
        leaves[bin.error] = others ^ bin.total;
        clear_choices(leaves);
        leaves[bin.error] |= bin.value;
    }
}

impl Supply<ReceiverRound> {
    /// The next groups, as many as there is room for; takes the sums of new trees from the front of `sums`.
    fn learn<O: Send>(
        &mut self,
        public: &Public,
        out: impl ExactSizeIterator<Item = O>,
        sums: &mut &[u8],
        deliver: impl Fn(&mut Made<'_>, O) + Sync,
    ) {
        let (trees, large) = (self.new_trees(out.len()), self.large);
        let (now, later) = sums.split_at(trees.len() * tree_len(large));
        *sums = later;
        let blocks = now.as_chunks::<16>().0.chunks(tree_blocks(large));
        let bins = self
            .round
            .iter_mut()
            .flat_map(|round| &mut round.bins[trees.clone()]);
        for (bin, blocks) in bins.zip(blocks) {
            bin.learn(large, blocks);
        }
        self.groups(public, out, &mut [], deliver);
    }
}

impl FerretReceiver {
    /// Starts from an engine that has not made any OT yet, and takes over its threads; *appends*
    /// [`start_len`](super::start_len) bytes of corrections. With `tables` there will be one-of-sixteen OTs, too.
    #[must_use]
    pub fn start(mut bootstrap: OtReceiver, tables: bool, corrections: &mut Vec<u8>) -> Self {
        let mut u = Zeroizing::new(vec![0; seeds(false)]);
        let mut bits = Zeroizing::new(vec![0; seeds(false)]);
        bootstrap.vole_f2(corrections, &mut u, &mut bits);
        put_choices(&u, &mut bits);
        let nibbles = tables.then(|| {
            let mut u = Zeroizing::new(vec![0; seeds(true)]);
            let mut v = Zeroizing::new(vec![0; seeds(true)]);
            bootstrap.vole_f16(corrections, &mut u, &mut v);
            put_choices(&u, &mut v);
            v
        });
        let workers = bootstrap.workers();
        Self {
            public: Arc::new(Public::new(bootstrap.hash_key(), workers)),
            supplies: [false, true].map(|large| Supply::new(large, workers)),
            first: [Some(bits), nibbles],
            trees: 0,
        }
    }

    /// Checks the sums for `n` OTs of a kind, and that it was set up.
    fn check(&self, kind: OtKind, n: usize, sums: &[u8]) -> Result<(), OtError> {
        let at = usize::from(is_large(kind));
        if self.first[at].is_none() && self.supplies[at].round.is_none() {
            return Err(OtError::NotSetUp);
        }
        check_len("sums of trees", self.message_len(kind, n), sums.len())
    }

    /// The next groups of a kind, over as many rounds as they take.
    fn groups<O: Send>(
        &mut self,
        large: bool,
        mut out: impl ExactSizeIterator<Item = O>,
        sums: &mut &[u8],
        deliver: impl Fn(&mut Made<'_>, O) + Sync,
    ) {
        while out.len() > 0 {
            if self.supplies[usize::from(large)].ready() == 0 {
                self.begin(large, sums);
            }
            let supply = &mut self.supplies[usize::from(large)];
            let count = supply.ready().min(out.len());
            supply.learn(&self.public, out.by_ref().take(count), sums, &deliver);
        }
    }

    /// Begins a round of a kind from all that is left of the last one.
    fn begin(&mut self, large: bool, sums: &mut &[u8]) {
        let at = usize::from(large);
        let ots = large.then(|| {
            let mut v = Zeroizing::new(vec![0; TREE_OTS]);
            let groups = v.as_chunks_mut::<GROUP>().0.iter_mut();
            self.groups(false, groups, sums, |made, v| *v = *made.blocks);
            v
        });
        let seeds = self.first[at].take().unwrap_or_else(|| {
            let supply = &mut self.supplies[at];
            let mut v = Zeroizing::new(vec![0; supply.left() * GROUP]);
            let groups = v.as_chunks_mut::<GROUP>().0.iter_mut();
            supply.learn(&self.public, groups, sums, |made, v| *v = *made.blocks);
            v
        });
        let (base, rest) = seeds.split_at(K);
        let bins = match ots {
            Some(ots) => self.bins(&ots, rest),
            None => (rest.as_chunks().0.iter())
                .map(|v| Bin::new(v, v.iter().map(|v| v & CHOICE), 1, 0))
                .collect(),
        };
        let mut round = ReceiverRound {
            base: boxed(),
            bins,
        };
        round.base.copy_from_slice(base);
        self.supplies[at].begin(round);
    }

    /// The bins of a round over F_16.
    fn bins(&mut self, ots: &[u128], errors: &[u128]) -> Vec<Bin> {
        let ots = ots.as_chunks::<LOG_BIN>().0;
        let last = ots.iter().map(|ots| ots[LOG_BIN - 1]);
        let mut pads = Zeroizing::new(last.collect::<Vec<u128>>());
        let Public { backend, hash, .. } = &*self.public;
        hash.tmmo(*backend, LAST_LEVEL, self.trees, &mut pads);
        self.trees += TREES as u64;
        (ots.iter().zip(&*pads).zip(errors))
            .map(|((ots, pad), error)| {
                let mut v = Zeroizing::new(*ots);
                v[LOG_BIN - 1] = *pad;
                Bin::new(&v, ots.iter().map(|v| v & CHOICE), error & CHOICE, *error)
            })
            .collect()
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
    fn message_len(&self, kind: OtKind, n: usize) -> usize {
        let mut places = self.supplies.each_ref().map(|supply| supply.next);
        sums_len(&mut places, is_large(kind), n.div_ceil(GROUP))
    }

    fn one_of_16(
        &mut self,
        n: usize,
        mut received: &[u8],
        _sent: &mut Vec<u8>,
        omega: &mut [u8],
        pads: &mut [u8],
    ) -> Result<(), OtError> {
        check_len("omega of one-of-sixteen OTs", n, omega.len())?;
        check_len("pads of one-of-sixteen OTs", n, pads.len())?;
        self.check(OtKind::OneOf16, n, received)?;
        let public = self.public.clone();
        let out = omega.chunks_mut(GROUP).zip(pads.chunks_mut(GROUP));
        self.groups(true, out, &mut received, |made, (omega, pads)| {
            let Public { backend, pick, .. } = &*public;
            take_choices(made.blocks, omega);
            pick.mmo(*backend, made.blocks);
            for (pad, hash) in pads.iter_mut().zip(made.blocks.iter()) {
                *pad = *hash as u8 & 1;
            }
        });
        Ok(())
    }

    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        mut received: &[u8],
        _sent: &mut Vec<u8>,
        choices: &mut [u8],
        pads: &mut [u32],
    ) -> Result<(), OtError> {
        check_len("choices of random OTs", n, choices.len())?;
        check_len("pads of random OTs", n, pads.len())?;
        let mask = pad_mask(bits)?;
        self.check(OtKind::RandomOt, n, received)?;
        let public = self.public.clone();
        let out = choices.chunks_mut(GROUP).zip(pads.chunks_mut(GROUP));
        self.groups(false, out, &mut received, |made, (choices, pads)| {
            let Public { backend, hash, .. } = &*public;
            take_choices(made.blocks, choices);
            hash.tmmo(*backend, TWEAK, made.tweak, made.blocks);
            for (pad, hash) in pads.iter_mut().zip(made.blocks.iter()) {
                *pad = *hash as u32 & mask;
            }
        });
        Ok(())
    }
}

#[cfg(test)]
impl FerretReceiver {
    /// The next groups of v.
    pub(super) fn samples(&mut self, large: bool, groups: usize, mut sums: &[u8]) -> Vec<u128> {
        let mut v = vec![0; groups * GROUP];
        let out = v.as_chunks_mut::<GROUP>().0.iter_mut();
        self.groups(large, out, &mut sums, |made, v| *v = *made.blocks);
        assert!(sums.is_empty());
        v
    }

    /// Position and value of the errors of the round over F_16.
    pub(super) fn errors(&self) -> Vec<(usize, u128)> {
        let bins = self.supplies[1].round.iter().flat_map(|round| &round.bins);
        bins.map(|bin| (bin.error, bin.value)).collect()
    }

    pub(super) fn use_backend(&mut self, backend: crate::simd::Backend) {
        Arc::get_mut(&mut self.public).unwrap().backend = backend;
    }
}
