//! Ferret: OTs from regular-noise LPN, nearly without traffic.
//!
//! Reference: K. Yang, C. Weng, X. Lan, J. Zhang, X. Wang, "Ferret: fast extension for correlated OT with small
//! communication" (CCS 2020, eprint 2020/924), the uniform protocol with regular noise, semi-honest; for F_16
//! C. Weng, K. Yang, J. Katz, X. Wang, "Wolverine" (eprint 2020/925), single-point subfield VOLE; trees from eprint
//! 2022/1431 (`tree`); code and parameters in `code` and `params`.
//!
//! Function: as `softspoken`: random u and v for the receiver, w = v + u*Delta for the sender, then the same hash. u is in
//! F_2 (`random_ot`) or F_16 (`one_of_16`); Delta is in F_16^32 and F_2 is a part of F_16, so both kinds share it.
//!
//! How: a *round* makes n samples of each of two vectors from K elements left by the round before:
//! u' = A u + e and v' = A v + f, w' = A w + g, where A is a public local code, e has one non-zero element in each
//! bin and g = f + e*Delta comes from one tree per bin. The first round starts from `softspoken`, and each keeps
//! enough of its samples for the next one.
//! - The receiver's error in bin j is where the choices of its next 11 random OTs say (branch 1 - u at each level), so
//!   over F_2 it need not send anything; the sender sends one block per level, its left sum plus w.
//! - Over F_16 the last level takes two blocks under hashes of w and w + Delta. The error's value beta is uniform in
//!   F_16*: with a sample u, v, w of the last round the receiver sends beta + u (4 bits) and the sender the sum of all
//!   leaves plus w + (beta + u)*Delta, from which the receiver has the missing leaf plus beta*Delta.
//!
//! Requirements: both parties make the same calls in the same order, of both kinds together.
//! Error: none. Rounds: a request and an answer per 4 M OTs (F_2: request empty).
//! Bits: answers of 360 kB (F_2) and 426 kB (F_16) per round: 0.74 bits per random OT and 0.87 per one-of-sixteen
//! OT. Once per connection, in the first requests, softspoken corrections of 1.1 MB (F_2) and 4.1 MB (F_16).
//! Memory: 4 to 5 MB per kind; trees grow when their samples are wanted.
//! Cost per OT: two AES blocks (sender; it grows trees twice) or one for a tree, half as many again over F_16; 2.5 for
//! rows of the code; ten random reads of 16 bytes in 4 MB; the hashes as in `softspoken`.
//! Measured on one core of an AMD EPYC of the Zen 3 kind with VAES-256, million OTs per second (receiver, sender):
//! random OT 42 and 46, one-of-sixteen OT 28 and 27, of which ten reads and their sums take 11 and 14 ns; a refill
//! takes 15 to 40 ms of each party. `examples/speed.rs` measures it.
//! Security: semi-honest, under LPN as in `params`, and as `softspoken`. The request shows softspoken corrections and
//! beta + u with u uniform; the answer shows sums of leaves under w, which the receiver knows up to Delta. Delta
//! is that of the connection's softspoken engine, which bootstraps with it and is never asked for OTs: so
//! correlations pass from it unchanged, and Delta is as fresh as it is (one per connection and direction). Streams,
//! trees and hashes have domains of their own.
//! Secrets are zeroed on drop. No branch depends on a secret; one address per level of a tree does (`tree`).
//!
//! NOTE: the paper's consistency checks against malicious parties are left out (semi-honest model).
//! NOTE: the receiver takes its positions from its random choices instead of masking chosen ones with them.

use std::collections::VecDeque;

use blindread_pool::Workers;
use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::OtError;
use crate::aes::AesKey;
use crate::engine::{OtKind, Refill};
use crate::simd::Backend;
use crate::softspoken::{one_of_16_len, random_ot_len};

pub(crate) mod code;
pub(crate) mod params;
mod receiver;
mod sender;
pub(crate) mod tree;

pub use receiver::FerretReceiver;
pub use sender::FerretSender;

use code::{Choices, GROUP, Rows, Stream, WORDS};
use params::{BIN, K, LOG_BIN, TREES};
use tree::{Grower, Leaves};

/// Groups of a tree, and of a round.
const TREE_GROUPS: usize = BIN / GROUP;
const ROUND_GROUPS: usize = TREES * TREE_GROUPS;
/// Random OTs that one round takes for its trees.
const TREE_OTS: usize = TREES * LOG_BIN;

