//! The party with Delta. It tells sums of trees.

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::code::Secret;
use super::params::{LOG_BIN, TREES};
use super::stock::Stock;
use super::tree::{self, Grower, Leaves};
use super::{
    CHOICE, GROUP, Party, Public, ROOTS, Round, Rounds, Sums, TWEAK, clear_choices,
    last_level_pads, seeds, split_seeds, tree_blocks,
};
use crate::Wire;
use crate::aes::AesKey;
use crate::engine::{OtKind, OtSenderEngine};
use crate::error::{OtError, check_len};
use crate::softspoken::{OtSender, pad_mask};

/// Ferret sender: Delta and shares w = v + u*Delta, with [`CHOICE`] in them.
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
    rounds: Rounds<Sender>,
    tables: Stock<u16>,
    pads: [Stock<u32>; 2],
}

/// Delta, and where trees begin.
pub(super) struct Sender {
    /// Entry x is x*Delta.
    multiples: Zeroizing<[u128; 16]>,
    roots: Roots,
    /// Trees over F_16 ever begun.
    trees: u64,
}

/// Where roots of trees come from.
#[derive(ZeroizeOnDrop)]
struct Roots {
    key: AesKey,
    used: u64,
}

/// w of the LPN secret, and a tree per bin.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct SenderRound {
    large: bool,
    base: Box<Secret>,
    roots: Vec<u128>,
    /// What hides the sums of the trees, tree by tree, in the order of the message.
    masks: Vec<u128>,
    delta: u128,
}

impl Round for SenderRound {
    fn base(&self) -> &Secret {
        &self.base
    }

    fn leaves(&self, grower: &Grower<'_>, tree: usize, leaves: &mut Leaves, message: &mut [u8]) {
        let tree::Sums { left, last_right } = grower.full(self.roots[tree], self.delta, leaves);
        let last = left[LOG_BIN - 1];
        let more = [last_right, last ^ last_right];
        let sums = left.iter().chain(&more);
        let masks = self.masks.chunks(tree_blocks(self.large)).nth(tree);
        let room = message.as_chunks_mut::<16>().0;
        for ((room, sum), mask) in room.iter_mut().zip(sums).zip(masks.into_iter().flatten()) {
            *room = (sum ^ mask).to_le_bytes();
        }
        clear_choices(leaves);
    }
}

impl Party for Sender {
    type Round = SenderRound;

    fn round(&mut self, public: &Public, seeds: &[u128], ots: Option<&[u128]>) -> SenderRound {
        let (base, rest) = split_seeds(seeds);
        let masks = match ots {
            Some(ots) => self.masks(public, ots, rest),
            None => rest.to_vec(),
        };
        let mut roots = vec![0; TREES];
        let Roots { key, used } = &mut self.roots;
        key.counter(public.backend, ROOTS, *used, &mut roots);
        *used += TREES as u64;
        SenderRound {
            large: ots.is_some(),
            base,
            roots,
            masks,
            delta: self.multiples[1],
        }
    }
}

impl Sender {
    /// Over F_16, what hides the sums: w of the random OTs, but hashes of w and w + Delta of each tree's last one, and
    /// w of the sample that gives the error's value.
    fn masks(&mut self, public: &Public, ots: &[u128], errors: &[u128]) -> Vec<u128> {
        let ots = ots.as_chunks::<LOG_BIN>().0;
        let [left, right] = [0, self.multiples[1]].map(|offset| {
            let last = ots.iter().map(|ots| ots[LOG_BIN - 1] ^ offset);
            last_level_pads(public, self.trees, last)
        });
        self.trees += TREES as u64;
        let mut masks = Vec::with_capacity(TREES * tree_blocks(true));
        let pads = left.iter().zip(&*right);
        for ((ots, (left, right)), error) in ots.iter().zip(pads).zip(errors) {
            masks.extend_from_slice(&ots[..LOG_BIN - 1]);
            masks.extend([left, right, error]);
        }
        masks
    }
}

impl FerretSender {
    /// Starts from an engine that has not made any OT yet, and takes over its threads; `rng` gives the seed of all
    /// roots. With `tables` there will be one-of-sixteen OTs, too.
    ///
    /// # Errors
    /// Those of the wire.
    pub fn start(
        mut bootstrap: OtSender,
        tables: bool,
        wire: &mut dyn Wire,
        rng: &mut impl CryptoRng,
    ) -> Result<Self, OtError> {
        let mut bits = Zeroizing::new(vec![0; seeds(false)]);
        bootstrap.vole_f2(wire, &mut bits)?;
        clear_choices(&mut bits);
        let nibbles = if tables {
            let mut w = Zeroizing::new(vec![0; seeds(true)]);
            bootstrap.vole_f16(wire, &mut w)?;
            clear_choices(&mut w);
            Some(w)
        } else {
            None
        };
        let mut multiples = Zeroizing::new(*bootstrap.multiples());
        for (x, multiple) in (0..).zip(multiples.iter_mut()) {
            *multiple = *multiple & !CHOICE | x;
        }
        let mut seed = Zeroizing::new([0; 16]);
        rng.fill_bytes(&mut *seed);
        let party = Sender {
            multiples,
            roots: Roots {
                key: AesKey::new(u128::from_le_bytes(*seed)),
                used: 0,
            },
            trees: 0,
        };
        let (key, workers) = (bootstrap.hash_key(), bootstrap.workers());
        Ok(Self {
            rounds: Rounds::new(key, workers, party, [Some(bits), nibbles]),
            tables: Stock::new(),
            pads: [Stock::new(), Stock::new()],
        })
    }

