//! D's online rounds of a vector of ReLUs, lane by lane (see [`crate::lanes`]) and inside of a lane block by block.

use std::ops::Range;

use blindread_ring::{Word, prefetch_next, widened};

use super::{Channels, Compares, DeveloperOffline, DeveloperRelu};
use crate::ahead::stripes;
use crate::carry::{self, Chunk};
use crate::channel::Kind;
use crate::error::ProtocolError;
use crate::lanes::{Lane, Lanes, Online, STEP, Scratch};
use crate::mux;
use crate::program::ring_mask;
use crate::secret::{Secret, wipe};
use crate::wire;

/// What the lanes have in common.
struct Common<'a> {
    chunks: &'a [Chunk],
    channels: &'a Channels<'a>,
    top: u32,
    centre: u32,
    out_bits: u32,
}

/// What D keeps for one lane, and its state between the rounds. One round asks for the first chunk, every chunk has one
/// for its answers, and so has the multiplexer.
struct DeveloperLane<'a, W> {
    common: &'a Common<'a>,
    range: Range<usize>,
    /// The shares of the values, unless `y` has them.
    input: Option<&'a [u32]>,
    y: &'a mut [u32],
    /// After the last chunk, the sign bit masked by H, and above it the bit that H got.
    picks: Vec<&'a mut [u8]>,
    difference: &'a mut [W],
    w: &'a mut [W],
    tau: &'a mut [W],
}

impl<W: Word> Compares for DeveloperRelu<W> {
    fn prepare(&mut self, off: &mut DeveloperOffline<'_>) -> Result<(), ProtocolError> {
        stripes(self.w.len()).try_for_each(|at| self.prepare_stripe(off, at))
    }

    fn evaluate(
        &mut self,
        on: &mut Online<'_>,
        input: Option<&[u32]>,
        y: &mut [u32],
        channels: &Channels<'_>,
    ) -> Result<(), ProtocolError> {
        let chunks = self.chunks.clone();
        let common = Common {
            chunks: &chunks,
            channels,
            top: self.top,
            centre: self.centre,
            out_bits: self.out_bits,
        };
        let lanes = self.lanes(&common, input, y);
        on.exchange(lanes, chunks.len() + 2)?;
        debug_assert!(self.picks.iter().all(Secret::is_wiped));
        debug_assert!([&self.w, &self.tau, &self.difference].map(Secret::is_wiped) == [true; 3]);
        Ok(())
    }
}

impl<W: Word> DeveloperRelu<W> {
    fn lanes<'a>(
        &'a mut self,
        common: &'a Common<'a>,
        input: Option<&'a [u32]>,
        y: &'a mut [u32],
    ) -> impl Iterator<Item = DeveloperLane<'a, W>> + Send {
        let lanes = Lanes::new(y.len());
        let of_product = (lanes.of_mut(&mut self.difference))
            .zip(lanes.of_mut(&mut self.w))
            .zip(lanes.of_mut(&mut self.tau));
        (lanes.ranges().zip(lanes.of_mut(y)))
            .zip(lanes.of_all(&mut self.picks).zip(of_product))
            .map(
                move |((range, y), (picks, ((difference, w), tau)))| DeveloperLane {
                    common,
                    input: input.map(|input| &input[range.clone()]),
                    range,
                    y,
                    picks,
                    difference,
                    w,
                    tau,
                },
            )
    }
}

impl Common<'_> {
    /// The chunk whose answers come in a round.
    fn answered(&self, round: usize) -> Option<Chunk> {
        self.chunks.get(round.checked_sub(1)?).copied()
    }

    /// The chunk that is asked for in a round.
    fn asked(&self, round: usize) -> Option<Chunk> {
        self.chunks.get(round).copied()
    }
}

