//! Ferret: OTs from regular-noise LPN, nearly without traffic.
//!
//! Reference: K. Yang, C. Weng, X. Lan, J. Zhang, X. Wang, "Ferret: fast extension for correlated OT with small
//! communication" (CCS 2020, eprint 2020/924), the uniform protocol with regular noise, semi-honest; for F_16
//! C. Weng, K. Yang, J. Katz, X. Wang, "Wolverine" (eprint 2020/925), single-point subfield VOLE; trees from eprint
//! 2022/1431 (`tree`); code and parameters in `code` and `params`.
//!
//! Function: as `softspoken`: random u and v for the receiver, w = v + u*Delta for the sender, then the same hash. u is in
//! F_2 (`random_ot`) or F_16 (`one_of_16`); Delta is in F_16^32 and F_2 is a part of F_16, so both kinds share it.
//! The lowest element of Delta is 1 and that of all w is 0, so that of v is u: what adds up v adds up u.
//!
//! How: a *round* makes n samples of each of two vectors from K elements left by the round before:
//! u' = A u + e and v' = A v + f, w' = A w + g, where A is a public local code, e has one non-zero element in each
//! bin and g = f + e*Delta comes from one tree per bin. The first round starts from `softspoken`, and each keeps
//! enough of its samples for the next one.
//! - The receiver's error in bin j is where the choices of its next 11 random OTs say (branch 1 - u at each level), so
//!   it need not send anything; the sender sends one block per level, its left sum plus w.
//! - Over F_16 the last level takes two blocks under hashes of w and w + Delta, and the error's value is u of a sample
//!   u, v, w of the last round: the sender sends the sum of all leaves plus w, from which the receiver has the missing
//!   leaf plus u*Delta. (The paper draws a value other than 0 and sends its difference to u. Here one bin in sixteen
//!   has no error, see `params`, and nothing is sent from the receiver to the sender.)
//! - A is over symbols of four samples, each in a line of the cache (`code`).
//! - OTs are made in batches, twice as many each time up to 2^19, and calls take theirs from what is in stock (`stock`).
//! - A tree grows, and its sums are sent, with the first OTs that are made of its leaves. A new round begins before a
//!   batch, when the old one has no more than the next one's seeds; it sends nothing of its own.
//!
//! Requirements: both parties make the same calls in the same order, of both kinds together.
//! Error: none. Rounds: none; a message from the sender with every call that needs a new batch.
//! Bits: sums of 176 bytes (F_2) and 208 bytes (F_16) per 2048 samples: 0.74 bits per random OT and 0.87 per
//! one-of-sixteen OT. Once per connection, softspoken corrections of 1.1 MB (F_2) and 4.1 MB (F_16).
//! Memory: 4 MB per kind for the secret, 1 to 4 MB for a batch.
//! Cost per OT: one AES block for a tree, half as many again over F_16; 5/16 for columns of the code; 2.5 random reads
//! of 64 bytes in 4 MB; the hashes as in `softspoken`. The first tree of a batch grows once more if the last one left
//! leaves of it.
//! Measured on one core of an AMD EPYC with VAES-256, million OTs per second (receiver, sender), median
//! of four runs: random OT 74 and 58, one-of-sixteen OT 75 and 34.
//! `examples/speed.rs` measures it.
//! Security: semi-honest, under LPN as in `params`, and as `softspoken`. The receiver sends softspoken corrections
//! alone; the sender sends sums of leaves under w, which the receiver knows up to Delta. Delta is that of the
//! connection's softspoken engine, which bootstraps with it and is never asked for OTs, but for its lowest element: 124
//! secret bits, as fresh as the connection and direction. Replacing that element by 1, of w by 0 and of v by u keeps the
//! correlations, which hold for each of the 32 by itself. Streams, trees and hashes have domains of their own.
//! Secrets are zeroed on drop. No branch depends on a secret; one address per level of a tree does (`tree`).
//!
//! NOTE: the paper's consistency checks against malicious parties are left out (semi-honest model).
//! NOTE: the receiver takes its positions from its random choices instead of masking chosen ones with them.

use std::ops::Range;
use std::sync::Arc;

