//! D's online rounds of a vector of ReLUs, lane by lane (see [`crate::lanes`]) and inside of a lane block by block.

use std::mem::{replace, take};
use std::ops::Range;

use blindread_pool::Rounds;
use blindread_ring::{Word, prefetch_next, widened};

use super::{Channels, Compares, DeveloperOffline, DeveloperRelu};
use crate::ahead::stripes;
use crate::carry::{self, Chunk};
use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;
use crate::lanes::{Lanes, Online, STEP, Scratch};
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

/// What D keeps for one lane, its state between the rounds, and H's message, which D's next one replaces. One round asks
/// for the first chunk, every chunk has one for its answers, and so has the multiplexer.
struct Lane<'a, W> {
    common: &'a Common<'a>,
    range: Range<usize>,
    /// The shares of the values, unless `y` has them.
    input: Option<&'a [u32]>,
    y: &'a mut [u32],
    picks: Vec<&'a mut [u8]>,
    choices: &'a mut [u8],
    difference: &'a mut [W],
    w: &'a mut [W],
    tau: &'a mut [W],
    /// Carry masked by H (0 before the first chunk), and after the last chunk the sign bit masked by H.
    beta: Vec<u8>,
    index: Vec<u8>,
    body: Vec<u8>,
    /// The ring elements that follow the bits of a multiplexer request.
    elements: Vec<u8>,
}

