//! The party with Delta. It tells sums of trees.

use std::sync::Arc;

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::code::GROUP;
use super::params::{K, LOG_BIN, TREES};
use super::tree::{Grower, Leaves, Sums};
use super::{
    CHOICE, LAST_LEVEL, Made, Public, ROOTS, Round, Supply, TREE_OTS, TWEAK, boxed, clear_choices,
    is_large, seeds, start_len, sums_len, tree_blocks, tree_len,
};
use crate::aes::AesKey;
use crate::engine::{OtKind, OtSenderEngine};
use crate::error::{OtError, check_len};
use crate::softspoken::{OtSender, pad_mask, random_ot_len};

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
    public: Arc<Public>,
    /// Entry x is x*Delta.
    multiples: Zeroizing<[u128; 16]>,
    roots: Roots,
    /// Over F_2 and over F_16.
    supplies: [Supply<SenderRound>; 2],
    /// What the first rounds start from.
    first: [Option<Blocks>; 2],
    /// Trees over F_16 ever begun.
    trees: u64,
}

type Blocks = Zeroizing<Vec<u128>>;

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
    base: Box<[u128; K]>,
    roots: Vec<u128>,
    /// What hides the sums of the trees, tree by tree, in the order of the message.
    masks: Vec<u128>,
    delta: u128,
}

impl Round for SenderRound {
    fn base(&self) -> &[u128; K] {
        &self.base
    }