use blindread_pool::Workers;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::aes::AesKey;
use crate::engine::OtKind;
use crate::error::OtError;
use crate::simd::Backend;
use crate::softspoken::{one_of_16_len, random_ot_len};

pub(crate) mod code;
pub(crate) mod params;
mod receiver;
mod sender;
mod stock;
pub(crate) mod tree;

pub use receiver::FerretReceiver;
pub use sender::FerretSender;

use code::{GROUP, Secret, Stream, WORDS};
use params::{BIN, K, LOG_BIN, TREES};
use tree::{Grower, Leaves};

/// Groups of a tree, and of a round.
const TREE_GROUPS: usize = BIN / GROUP;
const ROUND_GROUPS: usize = TREES * TREE_GROUPS;
/// Groups that a kind's first call makes at least, and groups that a call makes at most: the more, the rarer a table is
/// fetched into the cache.
const BATCHES: [usize; 2] = [1 << 6, 1 << 11];
/// Random OTs that one round takes for its trees.
const TREE_OTS: usize = TREES * LOG_BIN;

// High halves of counters and tweaks.
const CODE: [u64; 2] = [
    u64::from_le_bytes(*b"fer1 lpn"),
    u64::from_le_bytes(*b"fer4 lpn"),
];
const TWEAK: u64 = u64::from_le_bytes(*b"fer1 tcr");
const LAST_LEVEL: u64 = u64::from_le_bytes(*b"fer4 ggm");
const ROOTS: u64 = u64::from_le_bytes(*b"ferret r");
const PUBLIC: u64 = u64::from_le_bytes(*b"ferret k");

/// The nibble of a block that is a choice: 1 in Delta and 0 in all w, hence u in v = w + u*Delta.
const CHOICE: u128 = 15;

/// Elements that a round starts from: the LPN secret, and what its trees take of its own kind.
const fn seeds(large: bool) -> usize {
    K + if large { TREES } else { TREE_OTS }
}

/// Groups of a round that calls may use; the others are the next round's seeds.
const fn usable(large: bool) -> usize {
    ROUND_GROUPS - seeds(large) / GROUP
}

/// Blocks of a tree's sums.
const fn tree_blocks(large: bool) -> usize {
    if large { LOG_BIN + 2 } else { LOG_BIN }
}

/// Bytes of a tree's sums.
const fn tree_len(large: bool) -> usize {
    16 * tree_blocks(large)
}

/// Trees whose first groups are among `count` groups from group `first` of a round on.
const fn new_trees(first: usize, count: usize) -> usize {
    (first + count).div_ceil(TREE_GROUPS) - first.div_ceil(TREE_GROUPS)
}

/// Where one kind of OTs is, which both parties know.
#[derive(Clone, Copy)]
struct Place {
    /// Groups of the round that are used; all of them before the first round.
    next: usize,
    /// Groups ever made for calls.
    made: usize,
}

impl Place {
    /// Groups that calls may use of this round.
    fn ready(self, large: bool) -> usize {
        usable(large).saturating_sub(self.next)
    }

    /// Groups that are made together when a call wants OTs and has none: as many as were made before, so that few are
    /// left over in the end, and as this round still has.
    fn batch(self, large: bool) -> usize {
        let [first, largest] = BATCHES;
        self.made.clamp(first, largest).min(self.ready(large))
    }
}

/// Bytes of sums for the batches that give `missing` OTs of a kind, from where both kinds are; moves on.
fn batches_len(places: &mut [Place; 2], large: bool, missing: usize) -> usize {
    let (kind, mut len, mut made) = (usize::from(large), 0, 0);
    while made < missing {
        if places[kind].ready(large) == 0 {
            len += round_len(places, large);
        }
        let groups = places[kind].batch(large);
        places[kind].made += groups;
        len += groups_len(places, large, groups);
        made += groups * GROUP;
    }
    len
}

/// The same for `count` groups.
fn groups_len(places: &mut [Place; 2], large: bool, mut count: usize) -> usize {
    let (kind, mut len) = (usize::from(large), 0);
    while count > 0 {
        if places[kind].ready(large) == 0 {
            len += round_len(places, large);
        }
        let step = places[kind].ready(large).min(count);
        len += new_trees(places[kind].next, step) * tree_len(large);
        places[kind].next += step;
        count -= step;
    }
    len
}

