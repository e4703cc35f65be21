//! How a long vector is cut so that computing and sending overlap.
//!
//! The online rounds of a vector run as a pipeline: while one party works on one lane, the other works on
//! the next. A lane fits into the caches; so many are under way together that nobody waits, and so few that the network
//! and the peer can hold them. Both parties cut in the same way, from the length alone.
//!
//! With several threads, whoever takes a lane receives, works and sends ([`Workers::stream`]), so that what one thread
//! receives isn't in another's cache; a message's memory stays with its thread, too. The peer cannot tell, but for the
//! time.

use std::marker::PhantomData;
use std::mem::take;
use std::ops::Range;
use std::slice::ChunksMut;

use blindread_pool::{Rounds, Workers};
use blindread_ring::{Word, prefetch_next};

use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;
use crate::secret::Secret;

/// Lanes under way together.
const DEPTH: usize = 16;
/// Lanes of a vector, or a multiple of that, so that a lane comes back to the thread that it was with, in whose caches
/// is what it keeps, as long as threads take turns.
const TOGETHER: usize = 8;
/// Elements of a lane, at most: what the rounds keep in between stays in the second-level cache.
const LARGEST: usize = 1 << 16;
/// Elements of a lane, at least, so that small vectors are not cut into tiny messages.
const SMALLEST: usize = 1 << 11;
/// Elements that are worked on together, so that what they need in between stays in the first-level cache: a multiple
/// of 64, so that they begin and end with whole bytes of a message.
pub(crate) const STEP: usize = 1 << 10;

/// The lanes of a vector.
#[derive(Clone, Copy)]
pub(crate) struct Lanes {
    /// Elements of the vector.
    n: usize,
    /// Elements of a lane; the last may have fewer.
    lane: usize,
}

/// Bytes that processors move between their caches: two lines. What threads write meanwhile is as far apart, or they
/// wait for each other.
const APART: usize = 128;

/// Work space of one thread: one block.
#[repr(align(128))]
pub(crate) struct Scratch<W: Word> {
    pub(crate) bytes: Secret<u8>,
    pub(crate) bits: Secret<u8>,
    pub(crate) tables: Secret<u16>,
    pub(crate) words: Secret<W>,
    /// How many threads work besides.
    others: usize,
}

impl<W: Word> Scratch<W> {
    fn new(threads: usize) -> Self {
        Self {
            bytes: block(),
            bits: block(),
            tables: block(),
            words: block(),
            others: threads - 1,
        }
    }

    /// For every block of a lane of `n` elements.
    pub(crate) fn ahead(&self, n: usize) -> impl Iterator<Item = ReadAhead> + use<W> {
        let (blocks, others) = (n.div_ceil(STEP), n * self.others);
        (1..=blocks).map(move |block| ReadAhead(if block == blocks { others } else { 0 }))
    }
}

/// What a thread reads ahead: what comes behind a block, but for so many elements. Behind a lane comes what the other
/// threads work on, and then what this one takes next.
#[derive(Clone, Copy)]
pub(crate) struct ReadAhead(usize);

impl ReadAhead {
    /// Asks for what is needed after a block of a vector.
    #[inline(always)]
    pub(crate) fn of<T>(self, block: &[T]) {
        prefetch_next(block, self.0);
    }
}

/// A block, and behind it the room that keeps the next thread's apart.
fn block<T: Copy + Default + Send>() -> Secret<T> {
    let mut block = Vec::with_capacity(STEP + APART);
    block.resize(STEP, T::default());
    block.into()
}

/// What an online step needs of its session.
pub(crate) struct Online<'a> {
    pub(crate) ch: &'a mut dyn Channel,
    pub(crate) workers: &'a Workers,
    pub(crate) kept: &'a mut Kept,
}

/// Memory that the next step uses again.
#[derive(Default)]
pub(crate) struct Kept {
    /// Of messages, of each thread: what it has used last is in its caches.
    messages: Vec<Vec<Vec<u8>>>,
    short: Memory<u16>,
    long: Memory<u32>,
}

/// Memory for vectors whose elements fit into a type.
#[derive(Default)]
pub(crate) struct Memory<W: Word> {
    /// What the lanes of a vector keep between their rounds.
    pub(crate) values: Secret<W>,
    /// Of every thread.
    scratch: Vec<Scratch<W>>,
}

/// A type of which there is memory.
pub(crate) trait Room: Word {
    /// It.
    fn room(kept: &mut Kept) -> &mut Memory<Self>;
}

impl Room for u16 {
    fn room(kept: &mut Kept) -> &mut Memory<Self> {
        &mut kept.short
    }
}

impl Room for u32 {
    fn room(kept: &mut Kept) -> &mut Memory<Self> {
        &mut kept.long
    }
}

/// One lane, and what a party does with it in each round of a protocol.
pub(crate) trait Lane<W: Word>: Send {
    /// The message that a round begins with, if any: its kind and its bytes.
    fn receives(&self, round: usize) -> Option<(Kind, usize)>;

    /// Appends what the party sends in this round to `answer`.
    ///
    /// # Errors
    /// What was received is malformed.
    fn work(
        &mut self,
        round: usize,
        received: &[u8],
        answer: &mut Vec<u8>,
        scratch: &mut Scratch<W>,
    ) -> Result<(), ProtocolError>;

