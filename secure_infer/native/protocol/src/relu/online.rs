//! The online rounds of a vector of ReLUs, lane by lane (see [`crate::lanes`]) and inside of a lane block by block.

use std::mem::swap;
use std::ops::Range;

use blindread_pool::Workers;
use blindread_ring::{Word, prefetch_next, widened};

use super::{Answers, Channels, Compares, DeveloperRelu, HospitalRelu};
use crate::carry::{self, Chunk};
use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;
use crate::lanes::{self, Bodies, Lanes, STEP, Scratch};
use crate::mux;
use crate::program::ring_mask;
use crate::secret::{Secret, wipe};
use crate::wire;

impl<W: Word> Answers for HospitalRelu<W> {
    fn answer(
        mut self: Box<Self>,
        ch: &mut dyn Channel,
        workers: &Workers,
    ) -> Result<(), ProtocolError> {
        let mut round = Round {
            ch,
            workers,
            scratch: Scratch::for_all(workers),
            bodies: Bodies::default(),
            elements: Bodies::default(),
        };
        for group in lanes::groups(self.pi.len()) {
            for j in 0..self.chunks.len() {
                self.look_up(&mut round, j, &group)?;
            }
            self.multiplex(&mut round, &group)?;
        }
        self.tables
            .iter_mut()
            .chain(&mut self.pads)
            .for_each(Secret::release);
        self.pi.release();
        self.zero.release();
        self.one.release();
        Ok(())
    }
}

/// What every round of H takes.
struct Round<'a, W> {
    ch: &'a mut dyn Channel,
    workers: &'a Workers,
    scratch: Vec<Scratch<W>>,
    bodies: Bodies,
    /// The ring elements that follow the bits of a multiplexer request.
    elements: Bodies,
}

impl<W: Word> HospitalRelu<W> {
    /// Answers D's indices.
    fn look_up(
        &mut self,
        round: &mut Round<'_, W>,
        j: usize,
        group: &Lanes,
    ) -> Result<(), ProtocolError> {
        let entries = self.chunks[j].entries();
        let lanes = (round.bodies.of(group))
            .zip(group.of_mut(&mut self.tables[j]))
            .zip(group.of_mut(&mut self.pads[j]));
        round.workers.stream(
            &mut round.scratch,
            round.ch,
            lanes,
            |ch, ((body, tables), _)| {
                let len = wire::nibbles_len(tables.len());
                Ok(ch.recv(Kind::ChunkIndices, len, body)?)
            },
            |scratch, ((body, tables), pads)| {
                let Scratch {
                    bytes,
                    tables: answers,
                    body: answer,
                    ..
                } = scratch;
                answer.clear();
                let blocks = (tables.chunks_mut(STEP).zip(pads.chunks_mut(STEP)))
                    .zip(body.chunks(wire::nibbles_len(STEP)));
                for ((tables, pads), indices) in blocks {
                    prefetch_next(tables);
                    prefetch_next(pads);
                    let n = tables.len();
                    let (bytes, answers) = (&mut bytes[..n], &mut answers[..n]);
                    widened(
                        #[inline(always)]
                        || {
                            wire::get_nibbles(indices, bytes);
                            carry::answer(tables, pads, bytes, answers);
                            wire::put_tables(answers, entries, answer);
                        },
                    );
                    wipe(tables);
                    wipe(pads);
                }
                swap(*body, answer);
                Ok(())
            },
            |ch, ((body, _), _)| Ok(ch.send(Kind::ChunkTables, body)?),
        )
    }

    /// Answers D's flips and ring elements.
    fn multiplex(&mut self, round: &mut Round<'_, W>, group: &Lanes) -> Result<(), ProtocolError> {
        let (bits, mask) = (self.out_bits, ring_mask(self.out_bits));
        let lanes = (round.bodies.of(group).zip(round.elements.of(group)))
            .zip(group.of_mut(&mut self.zero))
            .zip(group.of_mut(&mut self.one))
            .zip(group.of_mut(&mut self.pi));
        round.workers.stream(
            &mut round.scratch,
            round.ch,
            lanes,
            |ch, ((((flips, elements), _), _), pi)| {
                let n = pi.len();
                ch.recv(Kind::MuxRequest, wire::bits_len(n), flips)?;
                Ok(ch.recv(Kind::MuxRequest, wire::words_len(n, bits), elements)?)
            },
            |scratch, ((((flips, elements), zero), one), pi)| {
                let Scratch {
                    bytes, words, body, ..
                } = scratch;
                body.clear();
                let blocks = (zero.chunks_mut(STEP).zip(one.chunks_mut(STEP)))
                    .zip(pi.chunks_mut(STEP))
                    .zip(flips.chunks(wire::bits_len(STEP)))
                    .zip(elements.chunks(wire::words_len(STEP, bits)));
                for ((((zero, one), pi), flips), elements) in blocks {
                    prefetch_next(zero);
                    prefetch_next(one);
                    prefetch_next(pi);
                    let (bytes, words) = (&mut bytes[..zero.len()], &mut words[..zero.len()]);
                    wire::get_words(elements, bits, words)?;
                    widened(
                        #[inline(always)]
                        || {
                            wire::get_bits(flips, bytes);
                            mux::answer(zero, one, pi, bytes, mask, words);
                        },
                    );
                    wipe(zero);
                    wipe(one);
                    wipe(pi);
                    wire::put_words(words, bits, body);
                }
                swap(*elements, body);
                Ok(())
            },
            |ch, ((((_, elements), _), _), _)| Ok(ch.send(Kind::MuxAnswer, elements)?),
        )
    }
}