    fn leaves(&self, grower: &Grower<'_>, tree: usize, leaves: &mut Leaves, message: &mut [u8]) {
        let Sums { left, last_right } = grower.full(self.roots[tree], self.delta, leaves);
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

impl Supply<SenderRound> {
    /// The next groups, as many as there is room for; tells the sums of new trees.
    fn tell<O: Send>(
        &mut self,
        public: &Public,
        out: impl ExactSizeIterator<Item = O>,
        sums: &mut Vec<u8>,
        deliver: impl Fn(&mut Made<'_>, O) + Sync,
    ) {
        let begin = sums.len();
        sums.resize(
            begin + self.new_trees(out.len()).len() * tree_len(self.large),
            0,
        );
        self.groups(public, out, &mut sums[begin..], deliver);
    }
}

impl FerretSender {
    /// Starts from an engine that has not made any OT yet, and takes over its threads; `rng` gives the seed of all
    /// roots. With `tables` there will be one-of-sixteen OTs, too.
    ///
    /// # Errors
    /// [`OtError::Length`] when there are not [`start_len`] bytes of the receiver's corrections.
    pub fn start(
        mut bootstrap: OtSender,
        tables: bool,
        corrections: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<Self, OtError> {
        check_len(
            "corrections of a set-up",
            start_len(tables),
            corrections.len(),
        )?;
        let (of_bits, of_nibbles) = corrections.split_at(random_ot_len(seeds(false)));
        let mut bits = Zeroizing::new(vec![0; seeds(false)]);
        bootstrap.vole_f2(of_bits, &mut bits);
        clear_choices(&mut bits);
        let nibbles = tables.then(|| {
            let mut w = Zeroizing::new(vec![0; seeds(true)]);
            bootstrap.vole_f16(of_nibbles, &mut w);
            clear_choices(&mut w);
            w
        });
        let mut multiples = Zeroizing::new(*bootstrap.multiples());
        for (x, multiple) in (0..).zip(multiples.iter_mut()) {
            *multiple = *multiple & !CHOICE | x;
        }
        let workers = bootstrap.workers();
        let mut seed = Zeroizing::new([0; 16]);
        rng.fill_bytes(&mut *seed);
        Ok(Self {
            public: Arc::new(Public::new(bootstrap.hash_key(), workers)),
            multiples,
            roots: Roots {
                key: AesKey::new(u128::from_le_bytes(*seed)),
                used: 0,
            },
            supplies: [false, true].map(|large| Supply::new(large, workers)),
            first: [Some(bits), nibbles],
            trees: 0,
        })
    }

    fn message_len(&self, large: bool, groups: usize) -> usize {
        let mut places = self.supplies.each_ref().map(|supply| supply.next);
        sums_len(&mut places, large, groups)
    }

    fn check_set_up(&self, large: bool) -> Result<(), OtError> {
        let at = usize::from(large);
        if self.first[at].is_none() && self.supplies[at].round.is_none() {
            return Err(OtError::NotSetUp);
        }
        Ok(())
    }

    /// The next groups of a kind, over as many rounds as they take.
    fn groups<O: Send>(
        &mut self,
        large: bool,
        mut out: impl ExactSizeIterator<Item = O>,
        sums: &mut Vec<u8>,
        deliver: impl Fn(&mut Made<'_>, O) + Sync,
    ) {
        while out.len() > 0 {
            if self.supplies[usize::from(large)].ready() == 0 {
                self.begin(large, sums);
            }
            let supply = &mut self.supplies[usize::from(large)];
            let count = supply.ready().min(out.len());
            supply.tell(&self.public, out.by_ref().take(count), sums, &deliver);
        }
    }

    /// Begins a round of a kind from all that is left of the last one.
    fn begin(&mut self, large: bool, sums: &mut Vec<u8>) {
        let at = usize::from(large);
        let ots = large.then(|| {
            let mut w = Zeroizing::new(vec![0; TREE_OTS]);
            let groups = w.as_chunks_mut::<GROUP>().0.iter_mut();
            self.groups(false, groups, sums, |made, w| *w = *made.blocks);
            w
        });
        let seeds = self.first[at].take().unwrap_or_else(|| {
            let supply = &mut self.supplies[at];
            let mut w = Zeroizing::new(vec![0; supply.left() * GROUP]);
            let groups = w.as_chunks_mut::<GROUP>().0.iter_mut();
            supply.tell(&self.public, groups, sums, |made, w| *w = *made.blocks);
            w
        });
        let (base, rest) = seeds.split_at(K);
        let masks = match ots {
            Some(ots) => self.masks(&ots, rest),
            None => rest.to_vec(),
        };
        let mut roots = vec![0; TREES];
        let (backend, used) = (self.public.backend, self.roots.used);
        self.roots.key.counter(backend, ROOTS, used, &mut roots);
        self.roots.used += TREES as u64;
        let mut round = SenderRound {
            large,
            base: boxed(),
            roots,
            masks,
            delta: self.multiples[1],
        };
        round.base.copy_from_slice(base);
        self.supplies[at].begin(round);
    }

    /// Over F_16, what hides the sums: w of the random OTs, but hashes of w and w + Delta of each tree's last one, and
    /// w of the sample that gives the error's value.
    fn masks(&mut self, ots: &[u128], errors: &[u128]) -> Vec<u128> {
        let ots = ots.as_chunks::<LOG_BIN>().0;
        let [left, right] = [0, self.multiples[1]].map(|offset| {
            let last = ots.iter().map(|ots| ots[LOG_BIN - 1] ^ offset);
            let mut pads = Zeroizing::new(last.collect::<Vec<u128>>());
            let Public { backend, hash, .. } = &*self.public;
            hash.tmmo(*backend, LAST_LEVEL, self.trees, &mut pads);
            pads
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

impl OtSenderEngine for FerretSender {
    fn message_len(&self, kind: OtKind, n: usize) -> usize {
        self.message_len(is_large(kind), n.div_ceil(GROUP))
    }

    fn one_of_16(
        &mut self,
        n: usize,
        received: &[u8],
        sent: &mut Vec<u8>,
        pads: &mut [u16],
    ) -> Result<(), OtError> {
        check_len("message of the receiver", 0, received.len())?;
        check_len("pads of one-of-sixteen OTs", n, pads.len())?;
        self.check_set_up(true)?;
        let (public, multiples) = (self.public.clone(), self.multiples.clone());
        let out = pads.chunks_mut(GROUP);
        self.groups(true, out, sent, |made, pads| {
            let Public { backend, pick, .. } = &*public;
            let blocks = &made.blocks[..pads.len()];
            pick.mmo_bits_of_16(*backend, blocks, &multiples, pads);
        });
        Ok(())
    }

    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        received: &[u8],
        sent: &mut Vec<u8>,
        [pads0, pads1]: [&mut [u32]; 2],
    ) -> Result<(), OtError> {
        let mask = pad_mask(bits)?;
        check_len("message of the receiver", 0, received.len())?;
        check_len("pads of choice 0", n, pads0.len())?;
        check_len("pads of choice 1", n, pads1.len())?;
        let (public, delta) = (self.public.clone(), self.multiples[1]);
        let out = pads0.chunks_mut(GROUP).zip(pads1.chunks_mut(GROUP));
        self.groups(false, out, sent, |made, (pads0, pads1)| {
            let Public { backend, hash, .. } = &*public;
            for (other, block) in made.other.iter_mut().zip(made.blocks.iter()) {
                *other = block ^ delta;
            }
            for (blocks, pads) in [(&mut *made.blocks, pads0), (&mut *made.other, pads1)] {
                hash.tmmo(*backend, TWEAK, made.tweak, blocks);
                for (pad, hash) in pads.iter_mut().zip(blocks.iter()) {
                    *pad = *hash as u32 & mask;
                }
            }
        });
        Ok(())
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
        let mut w = vec![0; groups * GROUP];
        let out = w.as_chunks_mut::<GROUP>().0.iter_mut();
        self.groups(large, out, sums, |made, w| *w = *made.blocks);
        (w, *self.multiples)
    }

    pub(super) fn use_backend(&mut self, backend: crate::simd::Backend) {
        Arc::get_mut(&mut self.public).unwrap().backend = backend;
    }

    pub(super) fn ready(&self) -> [usize; 2] {
        self.supplies.each_ref().map(Supply::ready)
    }
}