    /// The message that a round ends with, if any.
    fn sends(&self, round: usize) -> Option<Kind>;
}

/// A lane and its messages.
struct Passing<L, W> {
    lane: L,
    received: Vec<u8>,
    answer: Vec<u8>,
    words: PhantomData<fn(W)>,
}

impl<'c, W: Word, L: Lane<W>> Rounds<dyn Channel + 'c> for Passing<L, W> {
    type State = Scratch<W>;
    type Kept = Vec<Vec<u8>>;
    type Error = ProtocolError;

    fn before(
        &mut self,
        round: usize,
        kept: &mut Vec<Vec<u8>>,
        ch: &mut (dyn Channel + 'c),
    ) -> Result<(), ProtocolError> {
        self.answer = kept.pop().unwrap_or_default();
        self.received = kept.pop().unwrap_or_default();
        if let Some((kind, len)) = self.lane.receives(round) {
            ch.recv(kind, len, &mut self.received)?;
        }
        Ok(())
    }

    fn work(&mut self, round: usize, scratch: &mut Scratch<W>) -> Result<(), ProtocolError> {
        self.answer.clear();
        (self.lane).work(round, &self.received, &mut self.answer, scratch)
    }

    fn after(
        &mut self,
        round: usize,
        kept: &mut Vec<Vec<u8>>,
        ch: &mut (dyn Channel + 'c),
    ) -> Result<(), ProtocolError> {
        if let Some(kind) = self.lane.sends(round) {
            ch.send(kind, &self.answer)?;
        }
        kept.extend([take(&mut self.received), take(&mut self.answer)]);
        Ok(())
    }
}

impl Online<'_> {
    /// Passes lanes through the rounds of a protocol.
    ///
    /// # Errors
    /// Those of the rounds.
    pub(crate) fn exchange<W, L>(
        &mut self,
        lanes: impl IntoIterator<Item = L, IntoIter: Send>,
        rounds: usize,
    ) -> Result<(), ProtocolError>
    where
        W: Room,
        L: Lane<W>,
    {
        let threads = self.workers.threads();
        let mut scratch = take(&mut W::room(self.kept).scratch);
        scratch.resize_with(threads, || Scratch::new(threads));
        let kept = &mut self.kept.messages;
        kept.resize_with(threads, Vec::new);
        let lanes = lanes.into_iter().map(|lane| Passing {
            lane,
            received: Vec::new(),
            answer: Vec::new(),
            words: PhantomData,
        });
        let own = (&mut scratch[..], &mut kept[..]);
        (self.workers).stream(own, &mut *self.ch, lanes, rounds, DEPTH)?;
        W::room(self.kept).scratch = scratch;
        Ok(())
    }
}

impl Lanes {
    /// Those of a vector of `n` elements.
    pub(crate) fn new(n: usize) -> Self {
        let count = if n < TOGETHER * SMALLEST {
            // as many as a power of two
            1 << (n / SMALLEST).max(1).ilog2()
        } else {
            n.div_ceil(LARGEST).next_multiple_of(TOGETHER)
        };
        Self {
            n,
            lane: n.div_ceil(count).next_multiple_of(64).max(64),
        }
    }

    /// The ranges of the lanes.
    pub(crate) fn ranges(self) -> impl ExactSizeIterator<Item = Range<usize>> + Send {
        let Self { n, lane } = self;
        (0..n)
            .step_by(lane)
            .map(move |start| start..n.min(start + lane))
    }

    /// For every lane, its part of each of several vectors.
    pub(crate) fn of_all<T: Copy + Default + Send>(
        self,
        vectors: &mut [Secret<T>],
    ) -> impl Iterator<Item = Vec<&mut [T]>> + Send {
        let vectors = vectors.iter_mut().map(|vector| self.of_mut(vector));
        let mut vectors: Vec<_> = vectors.collect();
        self.ranges()
            .map(move |_| vectors.iter_mut().filter_map(Iterator::next).collect())
    }

    /// The lanes of a vector.
    pub(crate) fn of_mut<T>(self, whole: &mut [T]) -> ChunksMut<'_, T> {
        debug_assert_eq!(whole.len(), self.n);
        whole.chunks_mut(self.lane)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_cover_a_vector_in_order() {
        for n in [0, 1, 4095, 4096, 4097, 100_000, 1 << 20, (1 << 20) + 7] {
            let mut numbers: Vec<usize> = (0..n).collect();
            let (lanes, mut at) = (Lanes::new(n), 0);
            assert_eq!(lanes.ranges().len(), lanes.of_mut(&mut numbers).len());
            for (range, lane) in lanes.ranges().zip(lanes.of_mut(&mut numbers)) {
                assert_eq!((range.start, lane[0], range.len()), (at, at, lane.len()));
                at = range.end;
            }
            assert_eq!(at, n);
        }
    }

    /// The cost model counts the same numbers: `test_long_vectors_are_cut_as_the_core_does`.
    #[test]
    fn long_vectors_are_cut_as_costs_expect() {
        let lengths = [1, 2048, 8191, 12_800, 65_536, 600_000];
        let counts = lengths.map(|n| Lanes::new(n).ranges().len());
        assert_eq!((counts, DEPTH), ([1, 1, 2, 4, 8, 16], 16));
    }
}