    /// Bytes of sums for the next `n` OTs of a kind.
    #[must_use]
    pub fn sums_len(&self, kind: OtKind, n: usize) -> usize {
        let left = match kind {
            OtKind::OneOf16 => self.tables.left(),
            OtKind::RandomOt => self.pads[0].left(),
        };
        self.rounds.message_len(kind, n.saturating_sub(left))
    }

    /// A batch of one-of-sixteen OTs.
    fn make_tables(&mut self, sums: &mut Sums<'_>) {
        let tables = self.tables.refill(self.rounds.batch(true, sums));
        let (public, multiples) = (
            self.rounds.public.clone(),
            self.rounds.party.multiples.clone(),
        );
        let out = tables.chunks_mut(GROUP);
        self.rounds.groups(true, out, sums, |made, tables| {
            let Public { backend, pick, .. } = &*public;
            pick.mmo_bits_of_16(*backend, made.blocks, &multiples, tables);
        });
    }

    /// A batch of random OTs.
    fn make_pads(&mut self, sums: &mut Sums<'_>) {
        let count = self.rounds.batch(false, sums);
        let [first, second] =
            (self.pads.each_mut()).map(|pads| pads.refill(count).chunks_mut(GROUP));
        let (public, delta) = (self.rounds.public.clone(), self.rounds.party.multiples[1]);
        let out = first.zip(second);
        self.rounds
            .groups(false, out, sums, |made, (first, second)| {
                let Public { backend, hash, .. } = &*public;
                for (other, block) in made.other.iter_mut().zip(made.blocks.iter()) {
                    *other = block ^ delta;
                }
                for (blocks, pads) in [(&mut *made.blocks, first), (&mut *made.other, second)] {
                    hash.tmmo(*backend, TWEAK, made.tweak, blocks);
                    for (pad, hash) in pads.iter_mut().zip(blocks.iter()) {
                        *pad = *hash as u32;
                    }
                }
            });
    }
}

/// Sends sums, if there are any.
fn tell(sums: &[u8], wire: &mut dyn Wire) -> Result<(), OtError> {
    if sums.is_empty() {
        return Ok(());
    }
    wire.send(sums)
}

impl OtSenderEngine for FerretSender {
    fn one_of_16(
        &mut self,
        n: usize,
        wire: &mut dyn Wire,
        mut pads: &mut [u16],
    ) -> Result<(), OtError> {
        check_len("pads of one-of-sixteen OTs", n, pads.len())?;
        self.rounds.check_set_up(OtKind::OneOf16)?;
        let mut sent = Vec::new();
        let mut sums = Sums::Tell(&mut sent);
        while !pads.is_empty() {
            if self.tables.left() == 0 {
                self.make_tables(&mut sums);
            }
            let (now, later) = pads.split_at_mut(pads.len().min(self.tables.left()));
            self.tables.take(now);
            pads = later;
        }
        tell(&sent, wire)
    }

    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        wire: &mut dyn Wire,
        mut pads: [&mut [u32]; 2],
    ) -> Result<(), OtError> {
        let mask = pad_mask(bits)?;
        check_len("pads of choice 0", n, pads[0].len())?;
        check_len("pads of choice 1", n, pads[1].len())?;
        let mut sent = Vec::new();
        let (mut sums, mut missing) = (Sums::Tell(&mut sent), n);
        while missing > 0 {
            if self.pads[0].left() == 0 {
                self.make_pads(&mut sums);
            }
            let count = missing.min(self.pads[0].left());
            for (stock, pads) in self.pads.iter_mut().zip(&mut pads) {
                let now = &mut pads[n - missing..][..count];
                stock.take(now);
                now.iter_mut().for_each(|pad| *pad &= mask);
            }
            missing -= count;
        }
        tell(&sent, wire)
    }
}

#[cfg(test)]
impl FerretSender {
    /// The next groups of w, and all x*Delta; tells sums.
    pub(super) fn samples(
        &mut self,
        large: bool,
        groups: usize,
        sums: &mut Vec<u8>,
    ) -> (Vec<u128>, [u128; 16]) {
        let w = self.rounds.blocks(large, groups, &mut Sums::Tell(sums));
        (w.to_vec(), *self.rounds.party.multiples)
    }

    pub(super) fn use_backend(&mut self, backend: crate::simd::Backend) {
        std::sync::Arc::get_mut(&mut self.rounds.public)
            .unwrap()
            .backend = backend;
    }

    pub(super) fn places(&self) -> [super::Place; 2] {
        self.rounds.supplies.each_ref().map(|supply| supply.place)
    }

    pub(super) fn ready(&self) -> [usize; 2] {
        self.rounds.supplies.each_ref().map(super::Supply::ready)
    }
}