impl<W: Word> Lane<W> for DeveloperLane<'_, W> {
    fn receives(&self, round: usize) -> Option<(Kind, usize)> {
        let (n, bits) = (self.y.len(), self.common.out_bits);
        match self.common.answered(round) {
            Some(chunk) => Some((Kind::ChunkTables, wire::tables_len(n, chunk.entries()))),
            None if round > 0 => Some((Kind::MuxAnswer, wire::words_len(n, bits))),
            None => None,
        }
    }

    fn work(
        &mut self,
        round: usize,
        received: &[u8],
        answer: &mut Vec<u8>,
        scratch: &mut Scratch<W>,
    ) -> Result<(), ProtocolError> {
        match (self.common.answered(round), self.common.asked(round)) {
            (None, Some(first)) => self.begin(first, answer, scratch),
            (Some(chunk), Some(next)) => {
                self.advance(round, (chunk, next), received, answer, scratch);
            }
            (Some(last), None) => self.request(last, received, answer, scratch),
            (None, None) => self.finish(received, scratch)?,
        }
        Ok(())
    }

    fn sends(&self, round: usize) -> Option<Kind> {
        match (self.common.answered(round), self.common.asked(round)) {
            (_, Some(_)) => Some(Kind::ChunkIndices),
            (Some(_), None) => Some(Kind::MuxRequest),
            (None, None) => None,
        }
    }
}

impl<W: Word> DeveloperLane<'_, W> {
    /// The thresholds, and the indices of the first chunk.
    fn begin(&mut self, first: Chunk, indices: &mut Vec<u8>, scratch: &mut Scratch<W>) {
        let (common, deltas) = (self.common, &mut scratch.bytes);
        let carry = &mut scratch.bits;
        carry.fill(0);
        let blocks = blocks(&self.range, self.y).zip(self.picks[0].chunks_mut(STEP));
        for ((range, y), picks) in blocks {
            if let Some(input) = self.input {
                let start = range.start - self.range.start;
                y.copy_from_slice(&input[start..start + range.len()]);
            }
            common.channels.shift(&range, y);
            ask(first, y, common.centre, carry, picks, deltas, indices);
        }
    }

    /// The answers of a chunk, and the indices of the next one, number `at`.
    fn advance(
        &mut self,
        at: usize,
        (chunk, next): (Chunk, Chunk),
        received: &[u8],
        indices: &mut Vec<u8>,
        scratch: &mut Scratch<W>,
    ) {
        let (picks, next_picks) = self.picks.split_at_mut(at);
        let blocks = (self.y.chunks(STEP))
            .zip(received.chunks(wire::tables_len(STEP, chunk.entries())))
            .zip(picks[at - 1].chunks_mut(STEP))
            .zip(next_picks[0].chunks_mut(STEP));
        let (centre, carry) = (self.common.centre, &mut scratch.bits);
        for (((y, answers), picks), next_picks) in blocks {
            pick(chunk, answers, picks, &mut scratch.tables, carry);
            wipe(picks);
            let deltas = &mut scratch.bytes;
            ask(next, y, centre, carry, next_picks, deltas, indices);
        }
    }

    /// The answers of the last chunk, and the multiplexer's request.
    fn request(
        &mut self,
        last: Chunk,
        received: &[u8],
        request: &mut Vec<u8>,
        scratch: &mut Scratch<W>,
    ) {
        let Common {
            top,
            centre,
            out_bits,
            ..
        } = *self.common;
        let mask = ring_mask(out_bits);
        let picks = self.picks[self.common.chunks.len() - 1].chunks_mut(STEP);
        let blocks = blocks(&self.range, self.y)
            .zip(received.chunks(wire::tables_len(STEP, last.entries())))
            .zip(picks.zip(self.difference.chunks_mut(STEP)));
        for (((range, y), answers), (picks, difference)) in blocks {
            prefetch_next(difference);
            let n = y.len();
            let (beta, flips) = (&mut scratch.bits[..n], &mut scratch.bytes[..n]);
            let words = &mut scratch.words[..n];
            pick(last, answers, picks, &mut scratch.tables, beta);
            self.common.channels.flip(&range, beta);
            widened(
                #[inline(always)]
                || {
                    for (beta, &y) in beta.iter_mut().zip(&*y) {
                        *beta ^= 1 ^ (y.wrapping_add(centre) >> top & 1) as u8;
                    }
                    carry::leave_choices(picks);
                    mux::request(beta, y, picks, difference, mask, flips, words);
                    for ((pick, &beta), &flip) in picks.iter_mut().zip(&*beta).zip(&*flips) {
                        *pick = beta | flip << 1;
                    }
                },
            );
            wire::put_flagged(flips, words, out_bits, request);
            wipe(difference);
        }
    }

    /// The multiplexer's answers; `y` becomes D's shares of the results.
    fn finish(&mut self, received: &[u8], scratch: &mut Scratch<W>) -> Result<(), ProtocolError> {
        let bits = self.common.out_bits;
        let mask = ring_mask(bits);
        let signs = &mut self.picks[self.common.chunks.len() - 1];
        let blocks = (self.y.chunks_mut(STEP).zip(signs.chunks_mut(STEP)))
            .zip(received.chunks(wire::words_len(STEP, bits)))
            .zip(self.w.chunks_mut(STEP).zip(self.tau.chunks_mut(STEP)));
        for (((y, signs), answers), (w, tau)) in blocks {
            prefetch_next(w);
            prefetch_next(tau);
            let n = y.len();
            let (beta, flips) = (&mut scratch.bits[..n], &mut scratch.bytes[..n]);
            let words = &mut scratch.words[..n];
            wire::get_words(answers, bits, words)?;
            widened(
                #[inline(always)]
                || {
                    for ((beta, flip), &sign) in beta.iter_mut().zip(&mut *flips).zip(&*signs) {
                        (*beta, *flip) = (sign & 1, sign >> 1);
                    }
                    mux::finish(beta, flips, w, tau, mask, words, y);
                },
            );
            wipe(signs);
            wipe(w);
            wipe(tau);
        }
        Ok(())
    }
}