impl<W: Word> Compares for DeveloperRelu<W> {
    fn prepare(&mut self, off: &mut DeveloperOffline<'_>) -> Result<(), ProtocolError> {
        stripes(self.choices.len()).try_for_each(|at| self.prepare_stripe(off, at))
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
        debug_assert!(self.picks.iter().all(Secret::is_wiped) && self.choices.is_wiped());
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
    ) -> impl Iterator<Item = Lane<'a, W>> + Send {
        let lanes = Lanes::new(y.len());
        let of_product = (lanes.of_mut(&mut self.choices))
            .zip(lanes.of_mut(&mut self.difference))
            .zip(lanes.of_mut(&mut self.w))
            .zip(lanes.of_mut(&mut self.tau));
        (lanes.ranges().zip(lanes.of_mut(y)))
            .zip(lanes.of_all(&mut self.picks).zip(of_product))
            .map(
                move |((range, y), (picks, (((choices, difference), w), tau)))| Lane {
                    common,
                    input: input.map(|input| &input[range.clone()]),
                    range,
                    y,
                    picks,
                    choices,
                    difference,
                    w,
                    tau,
                    beta: Vec::new(),
                    index: Vec::new(),
                    body: Vec::new(),
                    elements: Vec::new(),
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

impl<'c, W: Word> Rounds<dyn Channel + 'c> for Lane<'_, W> {
    type State = Scratch<W>;
    type Error = ProtocolError;

    fn before(
        &mut self,
        round: usize,
        scratch: &mut Scratch<W>,
        ch: &mut (dyn Channel + 'c),
    ) -> Result<(), ProtocolError> {
        let n = self.y.len();
        self.body = scratch.vector();
        if let Some(chunk) = self.common.answered(round) {
            let len = wire::tables_len(n, chunk.entries());
            ch.recv(Kind::ChunkTables, len, &mut self.body)?;
        } else if round > 0 {
            let len = wire::words_len(n, self.common.out_bits);
            ch.recv(Kind::MuxAnswer, len, &mut self.body)?;
        }
        Ok(())
    }

    fn work(&mut self, round: usize, scratch: &mut Scratch<W>) -> Result<(), ProtocolError> {
        match (self.common.answered(round), self.common.asked(round)) {
            (None, Some(first)) => self.begin(first, scratch),
            (Some(chunk), Some(next)) => self.advance(round, (chunk, next), scratch),
            (Some(last), None) => self.request(last, scratch),
            (None, None) => self.finish(scratch)?,
        }
        Ok(())
    }

    fn after(
        &mut self,
        round: usize,
        scratch: &mut Scratch<W>,
        ch: &mut (dyn Channel + 'c),
    ) -> Result<(), ProtocolError> {
        if self.common.asked(round).is_some() {
            ch.send(Kind::ChunkIndices, &self.body)?;
        } else if self.common.answered(round).is_some() {
            ch.send(Kind::MuxRequest, &self.body)?;
            ch.send(Kind::MuxRequest, &self.elements)?;
            scratch.keep(take(&mut self.elements));
        }
        scratch.keep(take(&mut self.body));
        Ok(())
    }
}

impl<W: Word> Lane<'_, W> {
    /// The thresholds, and the indices of the first chunk.
    fn begin(&mut self, first: Chunk, scratch: &mut Scratch<W>) {
        for state in [&mut self.beta, &mut self.index] {
            *state = scratch.vector();
            state.resize(self.y.len(), 0);
        }
        let blocks = blocks(&self.range, self.y, &mut self.beta, &mut self.index)
            .zip(self.picks[0].chunks(STEP));
        for (mut block, picks) in blocks {
            if let Some(input) = self.input {
                let start = block.range.start - self.range.start;
                (block.y).copy_from_slice(&input[start..start + block.range.len()]);
            }
            self.common.channels.shift(&block.range, block.y);
            let deltas = &mut scratch.bytes;
            block.ask(first, self.common.centre, picks, deltas, &mut self.body);
        }
    }

    /// The answers of a chunk, and the indices of the next one, number `at`.
    fn advance(&mut self, at: usize, (chunk, next): (Chunk, Chunk), scratch: &mut Scratch<W>) {
        let mut indices = scratch.vector();
        let (picks, next_picks) = self.picks.split_at_mut(at);
        let picks = picks[at - 1].chunks_mut(STEP);
        let blocks = blocks(&self.range, self.y, &mut self.beta, &mut self.index)
            .zip(self.body.chunks(wire::tables_len(STEP, chunk.entries())))
            .zip(picks.zip(next_picks[0].chunks(STEP)));
        for ((mut block, answers), (picks, next_picks)) in blocks {
            block.pick(chunk, picks, &mut scratch.tables, answers);
            let deltas = &mut scratch.bytes;
            block.ask(next, self.common.centre, next_picks, deltas, &mut indices);
        }
        scratch.keep(replace(&mut self.body, indices));
    }

    /// The answers of the last chunk, and the multiplexer's request.
    fn request(&mut self, last: Chunk, scratch: &mut Scratch<W>) {
        let Common {
            top,
            centre,
            out_bits,
            ..
        } = *self.common;
        let mask = ring_mask(out_bits);
        let mut flips = scratch.vector();
        self.elements = scratch.vector();
        let picks = self.picks[self.common.chunks.len() - 1].chunks_mut(STEP);
        let blocks = blocks(&self.range, self.y, &mut self.beta, &mut self.index)
            .zip(self.body.chunks(wire::tables_len(STEP, last.entries())))
            .zip(picks.zip(self.choices.chunks_mut(STEP)))
            .zip(self.difference.chunks_mut(STEP));
        for (((mut block, answers), (picks, choices)), difference) in blocks {
            prefetch_next(choices);
            prefetch_next(difference);
            block.pick(last, picks, &mut scratch.tables, answers);
            self.common.channels.flip(&block.range, block.beta);
            let Block { y, beta, index, .. } = block;
            let words = &mut scratch.words[..y.len()];
            widened(
                #[inline(always)]
                || {
                    for (beta, &y) in beta.iter_mut().zip(&*y) {
                        *beta ^= 1 ^ (y.wrapping_add(centre) >> top & 1) as u8;
                    }
                    mux::request(beta, y, choices, difference, mask, index, words);
                    wire::put_bits(index, &mut flips);
                },
            );
            wire::put_words(words, out_bits, &mut self.elements);
            wipe(choices);
            wipe(difference);
        }
        scratch.keep(replace(&mut self.body, flips));
    }

    /// The multiplexer's answers; `y` becomes D's shares of the results.
    fn finish(&mut self, scratch: &mut Scratch<W>) -> Result<(), ProtocolError> {
        let bits = self.common.out_bits;
        let mask = ring_mask(bits);
        let blocks = blocks(&self.range, self.y, &mut self.beta, &mut self.index)
            .zip(self.body.chunks(wire::words_len(STEP, bits)))
            .zip(self.w.chunks_mut(STEP).zip(self.tau.chunks_mut(STEP)));
        for ((block, answers), (w, tau)) in blocks {
            prefetch_next(w);
            prefetch_next(tau);
            let words = &mut scratch.words[..block.y.len()];
            wire::get_words(answers, bits, words)?;
            widened(
                #[inline(always)]
                || mux::finish(block.beta, block.index, w, tau, mask, words, block.y),
            );
            wipe(w);
            wipe(tau);
        }
        for state in [&mut self.beta, &mut self.index] {
            scratch.keep(take(state));
        }
        Ok(())
    }
}

/// A block of a lane's state.
struct Block<'a> {
    range: Range<usize>,
    y: &'a mut [u32],
    beta: &'a mut [u8],
    index: &'a mut [u8],
}

fn blocks<'a>(
    range: &Range<usize>,
    y: &'a mut [u32],
    beta: &'a mut [u8],
    index: &'a mut [u8],
) -> impl Iterator<Item = Block<'a>> {
    let starts = range.clone().step_by(STEP);
    starts
        .zip(y.chunks_mut(STEP))
        .zip(beta.chunks_mut(STEP).zip(index.chunks_mut(STEP)))
        .map(|((start, y), (beta, index))| Block {
            range: start..start + y.len(),
            y,
            beta,
            index,
        })
}

impl Block<'_> {
    /// The indices into the tables of a chunk.
    fn ask(
        &mut self,
        chunk: Chunk,
        centre: u32,
        picks: &[u8],
        deltas: &mut [u8],
        body: &mut Vec<u8>,
    ) {
        prefetch_next(picks);
        let deltas = &mut deltas[..picks.len()];
        widened(
            #[inline(always)]
            || {
                carry::indices(chunk, self.y, centre, self.beta, self.index);
                for ((delta, &index), &pick) in deltas.iter_mut().zip(&*self.index).zip(picks) {
                    *delta = index ^ (pick & 15);
                }
                wire::put_nibbles(deltas, body);
            },
        );
    }

    /// The carries out of a chunk.
    fn pick(&mut self, chunk: Chunk, picks: &mut [u8], tables: &mut [u16], answers: &[u8]) {
        prefetch_next(picks);
        let tables = &mut tables[..picks.len()];
        widened(
            #[inline(always)]
            || {
                wire::get_tables(answers, chunk.entries(), tables);
                carry::pick(tables, self.index, picks, self.beta);
            },
        );
        wipe(picks);
    }
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