// High halves of counters and tweaks.
const CODE: [u64; 2] = [
    u64::from_le_bytes(*b"fer1 lpn"),
    u64::from_le_bytes(*b"fer4 lpn"),
];
const TWEAK: u64 = u64::from_le_bytes(*b"fer1 tcr");
const LAST_LEVEL: u64 = u64::from_le_bytes(*b"fer4 ggm");
const COINS: u64 = u64::from_le_bytes(*b"ferret r");
const PUBLIC: u64 = u64::from_le_bytes(*b"ferret k");

/// Elements that a round starts from: the LPN secret, and what its trees take of its own kind.
const fn seeds(large: bool) -> usize {
    K + if large { TREES } else { TREE_OTS }
}

/// Blocks of an answer per tree.
const fn tree_blocks(large: bool) -> usize {
    if large { LOG_BIN + 2 } else { LOG_BIN }
}

/// Bytes of the corrections of error values.
const fn values_len(large: bool) -> usize {
    if large { TREES / 2 } else { 0 }
}

const _: () = assert!(seeds(false).is_multiple_of(GROUP) && seeds(true).is_multiple_of(GROUP));
const _: () = assert!(TREE_OTS.is_multiple_of(GROUP) && TREES.is_multiple_of(2));

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

/// A party's coins.
#[derive(ZeroizeOnDrop)]
struct Coins {
    key: AesKey,
    used: u64,
}

impl Coins {
    fn new(rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 16]);
        rng.fill_bytes(&mut *seed);
        Self {
            key: AesKey::new(u128::from_le_bytes(*seed)),
            used: 0,
        }
    }

    fn fill(&mut self, backend: Backend, blocks: &mut [u128]) {
        self.key.counter(backend, COINS, self.used, blocks);
        self.used += blocks.len() as u64;
    }
}

/// What one party has of a round.
trait Round: Sync {
    fn base(&self) -> &[u128; K];
    /// The receiver's choices of the same elements.
    fn choices(&self) -> Option<&Choices> {
        None
    }
    fn leaves(&self, grower: &Grower<'_>, tree: usize, leaves: &mut Leaves);
}

/// The samples of one kind that a party has not used, in groups.
#[derive(Zeroize, ZeroizeOnDrop)]
struct Supply<const LARGE: bool, R> {
    #[zeroize(skip)]
    rounds: VecDeque<R>,
    /// Groups of the first round that are used.
    next: usize,
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
    /// The receiver's choices.
    u: Box<[u8; GROUP]>,
    stream: Box<Stream>,
    rows: Box<Rows>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            leaves: Box::new([0; BIN]),
            other: Box::new([0; GROUP]),
            u: Box::new([0; GROUP]),
            stream: Box::new([0; WORDS / 4]),
            rows: Box::new([0; WORDS]),
        }
    }
}

/// Groups of one tree, and the room for their results.
struct Segment<O> {
    /// Counted from the beginning of the first round.
    first: usize,
    out: Vec<O>,
}

impl<const LARGE: bool, R: Round> Supply<LARGE, R> {
    fn new(workers: &Workers) -> Self {
        Self {
            rounds: VecDeque::new(),
            next: 0,
            used: 0,
            scratch: (0..workers.threads()).map(|_| Scratch::new()).collect(),
        }
    }

    /// Groups that may be used before the next refill.
    fn ready(&self) -> usize {
        self.left().saturating_sub(seeds(LARGE) / GROUP)
    }

    /// Groups that there are, with those that the next refill starts from.
    fn left(&self) -> usize {
        self.rounds.len() * ROUND_GROUPS - self.next
    }

    fn check_ready(&self, n: usize) -> Result<(), OtError> {
        let (needed, ready) = (n.div_ceil(GROUP), self.ready());
        if needed <= ready {
            Ok(())
        } else {
            Err(OtError::Exhausted {
                expected: needed.saturating_mul(GROUP),
                got: ready * GROUP,
            })
        }
    }