/// The blocks of a lane, with their ranges of the vector.
fn blocks<'a>(
    range: &Range<usize>,
    y: &'a mut [u32],
) -> impl Iterator<Item = (Range<usize>, &'a mut [u32])> {
    let starts = range.clone().step_by(STEP);
    starts
        .zip(y.chunks_mut(STEP))
        .map(|(start, y)| (start..start + y.len(), y))
}

/// The masked indices into the tables of a chunk.
fn ask(
    chunk: Chunk,
    y: &[u32],
    centre: u32,
    carry: &[u8],
    picks: &mut [u8],
    deltas: &mut [u8],
    body: &mut Vec<u8>,
) {
    prefetch_next(picks);
    let deltas = &mut deltas[..picks.len()];
    widened(
        #[inline(always)]
        || {
            carry::ask(chunk, y, centre, carry, picks, deltas);
            wire::put_nibbles(deltas, body);
        },
    );
}

/// The masked carries out of a chunk.
fn pick(chunk: Chunk, answers: &[u8], picks: &[u8], tables: &mut [u16], carry: &mut [u8]) {
    prefetch_next(picks);
    let tables = &mut tables[..picks.len()];
    widened(
        #[inline(always)]
        || {
            wire::get_tables(answers, chunk.entries(), tables);
            carry::pick(tables, picks, carry);
        },
    );
}

impl Channels<'_> {
    /// The part of every channel inside of a range: (channel, positions from the range's start).
    fn parts(&self, range: &Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let (plane, range) = (self.plane, range.clone());
        let channels = range.start / plane..range.end.div_ceil(plane);
        channels.map(move |channel| {
            let start = range.start.max(channel * plane);
            let end = range.end.min((channel + 1) * plane);
            (channel, start - range.start..end - range.start)
        })
    }

    fn shift(&self, range: &Range<usize>, y: &mut [u32]) {
        for (channel, at) in self.parts(range) {
            let (threshold, y) = (self.threshold[channel], &mut y[at]);
            widened(
                #[inline(always)]
                || {
                    for y in y {
                        *y = y.wrapping_add(threshold);
                    }
                },
            );
        }
    }

    fn flip(&self, range: &Range<usize>, beta: &mut [u8]) {
        for (channel, at) in self.parts(range) {
            let flip = self.flip[channel];
            for beta in &mut beta[at] {
                *beta ^= flip;
            }
        }
    }
}
