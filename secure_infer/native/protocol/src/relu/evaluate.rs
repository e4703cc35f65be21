//! D's online rounds of a vector of ReLUs, lane by lane (see [`crate::lanes`]) and inside of a lane block by block.

use std::mem::take;
use std::ops::Range;

use blindread_ring::{Word, prefetch_next, widened};

use super::{Channels, Compares, DeveloperOffline, DeveloperRelu};
use crate::ahead::stripes;
use crate::carry::{self, Chunk};
use crate::channel::Kind;
use crate::error::ProtocolError;
use crate::lanes::{Lane, Lanes, Online, Room, STEP, Scratch};
use crate::mux;
use crate::program::ring_mask;
use crate::secret::{Secret, wipe};
use crate::truncate::Truncation;
use crate::truncate_flow::Truncates;
use crate::wire;

/// What the lanes have in common.
struct Common<'a> {
    chunks: &'a [Chunk],
    channels: &'a Channels<'a>,
    top: u32,
    centre: u32,
    out_bits: u32,
    extension: Option<Truncation>,
}

/// What D keeps for one lane, and its state between the rounds. One round asks for the first chunk, every chunk has one
/// for its answers, and so have the multiplexer and the extension.
struct DeveloperLane<'a, W> {
    common: &'a Common<'a>,
    range: Range<usize>,
    /// The shares of the values, unless `out` has them.
    input: Option<&'a [u32]>,
    /// The shares of what is compared with zero; after the multiplexer, of the results before the extension.
    y: &'a mut [W],
    /// The shares of the results.
    out: &'a mut [u32],
    /// After the last chunk, the sign bit masked by H, and above it the bit that H got.
    picks: Vec<&'a mut [u8]>,
    difference: &'a mut [W],
    w: &'a mut [W],
    tau: &'a mut [W],
    /// D's choices in the extension, which become the bits that H gets, and what D keeps besides.
    extension: Option<(&'a mut [u8], &'a mut [W])>,
}

impl<W: Room> Compares for DeveloperRelu<W> {
    fn prepare(&mut self, off: &mut DeveloperOffline<'_>) -> Result<(), ProtocolError> {
        stripes(self.w.len()).try_for_each(|at| self.prepare_stripe(off, at))?;
        match &mut self.extension {
            Some(extension) => extension.prepare(off),
            None => Ok(()),
        }
    }

    fn evaluate(
        &mut self,
        on: &mut Online<'_>,
        input: Option<&[u32]>,
        out: &mut [u32],
        channels: &Channels<'_>,
    ) -> Result<(), ProtocolError> {
        let chunks = self.chunks.clone();
        let common = Common {
            chunks: &chunks,
            channels,
            top: self.top,
            centre: self.centre,
            out_bits: self.out_bits,
            extension: self.extension.as_ref().map(|to| to.truncation),
        };
        let rounds = chunks.len() + 2 + usize::from(common.extension.is_some());
        let mut values = take(&mut W::room(on.kept).values);
        let y = values.room(out.len());
        on.exchange(self.lanes(&common, input, y, out), rounds)?;
        W::room(on.kept).values = values;
        debug_assert!(self.picks.iter().all(Secret::is_wiped));
        debug_assert!([&self.w, &self.tau, &self.difference].map(Secret::is_wiped) == [true; 3]);
        debug_assert!((self.extension.iter()).all(|to| to.choices.is_wiped() && to.w.is_wiped()));
        Ok(())
    }
}

impl<W: Word> DeveloperRelu<W> {
    fn lanes<'a>(
        &'a mut self,
        common: &'a Common<'a>,
        input: Option<&'a [u32]>,
        y: &'a mut [W],
        out: &'a mut [u32],
    ) -> impl Iterator<Item = DeveloperLane<'a, W>> + Send {
        let lanes = Lanes::new(y.len());
        let of_product = (lanes.of_mut(&mut self.difference))
            .zip(lanes.of_mut(&mut self.w))
            .zip(lanes.of_mut(&mut self.tau));
        let mut extension = self.extension.as_mut().map(|to| {
            let choices = lanes.of_mut(&mut to.choices);
            choices.zip(lanes.of_mut(&mut to.w))
        });
        (lanes.ranges().zip(lanes.of_mut(y).zip(lanes.of_mut(out))))
            .zip(lanes.of_all(&mut self.picks).zip(of_product))
            .map(
                move |((range, (y, out)), (picks, ((difference, w), tau)))| DeveloperLane {
                    common,
                    input: input.map(|input| &input[range.clone()]),
                    range,
                    y,
                    out,
                    extension: extension.as_mut().and_then(Iterator::next),
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

    /// The round in which the multiplexer's answers come.
    fn multiplexed(&self) -> usize {
        self.chunks.len() + 1
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
            None if round == 0 => None,
            None if round == self.common.multiplexed() => {
                Some((Kind::MuxAnswer, wire::words_len(n, bits)))
            }
            None => {
                let bits = self.common.extension?.ot_bits();
                Some((Kind::TruncateAnswer, wire::words_len(n, bits)))
            }
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
            (None, None) if round == self.common.multiplexed() => {
                self.finish(received, answer, scratch)?;
            }
            (None, None) => self.extend(received, scratch)?,
        }
        Ok(())
    }

    fn sends(&self, round: usize) -> Option<Kind> {
        match (self.common.answered(round), self.common.asked(round)) {
            (_, Some(_)) => Some(Kind::ChunkIndices),
            (Some(_), None) => Some(Kind::MuxRequest),
            (None, None) => {
                let extended = round == self.common.multiplexed() && self.extension.is_some();
                extended.then_some(Kind::TruncateRequest)
            }
        }
    }
}

