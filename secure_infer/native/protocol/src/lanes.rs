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
use blindread_ring::Word;

use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;
use crate::secret::Secret;

/// Lanes under way together.
const DEPTH: usize = 16;
/// Elements of a lane, at most: what the rounds keep in between stays in the second-level cache, and a thread that goes
/// on with another lane begins anew with what it reads ahead.
const LARGEST: usize = 1 << 16;
/// Elements of a lane, at least, so that small vectors are not cut into tiny messages.
const SMALLEST: usize = 1 << 12;
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
pub(crate) struct Scratch<W> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) bits: Vec<u8>,
    pub(crate) tables: Vec<u16>,
    pub(crate) words: Vec<W>,
}

impl<W: Word> Scratch<W> {
    fn new() -> Self {
        Self {
            bytes: block(),
            bits: block(),
            tables: block(),
            words: block(),
        }
    }
}

/// A block, and behind it the room that keeps the next thread's apart.
fn block<T: Clone + Default>() -> Vec<T> {
    let mut block = Vec::with_capacity(STEP + APART);
    block.resize(STEP, T::default());
    block
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
    /// Of what the lanes of a vector keep between their rounds, in the smallest type that holds it.
    short: Secret<u16>,
    long: Secret<u32>,
}

/// A type of which there is memory.
pub(crate) trait Room: Word {
    /// It.
    fn room(kept: &mut Kept) -> &mut Secret<Self>;
}

impl Room for u16 {
    fn room(kept: &mut Kept) -> &mut Secret<Self> {
        &mut kept.short
    }
}

impl Room for u32 {
    fn room(kept: &mut Kept) -> &mut Secret<Self> {
        &mut kept.long
    }
}

/// One lane, and what a party does with it in each round of a protocol.
pub(crate) trait Lane<W>: Send {
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
        W: Word,
        L: Lane<W>,
    {
        let (threads, kept) = (self.workers.threads(), &mut self.kept.messages);
        kept.resize_with(threads, Vec::new);
        let mut scratch: Vec<_> = (0..threads).map(|_| Scratch::new()).collect();
        let lanes = lanes.into_iter().map(|lane| Passing {
            lane,
            received: Vec::new(),
            answer: Vec::new(),
            words: PhantomData,
        });
        let own = (&mut scratch[..], &mut kept[..]);
        self.workers
            .stream(own, &mut *self.ch, lanes, rounds, DEPTH)
    }
}

impl Lanes {
    /// Those of a vector of `n` elements.
    pub(crate) fn new(n: usize) -> Self {
        Self {
            n,
            lane: (n / 8).next_multiple_of(64).clamp(SMALLEST, LARGEST),
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
        let lengths = [1, 4096, 4097, 65_536, 100_000, 600_000];
        let counts = lengths.map(|n| Lanes::new(n).ranges().len());
        assert_eq!((counts, DEPTH), ([1, 1, 2, 8, 8, 10], 16));
    }
}
