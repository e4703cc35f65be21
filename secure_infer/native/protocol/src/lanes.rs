//! How a long vector is cut so that computing and sending overlap.
//!
//! The online rounds of a vector run as a pipeline: while one party works on one lane, the other works on
//! the next. A lane fits into the caches; the lanes of a group are under way together, which bounds what
//! the network and the peer must hold. Both parties cut in the same way, from the length alone.
//!
//! With several threads, the party's own thread receives and sends, in order, while the others work on the lanes of a
//! group ([`Workers::stream`]). The peer cannot tell, but for the time.

use std::ops::Range;
use std::slice::{Chunks, ChunksMut};

use blindread_pool::Workers;
use blindread_ring::Word;

/// Lanes under way together.
const DEPTH: usize = 16;
/// Elements of a lane, at most.
const LARGEST: usize = 1 << 15;
/// Elements of a lane, at least, so that small vectors are not cut into tiny messages.
const SMALLEST: usize = 1 << 13;
/// Elements that are worked on together, so that what they need in between stays in the first-level cache: a multiple
/// of 64, so that they begin and end with whole bytes of a message.
pub(crate) const STEP: usize = 1 << 10;

/// Consecutive lanes of a vector.
#[derive(Clone)]
pub(crate) struct Lanes {
    range: Range<usize>,
    /// Elements of a lane; the vector's last may have fewer.
    lane: usize,
}

/// The groups of lanes of a vector of `n` elements.
pub(crate) fn groups(n: usize) -> impl Iterator<Item = Lanes> {
    let lane = (n / 8).next_multiple_of(64).clamp(SMALLEST, LARGEST);
    (0..n).step_by(lane * DEPTH).map(move |start| Lanes {
        range: start..n.min(start + lane * DEPTH),
        lane,
    })
}

/// Elements of the largest group of lanes of a vector of `n` elements.
pub(crate) fn largest(n: usize) -> usize {
    n.min(LARGEST * DEPTH)
}

/// Bytes that processors move between their caches: two lines. What threads write meanwhile is as far apart, or they
/// wait for each other.
const APART: usize = 128;

/// Work space of one thread: one block, and a message that takes the place of the one that it is made from.
#[repr(align(128))]
pub(crate) struct Scratch<W> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) tables: Vec<u16>,
    pub(crate) words: Vec<W>,
    pub(crate) body: Vec<u8>,
}

impl<W: Word> Scratch<W> {
    pub(crate) fn for_all(workers: &Workers) -> Vec<Self> {
        (0..workers.threads())
            .map(|_| Self {
                bytes: block(),
                tables: block(),
                words: block(),
                body: Vec::new(),
            })
            .collect()
    }
}

/// A block, and behind it the room that keeps the next thread's apart.
fn block<T: Clone + Default>() -> Vec<T> {
    let mut block = Vec::with_capacity(STEP + APART);
    block.resize(STEP, T::default());
    block
}

/// The messages of a group, one per lane; kept, since their memory is used again.
#[derive(Default)]
pub(crate) struct Bodies(Vec<Body>);

#[repr(align(128))]
#[derive(Default)]
struct Body(Vec<u8>);

impl Lanes {
    /// The ranges of the lanes.
    pub(crate) fn ranges(&self) -> impl ExactSizeIterator<Item = Range<usize>> + Send + use<> {
        let Self { range, lane } = self.clone();
        range
            .clone()
            .step_by(lane)
            .map(move |start| start..range.end.min(start + lane))
    }

    /// The lanes of a whole vector.
    pub(crate) fn of<'a, T>(&self, whole: &'a [T]) -> Chunks<'a, T> {
        whole[self.range.clone()].chunks(self.lane)
    }

    /// The lanes of a whole vector.
    pub(crate) fn of_mut<'a, T>(&self, whole: &'a mut [T]) -> ChunksMut<'a, T> {
        whole[self.range.clone()].chunks_mut(self.lane)
    }

    /// The lanes of what is kept for one group at a time.
    pub(crate) fn own<'a, T>(&self, kept: &'a [T]) -> Chunks<'a, T> {
        kept[..self.range.len()].chunks(self.lane)
    }

    /// The lanes of what is kept for one group at a time.
    pub(crate) fn own_mut<'a, T>(&self, kept: &'a mut [T]) -> ChunksMut<'a, T> {
        kept[..self.range.len()].chunks_mut(self.lane)
    }
}

impl Bodies {
    /// Room for one message per lane.
    pub(crate) fn of(&mut self, lanes: &Lanes) -> impl Iterator<Item = &mut Vec<u8>> {
        let used = lanes.ranges().len();
        if self.0.len() < used {
            self.0.resize_with(used, Body::default);
        }
        self.0[..used].iter_mut().map(|Body(body)| body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_cover_a_vector_in_order() {
        for n in [0, 1, 8191, 8192, 8193, 100_000, 1 << 20, (1 << 20) + 7] {
            let numbers: Vec<usize> = (0..n).collect();
            let mut at = 0;
            for group in groups(n) {
                assert_eq!(group.ranges().len(), group.of(&numbers).len());
                assert!(group.ranges().len() <= DEPTH);
                for (range, lane) in group.ranges().zip(group.of(&numbers)) {
                    assert_eq!((range.start, lane[0], range.len()), (at, at, lane.len()));
                    at = range.end;
                }
            }
            assert_eq!(at, n);
        }
    }
}
