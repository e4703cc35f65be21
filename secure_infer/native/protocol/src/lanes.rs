//! How a long vector is cut so that computing and sending overlap.
//!
//! The online rounds of a vector run as a pipeline: while one party works on one lane, the other works on
//! the next. A lane fits into the caches; so many are under way together that nobody waits, and so few that the network
//! and the peer can hold them. Both parties cut in the same way, from the length alone.
//!
//! With several threads, whoever takes a lane receives, works and sends ([`Workers::stream`]), so that what one thread
//! receives isn't in another's cache; a message's memory stays with its thread, too. The peer cannot tell, but for the
//! time.

use std::ops::Range;
use std::slice::ChunksMut;

use blindread_pool::{Rounds, Workers};
use blindread_ring::Word;

use crate::channel::Channel;
use crate::error::ProtocolError;
use crate::secret::Secret;

/// Lanes under way together.
const DEPTH: usize = 16;
/// Elements of a lane, at most.
const LARGEST: usize = 1 << 15;
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

/// Work space of one thread: one block, and memory of messages.
#[repr(align(128))]
pub(crate) struct Scratch<W> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) tables: Vec<u16>,
    pub(crate) words: Vec<W>,
    vectors: Vec<Vec<u8>>,
}

impl<W: Word> Scratch<W> {
    fn new(vectors: Vec<Vec<u8>>) -> Self {
        Self {
            bytes: block(),
            tables: block(),
            words: block(),
            vectors,
        }
    }

    /// An empty vector, if possible with the memory of one that was [kept](Self::keep).
    pub(crate) fn vector(&mut self) -> Vec<u8> {
        self.vectors.pop().unwrap_or_default()
    }

    /// Keeps the memory of a vector that isn't needed any more.
    pub(crate) fn keep(&mut self, mut vector: Vec<u8>) {
        vector.clear();
        self.vectors.push(vector);
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

/// Memory of messages, of each thread: what it has used last is in its caches.
#[derive(Default)]
pub(crate) struct Kept(Vec<Vec<Vec<u8>>>);

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
        L: for<'c> Rounds<dyn Channel + 'c, State = Scratch<W>, Error = ProtocolError>,
    {
        let Kept(kept) = &mut *self.kept;
        kept.resize_with(self.workers.threads(), Vec::new);
        let mut scratch: Vec<_> = kept.drain(..).map(Scratch::new).collect();
        self.workers
            .stream(&mut scratch, &mut *self.ch, lanes, rounds, DEPTH)?;
        kept.extend(scratch.into_iter().map(|scratch| scratch.vectors));
        Ok(())
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
}