impl<W: Word> DeveloperLane<'_, W> {
    /// The thresholds, and the indices of the first chunk.
    fn begin(&mut self, first: Chunk, indices: &mut Vec<u8>, scratch: &mut Scratch<W>) {
        let (common, deltas) = (self.common, &mut scratch.bytes);
        let carry = &mut scratch.bits;
        carry.fill(0);
        let input = self.input.unwrap_or(self.out);
        let blocks = (blocks(&self.range).zip(input.chunks(STEP)))
            .zip(self.y.chunks_mut(STEP).zip(self.picks[0].chunks_mut(STEP)));
        for ((range, input), (y, picks)) in blocks {
            prefetch_next(picks);
            common.channels.shift(&range, input, y);
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
            prefetch_next(picks);
            prefetch_next(next_picks);
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
        let blocks = (blocks(&self.range).zip(self.y.chunks(STEP)))
            .zip(received.chunks(wire::tables_len(STEP, last.entries())))
            .zip(picks.zip(self.difference.chunks_mut(STEP)));
        for (((range, y), answers), (picks, difference)) in blocks {
            prefetch_next(picks);
            prefetch_next(difference);
            let n = y.len();
            let (beta, flips) = (&mut scratch.bits[..n], &mut scratch.bytes[..n]);
            let words = &mut scratch.words[..n];
            pick(last, answers, picks, &mut scratch.tables, beta);
            self.common.channels.flip(&range, beta);
            widened(
                #[inline(always)]
                || {
                    let centre = W::of(centre);
                    for (beta, &y) in beta.iter_mut().zip(y) {
                        *beta ^= 1 ^ y.plus(centre).byte(top) & 1;
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

    /// The multiplexer's answers, and the request of the extension if there is one.
    fn finish(
        &mut self,
        received: &[u8],
        request: &mut Vec<u8>,
        scratch: &mut Scratch<W>,
    ) -> Result<(), ProtocolError> {
        let bits = self.common.out_bits;
        let mask = ring_mask(bits);
        let signs = &mut self.picks[self.common.chunks.len() - 1];
        let mut choices = (self.extension.as_mut()).map(|(choices, _)| choices.chunks_mut(STEP));
        let blocks = (self.y.chunks_mut(STEP).zip(signs.chunks_mut(STEP)))
            .zip(received.chunks(wire::words_len(STEP, bits)))
            .zip(self.w.chunks_mut(STEP).zip(self.tau.chunks_mut(STEP)))
            .zip(self.out.chunks_mut(STEP));
        for ((((y, signs), answers), (w, tau)), out) in blocks {
            prefetch_next(w);
            prefetch_next(tau);
            let n = y.len();
            let (beta, flips) = (&mut scratch.bits[..n], &mut scratch.bytes[..n]);
            let words = &mut scratch.words[..n];
            wire::get_words(answers, bits, words)?;
            let extension = self
                .common
                .extension
                .zip(choices.as_mut().and_then(Iterator::next));
            widened(
                #[inline(always)]
                || {
                    for ((beta, flip), &sign) in beta.iter_mut().zip(&mut *flips).zip(&*signs) {
                        (*beta, *flip) = (sign & 1, sign >> 1);
                    }
                    mux::finish(beta, flips, w, tau, mask, words, y);
                    if let Some((truncation, choices)) = extension {
                        prefetch_next(choices);
                        truncation.offset(y);
                        truncation.request(y, choices);
                        wire::put_bits(choices, request);
                    } else {
                        widen(y, out);
                        wipe(y);
                    }
                },
            );
            wipe(signs);
            wipe(w);
            wipe(tau);
        }
        Ok(())
    }

    /// The answers of the extension.
    fn extend(&mut self, received: &[u8], scratch: &mut Scratch<W>) -> Result<(), ProtocolError> {
        let (Some(truncation), Some((flips, w))) = (self.common.extension, &mut self.extension)
        else {
            return Ok(());
        };
        let bits = truncation.ot_bits();
        let blocks = (self.y.chunks_mut(STEP).zip(self.out.chunks_mut(STEP)))
            .zip(flips.chunks_mut(STEP).zip(w.chunks_mut(STEP)))
            .zip(received.chunks(wire::words_len(STEP, bits)));
        for (((y, out), (flips, w)), answers) in blocks {
            prefetch_next(w);
            let words = &mut scratch.words[..y.len()];
            wire::get_words(answers, bits, words)?;
            widened(
                #[inline(always)]
                || {
                    widen(y, out);
                    truncation.finish(out, flips, w, words);
                },
            );
            wipe(y);
            wipe(flips);
            wipe(w);
        }
        Ok(())
    }
}

/// Words as those of 32 bits.
#[inline(always)]
fn widen<W: Word>(words: &[W], wide: &mut [u32]) {
    for (wide, word) in wide.iter_mut().zip(words) {
        *wide = word.get();
    }
}

/// The blocks of a lane, as ranges of the vector.
fn blocks(range: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
    let (end, starts) = (range.end, range.clone().step_by(STEP));
    starts.map(move |start| start..end.min(start + STEP))
}

/// The masked indices into the tables of a chunk.
fn ask<W: Word>(
    chunk: Chunk,
    y: &[W],
    centre: u32,
    carry: &[u8],
    picks: &mut [u8],
    deltas: &mut [u8],
    body: &mut Vec<u8>,
) {
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

    /// What is compared with zero.
    fn shift<W: Word>(&self, range: &Range<usize>, input: &[u32], y: &mut [W]) {
        for (channel, at) in self.parts(range) {
            let (threshold, input) = (self.threshold[channel], &input[at.clone()]);
            let y = &mut y[at];
            widened(
                #[inline(always)]
                || {
                    for (y, &input) in y.iter_mut().zip(input) {
                        *y = W::of(input.wrapping_add(threshold));
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
