//! How a long vector is cut so that computing and sending overlap, and so that threads don't wait for each other.
//!
//! The online rounds of a vector run as a pipeline: while one party works on one lane, the other works on
//! the next. A lane fits into the caches; so many are under way together that nobody waits, and so few that the network
//! and the peer can hold them. Both parties cut in the same way, from the length and the number of connections alone.
//!
//! Lanes that lie together pass the same connection, and a connection has one thread, which receives, works and sends. A
//! thread may have several connections if the peer has more threads; then it takes a lane of each in turn. Nobody waits
//! for ever: one of the parties has a thread for every connection (see [`Channel::connections`]), which waits for nothing
//! but its peer there, and a pair of threads on one connection gets on as if the parties had no others.

use std::collections::VecDeque;
use std::mem::take;
use std::ops::Range;
use std::slice::ChunksMut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use blindread_pool::Workers;
use blindread_ring::Word;

use crate::channel::{Channel, Kind, MAX_CONNECTIONS};
use crate::error::ProtocolError;
use crate::secret::Secret;

/// Lanes under way together, on all connections.
const DEPTH: usize = 16;
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
}

impl<W: Word> Default for Scratch<W> {
    fn default() -> Self {
        Self {
            bytes: block(),
            bits: block(),
            tables: block(),
            words: block(),
        }
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
    /// Of each thread: what it has used last is in its caches.
    messages: Vec<Messages>,
    short: Memory<u16>,
    long: Memory<u32>,
}

/// Memory for what a lane receives and sends.
#[derive(Default)]
#[repr(align(128))]
struct Messages {
    received: Vec<u8>,
    answer: Vec<u8>,
}

/// Memory for vectors whose elements fit into a type.
#[derive(Default)]
pub(crate) struct Memory<W: Word> {
    /// What the lanes of a vector keep between their rounds.
    pub(crate) values: Secret<W>,
    /// Of each thread.
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

/// A connection, and the lanes that pass it: so many at a time through the first round, in their order, then through the
/// second, and so on. One that has passed its last round gives its place to the next one.
struct Line<'a, L> {
    ch: &'a mut dyn Channel,
    lanes: Vec<L>,
    /// Round and lane of what waits for its turn.
    waiting: VecDeque<(usize, usize)>,
    /// The first lane that hasn't had its first round.
    next: usize,
}

impl<'a, L> Line<'a, L> {
    fn new(ch: &'a mut dyn Channel, lanes: Vec<L>, together: usize) -> Self {
        let next = lanes.len().min(together);
        Self {
            ch,
            lanes,
            waiting: (0..next).map(|lane| (0, lane)).collect(),
            next,
        }
    }

    /// One round of one lane; false if all have passed.
    fn pass<W: Word>(
        &mut self,
        rounds: usize,
        Messages { received, answer }: &mut Messages,
        scratch: &mut Scratch<W>,
    ) -> Result<bool, ProtocolError>
    where
        L: Lane<W>,
    {
        let Some((round, number)) = self.waiting.pop_front() else {
            return Ok(false);
        };
        let lane = &mut self.lanes[number];
        received.clear();
        if let Some((kind, len)) = lane.receives(round) {
            self.ch.recv(kind, len, received)?;
        }
        answer.clear();
        lane.work(round, received, answer, scratch)?;
        if let Some(kind) = lane.sends(round) {
            self.ch.send(kind, answer)?;
        }
        if round + 1 < rounds {
            self.waiting.push_back((round + 1, number));
        } else if self.next < self.lanes.len() {
            self.waiting.push_back((0, self.next));
            self.next += 1;
        }
        Ok(true)
    }
}

/// One thread, its connections and what it works with.
#[repr(align(128))]
struct Thread<'a, L, W: Word> {
    lines: Vec<Line<'a, L>>,
    messages: &'a mut Messages,
    scratch: &'a mut Scratch<W>,
}

impl<L, W> Thread<'_, L, W>
where
    W: Word,
    L: Lane<W>,
{
    /// Passes all lanes, unless another thread has failed.
    fn run(&mut self, rounds: usize, stopped: &AtomicBool) -> Result<(), ProtocolError> {
        let several = self.lines.len() > 1;
        let mut left = true;
        while left {
            left = false;
            for line in &mut self.lines {
                if stopped.load(Ordering::Relaxed) {
                    return Ok(());
                }
                left |= line.pass(rounds, self.messages, self.scratch)?;
                if several {
                    // or the peer's thread would wait until this one comes here again
                    line.ch.flush()?;
                }
            }
        }
        // what follows may be on another connection
        self.lines
            .iter_mut()
            .try_for_each(|line| Ok(line.ch.flush()?))
    }
}

/// Stops all threads when one fails or panics.
struct Alarm<'a, 'b, L, W: Word> {
    thread: &'a mut Thread<'b, L, W>,
    stopped: &'a AtomicBool,
    off: bool,
}

impl<L, W: Word> Drop for Alarm<'_, '_, L, W> {
    fn drop(&mut self) {
        if !self.off {
            self.stopped.store(true, Ordering::Relaxed);
            let lines = &mut self.thread.lines;
            lines.iter_mut().for_each(|line| line.ch.give_up());
        }
    }
}

impl Online<'_> {
    /// Passes lanes through the rounds of a protocol.
    ///
    /// # Errors
    /// Those of the rounds.
    pub(crate) fn exchange<W, L>(
        &mut self,
        lanes: impl IntoIterator<Item = L>,
        rounds: usize,
    ) -> Result<(), ProtocolError>
    where
        W: Room,
        L: Lane<W>,
    {
        let connections = self.ch.connections();
        let count = connections.len();
        let threads = self.workers.threads().min(count);
        let mut scratch = take(&mut W::room(self.kept).scratch);
        scratch.resize_with(threads, Scratch::default);
        let messages = &mut self.kept.messages;
        messages.resize_with(threads, Messages::default);
        let own = scratch.iter_mut().zip(messages);
        let mut own: Vec<_> = own
            .map(|(scratch, messages)| Thread {
                lines: Vec::new(),
                messages,
                scratch,
            })
            .collect();
        let lanes: Vec<L> = lanes.into_iter().collect();
        let (each, mut lanes) = (lanes.len().div_ceil(count), lanes.into_iter());
        for (number, ch) in connections.into_iter().enumerate() {
            let lanes = lanes.by_ref().take(each).collect();
            let line = Line::new(ch, lanes, DEPTH.div_ceil(count));
            own[number % threads].lines.push(line);
        }
        let (failed, stopped) = (Mutex::new(None), AtomicBool::new(false));
        self.workers.abreast(&mut own, |thread| {
            let mut alarm = Alarm {
                thread,
                stopped: &stopped,
                off: false,
            };
            match alarm.thread.run(rounds, &stopped) {
                Ok(()) => alarm.off = true,
                Err(error) => {
                    let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
                    failed.get_or_insert(error);
                }
            }
        });
        W::room(self.kept).scratch = scratch;
        let failed = failed.into_inner();
        failed
            .unwrap_or_else(PoisonError::into_inner)
            .map_or(Ok(()), Err)
    }
}

impl Lanes {
    /// Those of a vector of `n` elements.
    pub(crate) fn new(n: usize) -> Self {
        let count = if n < MAX_CONNECTIONS * SMALLEST {
            // as many as a power of two
            1 << (n / SMALLEST).max(1).ilog2()
        } else {
            n.div_ceil(LARGEST).next_multiple_of(MAX_CONNECTIONS)
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