/// The same for what a new round of a kind starts from.
fn round_len(places: &mut [Place; 2], large: bool) -> usize {
    let ots = if large {
        groups_len(places, false, TREE_OTS / GROUP)
    } else {
        0
    };
    let place = &mut places[usize::from(large)];
    let rest = new_trees(place.next, ROUND_GROUPS - place.next);
    place.next = 0;
    ots + rest * tree_len(large)
}

/// Bytes of the receiver's corrections when a connection is set up; `tables`: for one-of-sixteen OTs, too.
#[must_use]
pub const fn start_len(tables: bool) -> usize {
    let bits = random_ot_len(seeds(false));
    if tables {
        bits + one_of_16_len(seeds(true))
    } else {
        bits
    }
}

const fn is_large(kind: OtKind) -> bool {
    matches!(kind, OtKind::OneOf16)
}

const _: () = assert!(seeds(false).is_multiple_of(GROUP) && seeds(true).is_multiple_of(GROUP));
const _: () = assert!(TREE_OTS.is_multiple_of(GROUP) && usable(true) > 0);

/// Public keys of the connection and direction, all made from the hash key of softspoken; and the party's threads.
struct Public {
    workers: Workers,
    backend: Backend,
    code: AesKey,
    tree: AesKey,
    /// For one-of-two OTs.
    hash: AesKey,
    /// For one-of-sixteen OTs.
    pick: AesKey,
}

impl Public {
    fn new(softspoken_key: u128, workers: &Workers) -> Self {
        let mut keys = [0, 1, 2, 3].map(|k| u128::from(PUBLIC) << 64 | k);
        AesKey::new(softspoken_key).encrypt(&mut keys);
        let [code, tree, hash, pick] = keys.map(AesKey::new);
        Self {
            workers: workers.clone(),
            backend: Backend::detect(),
            code,
            tree,
            hash,
            pick,
        }
    }

    fn grower(&self, large: bool) -> Grower<'_> {
        Grower {
            backend: self.backend,
            key: &self.tree,
            split_last: large,
        }
    }
}

/// What is peculiar to one side.
trait Party {
    type Round: Round;

    /// A round from its seeds: the LPN secret and what is left of them; over F_16, with the random OTs of its trees.
    fn round(&mut self, public: &Public, seeds: &[u128], ots: Option<&[u128]>) -> Self::Round;
}

/// What one party has of a round.
trait Round: Sync {
    fn base(&self) -> &Secret;
    /// Takes up what the sender tells of new trees.
    fn learn(&mut self, _trees: Range<usize>, _sums: &[u8]) {}
    /// Grows a tree. The nibble [`CHOICE`] of its leaves is the receiver's error in its place, and else 0. `sums` is the
    /// room for what the sender tells of the tree, if it is new.
    fn leaves(&self, grower: &Grower<'_>, tree: usize, leaves: &mut Leaves, sums: &mut [u8]);
}

/// The sums of trees in a message.
enum Sums<'a> {
    /// The sender appends.
    Tell(&'a mut Vec<u8>),
    /// The receiver takes from the front.
    Learn(&'a [u8]),
}

type Blocks = Zeroizing<Vec<u128>>;

/// Both kinds of one party.
struct Rounds<P: Party> {
    public: Arc<Public>,
    party: P,
    /// Over F_2 and over F_16.
    supplies: [Supply<P::Round>; 2],
    /// What the first rounds start from.
    first: [Option<Blocks>; 2],
}

/// The samples of one kind, in groups.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Supply<R> {
    large: bool,
    #[zeroize(skip)]
    round: Option<R>,
    #[zeroize(skip)]
    place: Place,
    /// Groups ever used.
    used: u64,
    /// One per thread.
    scratch: Vec<Scratch>,
}

/// Work space of one thread.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Scratch {
    leaves: Box<Leaves>,
    /// The sender's other blocks, w + Delta.
    other: Box<[u128; GROUP]>,
    stream: Box<Stream>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            leaves: Box::new([0; BIN]),
            other: Box::new([0; GROUP]),
            stream: Box::new([0; WORDS / 8]),
        }
    }
}