/// D's state between the rounds of a group of lanes.
struct Evaluation<'a, W: Word> {
    relu: DeveloperRelu<W>,
    workers: &'a Workers,
    channels: &'a Channels<'a>,
    /// Carry masked by H (0 before the first chunk), and after the last chunk the sign bit masked by H.
    beta: Vec<u8>,
    index: Vec<u8>,
    scratch: Vec<Scratch<W>>,
    bodies: Bodies,
    /// The ring elements that follow the bits of a multiplexer request.
    elements: Bodies,
}

/// One lane of D's state, or one block of it.
struct Lane<'a> {
    range: Range<usize>,
    y: &'a mut [u32],
    beta: &'a mut [u8],
    index: &'a mut [u8],
}

fn lanes_of<'a>(
    group: &Lanes,
    y: &'a mut [u32],
    beta: &'a mut [u8],
    index: &'a mut [u8],
) -> impl Iterator<Item = Lane<'a>> + Send + use<'a> {
    let state = group.own_mut(beta).zip(group.own_mut(index));
    let lanes = group.ranges().zip(group.of_mut(y)).zip(state);
    lanes.map(|((range, y), (beta, index))| Lane {
        range,
        y,
        beta,
        index,
    })
}

impl Lane<'_> {
    /// The lane, block by block.
    fn blocks(&mut self) -> impl Iterator<Item = Lane<'_>> {
        let start = self.range.start;
        (self.y.chunks_mut(STEP).zip(self.beta.chunks_mut(STEP)))
            .zip(self.index.chunks_mut(STEP))
            .enumerate()
            .map(move |(block, ((y, beta), index))| Lane {
                range: start + block * STEP..start + block * STEP + y.len(),
                y,
                beta,
                index,
            })
    }

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