    /// Makes as many groups as there is room for in `out`, tree by tree, and has them delivered there.
    ///
    /// Threads may take trees in any order: rows and tweaks are indexed by the number of the group.
    ///
    /// # Errors
    /// [`OtError::Exhausted`] when there are not so many, before anything is consumed.
    fn groups<O: Send>(
        &mut self,
        public: &Public,
        mut out: impl ExactSizeIterator<Item = O>,
        deliver: impl Fn(&mut Made<'_, R>, O) + Sync,
    ) -> Result<(), OtError> {
        let (count, left) = (out.len(), self.left());
        if count > left {
            return Err(OtError::Exhausted {
                expected: count.saturating_mul(GROUP),
                got: left * GROUP,
            });
        }
        let mut segments = Vec::with_capacity(count / TREE_GROUPS + 2);
        let (mut at, end) = (self.next, self.next + count);
        while at < end {
            let groups = (TREE_GROUPS - at % TREE_GROUPS).min(end - at);
            segments.push(Segment {
                first: at,
                out: out.by_ref().take(groups).collect(),
            });
            at += groups;
        }
        let (rounds, used) = (&self.rounds, self.used.wrapping_sub(self.next as u64));
        let work = |scratch: &mut Scratch, segment: Segment<O>| {
            let (round, within) = (
                &rounds[segment.first / ROUND_GROUPS],
                segment.first % ROUND_GROUPS,
            );
            let tree = within / TREE_GROUPS;
            round.leaves(&public.grower(LARGE), tree, &mut scratch.leaves);
            for (index, out) in segment.out.into_iter().enumerate() {
                let number = used.wrapping_add((segment.first + index) as u64);
                let place = (within + index) % TREE_GROUPS;
                deliver(
                    &mut scratch.group::<LARGE, R>(public, round, number, tree, place),
                    out,
                );
            }
        };
        public.workers.each_with(&mut self.scratch, segments, work);
        self.next += count;
        self.used += count as u64;
        while self.next > ROUND_GROUPS {
            self.rounds.pop_front();
            self.next -= ROUND_GROUPS;
        }
        Ok(())
    }
}

impl Scratch {
    /// Makes the blocks of group `number` of its tree's leaves, which are the tree's group `place`.
    fn group<'a, const LARGE: bool, R: Round>(
        &'a mut self,
        public: &Public,
        round: &'a R,
        number: u64,
        tree: usize,
        place: usize,
    ) -> Made<'a, R> {
        let Public { backend, code, .. } = public;
        let blocks = &mut self.leaves.as_chunks_mut::<GROUP>().0[place];
        let first = number * (WORDS / 4) as u64;
        code.counter(*backend, CODE[usize::from(LARGE)], first, &mut *self.stream);
        backend.rows::<LARGE>(&self.stream, &mut self.rows);
        self.u.fill(0);
        let choices = round.choices().map(|table| (table, &mut *self.u));
        backend.add_rows::<LARGE>(round.base(), &self.rows, blocks, choices);
        Made {
            round,
            blocks,
            other: &mut self.other,
            u: &mut self.u,
            tree,
            first_leaf: place * GROUP,
            tweak: number * GROUP as u64,
        }
    }
}

/// A group that was just made.
struct Made<'a, R> {
    round: &'a R,
    blocks: &'a mut [u128; GROUP],
    /// Room for the sender's other blocks; sums of the receiver's choices, without errors.
    other: &'a mut [u128; GROUP],
    u: &'a mut [u8; GROUP],
    tree: usize,
    first_leaf: usize,
    /// Of the group's first OT.
    tweak: u64,
}

/// The refill that is due before `n` OTs, from what is ready of both kinds; alike for both parties.
fn due(kind: OtKind, n: usize, bits: Level, nibbles: Level) -> Option<Refill> {
    let needed = n.div_ceil(GROUP);
    let large = match kind {
        OtKind::RandomOt if bits.ready >= needed => return None,
        OtKind::OneOf16 if nibbles.ready >= needed => return None,
        OtKind::RandomOt => false,
        OtKind::OneOf16 => bits.ready >= TREE_OTS / GROUP,
    };
    let level = if large { nibbles } else { bits };
    Some(Refill {
        kind: if large {
            OtKind::OneOf16
        } else {
            OtKind::RandomOt
        },
        request_len: corrections_len(large, level.started) + values_len(large),
        answer_len: 16 * TREES * tree_blocks(large),
    })
}

/// Where a supply stands.
#[derive(Clone, Copy)]
struct Level {
    ready: usize,
    /// Whether there was a round before.
    started: bool,
}

impl<const LARGE: bool, R: Round> Supply<LARGE, R> {
    fn level(&self) -> Level {
        Level {
            ready: self.ready(),
            started: !self.rounds.is_empty(),
        }
    }
}

/// Bytes of softspoken corrections in a request.
const fn corrections_len(large: bool, started: bool) -> usize {
    match (started, large) {
        (true, _) => 0,
        (false, false) => random_ot_len(seeds(false)),
        (false, true) => one_of_16_len(seeds(true)),
    }
}

/// A large array of defaults that never was on the stack.
fn boxed<T: Copy + Default, const N: usize>() -> Box<[T; N]> {
    vec![T::default(); N]
        .into_boxed_slice()
        .try_into()
        .unwrap_or_else(|_| Box::new([T::default(); N]))
}

/// The next block of a message.
fn take_block(message: &mut &[u8]) -> u128 {
    match message.split_first_chunk::<16>() {
        Some((block, rest)) => {
            *message = rest;
            u128::from_le_bytes(*block)
        }
        None => 0,
    }
}

#[cfg(test)]
mod tests;