/// Groups of one tree, and the room for their results.
struct Segment<'a, O> {
    /// Counted from the beginning of the round.
    first: usize,
    out: Vec<O>,
    sums: &'a mut [u8],
}

impl<R: Round> Supply<R> {
    fn new(large: bool, workers: &Workers) -> Self {
        Self {
            large,
            round: None,
            place: Place {
                next: ROUND_GROUPS,
                made: 0,
            },
            used: 0,
            scratch: (0..workers.threads()).map(|_| Scratch::new()).collect(),
        }
    }

    fn begin(&mut self, round: R) {
        self.round = Some(round);
        self.place.next = 0;
    }

    /// Groups that calls may use of this round.
    fn ready(&self) -> usize {
        self.place.ready(self.large)
    }

    /// Groups of this round, with those that the next one starts from.
    fn left(&self) -> usize {
        ROUND_GROUPS - self.place.next
    }

    /// Makes as many groups as there is room for in `out`, of which there must be so many, tree by tree, and has them
    /// delivered there; tells or learns the sums of new trees.
    ///
    /// Threads may take trees in any order: rows and tweaks are indexed by the number of the group.
    fn groups<O: Send>(
        &mut self,
        public: &Public,
        mut out: impl ExactSizeIterator<Item = O>,
        sums: &mut Sums<'_>,
        deliver: impl Fn(&mut Made<'_>, O) + Sync,
    ) {
        let Some(round) = &mut self.round else { return };
        let next = self.place.next;
        let first = next.div_ceil(TREE_GROUPS);
        let trees = first..first + new_trees(next, out.len());
        let len = trees.len() * tree_len(self.large);
        let room = match sums {
            Sums::Tell(message) => {
                let begin = message.len();
                message.resize(begin + len, 0);
                &mut message[begin..]
            }
            Sums::Learn(message) => {
                let (now, later) = message.split_at(len);
                *message = later;
                round.learn(trees, now);
                &mut []
            }
        };
        let round = &*round;
        let mut sums = room.chunks_mut(tree_len(self.large));
        let mut segments = Vec::with_capacity(out.len() / TREE_GROUPS + 2);
        let (mut at, end) = (next, next + out.len());
        while at < end {
            let groups = (TREE_GROUPS - at % TREE_GROUPS).min(end - at);
            let is_new = at.is_multiple_of(TREE_GROUPS);
            segments.push(Segment {
                first: at,
                out: out.by_ref().take(groups).collect(),
                sums: is_new.then(|| sums.next()).flatten().unwrap_or_default(),
            });
            at += groups;
        }
        let (large, used) = (self.large, self.used.wrapping_sub(next as u64));
        let work = |scratch: &mut Scratch, segment: Segment<'_, O>| {
            let tree = segment.first / TREE_GROUPS;
            let grower = public.grower(large);
            round.leaves(&grower, tree, &mut scratch.leaves, segment.sums);
            for (at, out) in (segment.first..).zip(segment.out) {
                let number = used.wrapping_add(at as u64);
                let place = at % TREE_GROUPS;
                let mut made = if large {
                    scratch.group::<true>(public, round, number, place)
                } else {
                    scratch.group::<false>(public, round, number, place)
                };
                deliver(&mut made, out);
            }
        };
        public.workers.each_with(&mut self.scratch, segments, work);
        self.used += (end - next) as u64;
        self.place.next = end;
    }
}

impl<P: Party> Rounds<P> {
    /// Starts from blocks of each kind, over F_16 if there will be one-of-sixteen OTs.
    fn new(softspoken_key: u128, workers: &Workers, party: P, first: [Option<Blocks>; 2]) -> Self {
        Self {
            public: Arc::new(Public::new(softspoken_key, workers)),
            party,
            supplies: [false, true].map(|large| Supply::new(large, workers)),
            first,
        }
    }

    /// Bytes of the sender's message for OTs of a kind, `missing` of which are not in stock.
    fn message_len(&self, kind: OtKind, missing: usize) -> usize {
        let mut places = self.supplies.each_ref().map(|supply| supply.place);
        batches_len(&mut places, is_large(kind), missing)
    }