impl<W: Word> Evaluation<'_, W> {
    /// The thresholds, and the indices of the first chunk.
    fn begin(
        &mut self,
        ch: &mut dyn Channel,
        group: &Lanes,
        input: Option<&[u32]>,
        y: &mut [u32],
    ) -> Result<(), ProtocolError> {
        let (channels, chunk, centre) = (self.channels, self.relu.chunks[0], self.relu.centre);
        let lanes = lanes_of(group, y, &mut self.beta, &mut self.index)
            .zip(group.of(&self.relu.picks[0]))
            .zip(self.bodies.of(group));
        self.workers.stream(
            &mut self.scratch,
            ch,
            lanes,
            |_, _| Ok(()),
            |scratch, ((lane, picks), body)| {
                body.clear();
                for (mut block, picks) in lane.blocks().zip(picks.chunks(STEP)) {
                    if let Some(input) = input {
                        block.y.copy_from_slice(&input[block.range.clone()]);
                    }
                    channels.shift(&block.range, block.y);
                    block.beta.fill(0);
                    block.ask(chunk, centre, picks, &mut scratch.bytes, body);
                }
                Ok(())
            },
            |ch, (_, body)| Ok(ch.send(Kind::ChunkIndices, body)?),
        )
    }

    /// The answers of chunk `j`, and the indices of the next chunk.
    fn advance(
        &mut self,
        ch: &mut dyn Channel,
        group: &Lanes,
        j: usize,
        y: &mut [u32],
    ) -> Result<(), ProtocolError> {
        let (centre, chunk, next) = (
            self.relu.centre,
            self.relu.chunks[j],
            self.relu.chunks[j + 1],
        );
        let len = |n| wire::tables_len(n, chunk.entries());
        let (picks, next_picks) = self.relu.picks.split_at_mut(j + 1);
        let lanes = lanes_of(group, y, &mut self.beta, &mut self.index)
            .zip(group.of_mut(&mut picks[j]).zip(group.of(&next_picks[0])))
            .zip(self.bodies.of(group));
        self.workers.stream(
            &mut self.scratch,
            ch,
            lanes,
            |ch, ((lane, _), body)| Ok(ch.recv(Kind::ChunkTables, len(lane.y.len()), body)?),
            |scratch, ((lane, (picks, next_picks)), body)| {
                scratch.body.clear();
                let blocks = (lane.blocks().zip(body.chunks(len(STEP))))
                    .zip(picks.chunks_mut(STEP).zip(next_picks.chunks(STEP)));
                for ((mut block, answers), (picks, next_picks)) in blocks {
                    block.pick(chunk, picks, &mut scratch.tables, answers);
                    block.ask(
                        next,
                        centre,
                        next_picks,
                        &mut scratch.bytes,
                        &mut scratch.body,
                    );
                }
                swap(*body, &mut scratch.body);
                Ok(())
            },
            |ch, (_, body)| Ok(ch.send(Kind::ChunkIndices, body)?),
        )
    }

    /// The answers of the last chunk, and the multiplexer's request.
    fn request(
        &mut self,
        ch: &mut dyn Channel,
        group: &Lanes,
        y: &mut [u32],
    ) -> Result<(), ProtocolError> {
        let last = self.relu.chunks.len() - 1;
        let (chunk, centre, top) = (self.relu.chunks[last], self.relu.centre, self.relu.top);
        let (channels, bits, mask) = (
            self.channels,
            self.relu.out_bits,
            ring_mask(self.relu.out_bits),
        );
        let len = |n| wire::tables_len(n, chunk.entries());
        let lanes = lanes_of(group, y, &mut self.beta, &mut self.index)
            .zip(group.of_mut(&mut self.relu.picks[last]))
            .zip(group.of_mut(&mut self.relu.choices))
            .zip(group.of_mut(&mut self.relu.difference))
            .zip(self.bodies.of(group).zip(self.elements.of(group)));
        self.workers.stream(
            &mut self.scratch,
            ch,
            lanes,
            |ch, ((((lane, _), _), _), (body, _))| {
                Ok(ch.recv(Kind::ChunkTables, len(lane.y.len()), body)?)
            },
            |scratch, ((((lane, picks), choices), difference), (body, elements))| {
                let Scratch {
                    tables,
                    words,
                    body: flips,
                    ..
                } = scratch;
                flips.clear();
                elements.clear();
                let blocks = (lane.blocks().zip(body.chunks(len(STEP))))
                    .zip(picks.chunks_mut(STEP).zip(choices.chunks_mut(STEP)))
                    .zip(difference.chunks_mut(STEP));
                for (((mut block, answers), (picks, choices)), difference) in blocks {
                    prefetch_next(choices);
                    prefetch_next(difference);
                    block.pick(chunk, picks, tables, answers);
                    channels.flip(&block.range, block.beta);
                    let Lane { y, beta, index, .. } = block;
                    let words = &mut words[..y.len()];
                    widened(
                        #[inline(always)]
                        || {
                            for (beta, &y) in beta.iter_mut().zip(&*y) {
                                *beta ^= 1 ^ (y.wrapping_add(centre) >> top & 1) as u8;
                            }
                            mux::request(beta, y, choices, difference, mask, index, words);
                            wire::put_bits(index, flips);
                        },
                    );
                    wire::put_words(words, bits, elements);
                    wipe(choices);
                    wipe(difference);
                }
                swap(*body, flips);
                Ok(())
            },
            |ch, (_, (flips, elements))| {
                ch.send(Kind::MuxRequest, flips)?;
                Ok(ch.send(Kind::MuxRequest, elements)?)
            },
        )
    }

    /// The multiplexer's answers; `y` becomes D's shares of the results.
    fn finish(
        &mut self,
        ch: &mut dyn Channel,
        group: &Lanes,
        y: &mut [u32],
    ) -> Result<(), ProtocolError> {
        let (bits, mask) = (self.relu.out_bits, ring_mask(self.relu.out_bits));
        let len = |n| wire::words_len(n, bits);
        let lanes = lanes_of(group, y, &mut self.beta, &mut self.index)
            .zip(group.of_mut(&mut self.relu.w))
            .zip(group.of_mut(&mut self.relu.tau))
            .zip(self.bodies.of(group));
        self.workers.stream(
            &mut self.scratch,
            ch,
            lanes,
            |ch, (((lane, _), _), body)| Ok(ch.recv(Kind::MuxAnswer, len(lane.y.len()), body)?),
            |scratch, (((lane, w), tau), body)| {
                let blocks = (lane.blocks().zip(body.chunks(len(STEP))))
                    .zip(w.chunks_mut(STEP).zip(tau.chunks_mut(STEP)));
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
                Ok(())
            },
            |_, _| Ok(()),
        )
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

impl<W: Word> Compares for DeveloperRelu<W> {
    fn evaluate(
        self: Box<Self>,
        ch: &mut dyn Channel,
        workers: &Workers,
        input: Option<&[u32]>,
        y: &mut [u32],
        channels: &Channels<'_>,
    ) -> Result<(), ProtocolError> {
        let mut evaluation = Evaluation {
            relu: *self,
            workers,
            channels,
            beta: vec![0; lanes::largest(y.len())],
            index: vec![0; lanes::largest(y.len())],
            scratch: Scratch::for_all(workers),
            bodies: Bodies::default(),
            elements: Bodies::default(),
        };
        let last = evaluation.relu.chunks.len() - 1;
        for group in lanes::groups(y.len()) {
            evaluation.begin(ch, &group, input, y)?;
            for j in 0..last {
                evaluation.advance(ch, &group, j, y)?;
            }
            evaluation.request(ch, &group, y)?;
            evaluation.finish(ch, &group, y)?;
        }
        let mut relu = evaluation.relu;
        relu.picks.iter_mut().for_each(Secret::release);
        relu.choices.release();
        for words in [&mut relu.w, &mut relu.tau, &mut relu.difference] {
            words.release();
        }
        Ok(())
    }
}
