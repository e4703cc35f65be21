//! How a long vector is cut so that computing and sending overlap.
//!
//! The online rounds of a vector run as a pipeline: while one party works on one lane, the other works on
//! the next. A lane fits into the caches; the lanes of a group are under way together, which bounds what
//! the network and the peer must hold. Both parties cut in the same way, from the length alone.
//!
//! A party with several threads takes lanes of a group in *batches*, whose messages it receives before it
//! works on them and sends afterwards, in order. The peer cannot tell, but for the time.

use std::ops::Range;
use std::slice::{Chunks, ChunksMut};

use blindread_pool::Workers;

use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;

/// Lanes under way together.
const DEPTH: usize = 16;
/// Elements of a lane, at most.
const LARGEST: usize = 1 << 15;
/// Elements of a lane, at least, so that small vectors are not cut into tiny messages.
const SMALLEST: usize = 1 << 13;
/// Elements that are worked on together, so that what they need in between stays in the first-level cache: a multiple
/// of 64, so that they begin and end with whole bytes of a message.
pub(crate) const STEP: usize = 1 << 11;
/// Lanes of a batch for each of several threads: enough that they rarely wait for each other, and few enough that the
/// peer has the rest of the group to work on meanwhile.
const LANES_PER_THREAD: usize = 2;

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
    Lanes { range: 0..n, lane }.cut(DEPTH)
}

/// The messages of a batch, one per lane; kept, since their memory is used again.
#[derive(Default)]
pub(crate) struct Bodies {
    bodies: Vec<Vec<u8>>,
    used: usize,
}

impl Lanes {
    fn cut(self, lanes: usize) -> impl Iterator<Item = Self> {
        let Self { range, lane } = self;
        range.clone().step_by(lane * lanes).map(move |start| Self {
            range: start..range.end.min(start + lane * lanes),
            lane,
        })
    }

    /// The lanes of a group, as many at a time as this party works on together.
    pub(crate) fn batches(&self, workers: &Workers) -> impl Iterator<Item = Self> + use<> {
        self.clone().cut(match workers.threads() {
            1 => 1,
            threads => LANES_PER_THREAD * threads,
        })
    }

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
}

impl Bodies {
    /// Room for one message per lane.
    pub(crate) fn of(&mut self, lanes: &Lanes) -> &mut [Vec<u8>] {
        self.used = lanes.ranges().len();
        if self.bodies.len() < self.used {
            self.bodies.resize(self.used, Vec::new());
        }
        &mut self.bodies[..self.used]
    }

    /// Receives one message per lane, of `len(elements)` bytes.
    ///
    /// # Errors
    /// Those of the channel.
    pub(crate) fn recv(
        &mut self,
        ch: &mut dyn Channel,
        kind: Kind,
        lanes: &Lanes,
        len: impl Fn(usize) -> usize,
    ) -> Result<&mut [Vec<u8>], ProtocolError> {
        let bodies = self.of(lanes);
        for (lane, body) in lanes.ranges().zip(bodies.iter_mut()) {
            ch.recv(kind, len(lane.len()), body)?;
        }
        Ok(bodies)
    }

    /// Sends what was put into the messages of the last batch.
    ///
    /// # Errors
    /// Those of the channel.
    pub(crate) fn send(&self, ch: &mut dyn Channel, kind: Kind) -> Result<(), ProtocolError> {
        for body in &self.bodies[..self.used] {
            ch.send(kind, body)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_cover_a_vector_in_order_however_many_threads_take_them() {
        for threads in [1, 2, 3] {
            let workers = Workers::new(threads).unwrap();
            for n in [0, 1, 8191, 8192, 8193, 100_000, 1 << 20, (1 << 20) + 7] {
                let numbers: Vec<usize> = (0..n).collect();
                let (mut at, mut cut) = (0, Vec::new());
                for batch in groups(n).flat_map(|group| group.batches(&workers)) {
                    assert_eq!(batch.ranges().len(), batch.of(&numbers).len());
                    for (range, lane) in batch.ranges().zip(batch.of(&numbers)) {
                        assert_eq!((range.start, lane[0], range.len()), (at, at, lane.len()));
                        at = range.end;
                        cut.push(lane.len());
                    }
                }
                assert_eq!(at, n);
                let alone = groups(n).flat_map(|group| group.ranges());
                assert_eq!(cut, alone.map(|lane| lane.len()).collect::<Vec<_>>());
            }
        }
    }
}