    /// OTs of the next batch of a kind, which the next call of [`Self::groups`] makes; begins a round for them if it must.
    fn batch(&mut self, large: bool, sums: &mut Sums<'_>) -> usize {
        if self.supplies[usize::from(large)].ready() == 0 {
            self.begin(large, sums);
        }
        let place = &mut self.supplies[usize::from(large)].place;
        let groups = place.batch(large);
        place.made += groups;
        groups * GROUP
    }

    fn check_set_up(&self, kind: OtKind) -> Result<(), OtError> {
        let at = usize::from(is_large(kind));
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
        sums: &mut Sums<'_>,
        deliver: impl Fn(&mut Made<'_>, O) + Sync,
    ) {
        while out.len() > 0 {
            if self.supplies[usize::from(large)].ready() == 0 {
                self.begin(large, sums);
            }
            let supply = &mut self.supplies[usize::from(large)];
            let count = supply.ready().min(out.len());
            supply.groups(&self.public, out.by_ref().take(count), sums, &deliver);
        }
    }

    /// Begins a round of a kind from all that is left of the last one.
    fn begin(&mut self, large: bool, sums: &mut Sums<'_>) {
        let at = usize::from(large);
        let ots = large.then(|| self.blocks(false, TREE_OTS / GROUP, sums));
        let seeds = self.first[at].take().unwrap_or_else(|| {
            let supply = &mut self.supplies[at];
            let mut seeds = Zeroizing::new(vec![0; supply.left() * GROUP]);
            let out = seeds.as_chunks_mut::<GROUP>().0.iter_mut();
            supply.groups(&self.public, out, sums, |made, out| *out = *made.blocks);
            seeds
        });
        let ots = ots.as_ref().map(|ots| ots.as_slice());
        let round = self.party.round(&self.public, &seeds, ots);
        self.supplies[at].begin(round);
    }

    /// The next groups of a kind, not hashed.
    fn blocks(&mut self, large: bool, count: usize, sums: &mut Sums<'_>) -> Blocks {
        let mut blocks = Zeroizing::new(vec![0; count * GROUP]);
        let out = blocks.as_chunks_mut::<GROUP>().0.iter_mut();
        self.groups(large, out, sums, |made, out| *out = *made.blocks);
        blocks
    }
}

impl Scratch {
    /// Makes the blocks of group `number` of its tree's leaves, which are the tree's group `place`.
    fn group<const LARGE: bool>(
        &mut self,
        public: &Public,
        round: &impl Round,
        number: u64,
        place: usize,
    ) -> Made<'_> {
        let Public { backend, code, .. } = public;
        let blocks = &mut self.leaves.as_chunks_mut::<GROUP>().0[place];
        let first = number * (WORDS / 8) as u64;
        code.counter(*backend, CODE[usize::from(LARGE)], first, &mut *self.stream);
        backend.add_rows::<LARGE>(round.base(), &self.stream, blocks);
        Made {
            blocks,
            other: &mut self.other,
            tweak: number * GROUP as u64,
        }
    }
}

/// A group that was just made.
struct Made<'a> {
    blocks: &'a mut [u128; GROUP],
    /// Room for the sender's other blocks.
    other: &'a mut [u128; GROUP],
    /// Of the group's first OT.
    tweak: u64,
}

/// Makes room for choices.
fn clear_choices(blocks: &mut [u128]) {
    for block in blocks {
        *block &= !CHOICE;
    }
}

/// The LPN secret and the other seeds.
fn split_seeds(seeds: &[u128]) -> (Box<Secret>, &[u128]) {
    let (elements, rest) = seeds.split_at(K);
    (code::secret(elements), rest)
}

/// Hashes of the blocks of trees' last random OTs.
fn last_level_pads(
    public: &Public,
    first_tree: u64,
    blocks: impl ExactSizeIterator<Item = u128>,
) -> Blocks {
    let mut pads = Zeroizing::new(blocks.collect::<Vec<u128>>());
    let Public { backend, hash, .. } = public;
    hash.tmmo(*backend, LAST_LEVEL, first_tree, &mut pads);
    pads
}

#[cfg(test)]
mod tests;
