//! The online rounds of a vector of ReLUs, lane by lane (see [`crate::lanes`]) and inside of a lane block by block.

use std::mem::{replace, swap};
use std::ops::Range;

use blindread_pool::Workers;
use blindread_ring::{Word, widened};

use super::{Answers, Channels, Compares, DeveloperRelu, HospitalRelu};
use crate::carry::{self, Chunk};
use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;
use crate::lanes::{self, Bodies, Lanes, STEP};
use crate::mux;
use crate::program::ring_mask;
use crate::wire;

/// Work space of one thread: one block, and a message that takes the place of the one that it is made from.
struct Scratch<W> {
    bytes: Vec<u8>,
    tables: Vec<u16>,
    words: Vec<W>,
    body: Vec<u8>,
}

impl<W: Word> Scratch<W> {
    fn for_all(workers: &Workers) -> Vec<Self> {
        (0..workers.threads())
            .map(|_| Self {
                bytes: vec![0; STEP],
                tables: vec![0; STEP],
                words: vec![W::default(); STEP],
                body: Vec::new(),
            })
            .collect()
    }
}

impl<W: Word> Answers for HospitalRelu<W> {
    fn answer(
        mut self: Box<Self>,
        ch: &mut dyn Channel,
        workers: &Workers,
    ) -> Result<(), ProtocolError> {
        let mut scratch = Scratch::for_all(workers);
        let (mut bodies, mut requests) = (Bodies::default(), Vec::new());
        for group in lanes::groups(self.pi.len()) {
            for j in 0..self.chunks.len() {
                for batch in group.batches(workers) {
                    bodies.recv(ch, Kind::ChunkIndices, &batch, wire::nibbles_len)?;
                    self.look_up(workers, &mut scratch, j, &batch, &mut bodies);
                    bodies.send(ch, Kind::ChunkTables)?;
                }
            }
            for batch in group.batches(workers) {
                requests.resize_with(batch.ranges().len(), <[Vec<u8>; 2]>::default);
                for (lane, [flips, words]) in batch.ranges().zip(&mut requests) {
                    let len = wire::words_len(lane.len(), self.out_bits);
                    ch.recv(Kind::MuxRequest, wire::bits_len(lane.len()), flips)?;
                    ch.recv(Kind::MuxRequest, len, words)?;
                }
                self.multiplex(workers, &mut scratch, &batch, &mut requests)?;
                for [_, words] in &requests {
                    ch.send(Kind::MuxAnswer, words)?;
                }
            }
        }
        self.tables
            .iter_mut()
            .chain(&mut self.pads)
            .for_each(|tables| tables.erase(workers));
        self.pi.erase(workers);
        self.zero.erase(workers);
        self.one.erase(workers);
        Ok(())
    }
}

impl<W: Word> HospitalRelu<W> {
    /// Answers in place of D's indices.
    fn look_up(
        &self,
        workers: &Workers,
        scratch: &mut [Scratch<W>],
        j: usize,
        batch: &Lanes,
        bodies: &mut Bodies,
    ) {
        let entries = self.chunks[j].entries();
        let lanes = (bodies.of(batch).iter_mut())
            .zip(batch.of(&self.tables[j]))
            .zip(batch.of(&self.pads[j]));
        workers.each_with(scratch, lanes, |scratch, ((body, tables), pads)| {
            let Scratch {
                bytes,
                tables: answers,
                body: answer,
                ..
            } = scratch;
            answer.clear();
            let blocks = (tables.chunks(STEP).zip(pads.chunks(STEP)))
                .zip(body.chunks(wire::nibbles_len(STEP)));
            for ((tables, pads), indices) in blocks {
                let (bytes, answers) = (&mut bytes[..tables.len()], &mut answers[..tables.len()]);
                widened(
                    #[inline(always)]
                    || {
                        wire::get_nibbles(indices, bytes);
                        carry::answer(tables, pads, bytes, answers);
                        wire::put_tables(answers, entries, answer);
                    },
                );
            }
            swap(body, answer);
        });
    }

    /// Answers in place of D's ring elements.
    fn multiplex(
        &self,
        workers: &Workers,
        scratch: &mut [Scratch<W>],
        batch: &Lanes,
        requests: &mut [[Vec<u8>; 2]],
    ) -> Result<(), ProtocolError> {
        let (bits, mask) = (self.out_bits, ring_mask(self.out_bits));
        let lanes = (requests.iter_mut())
            .zip(batch.of(&self.zero))
            .zip(batch.of(&self.one))
            .zip(batch.of(&self.pi));
        workers.try_each_with(
            scratch,
            lanes,
            |scratch, ((([flips, elements], zero), one), pi)| {
                let Scratch {
                    bytes, words, body, ..
                } = scratch;
                body.clear();
                let blocks = (zero.chunks(STEP).zip(one.chunks(STEP)))
                    .zip(pi.chunks(STEP))
                    .zip(flips.chunks(wire::bits_len(STEP)))
                    .zip(elements.chunks(wire::words_len(STEP, bits)));
                for ((((zero, one), pi), flips), elements) in blocks {
                    let (bytes, words) = (&mut bytes[..zero.len()], &mut words[..zero.len()]);
                    wire::get_words(elements, bits, words)?;
                    widened(
                        #[inline(always)]
                        || {
                            wire::get_bits(flips, bytes);
                            mux::answer(zero, one, pi, bytes, mask, words);
                        },
                    );
                    wire::put_words(words, bits, body);
                }
                swap(elements, body);
                Ok(())
            },
        )
    }
}

/// D's state of the vector between the rounds.
struct Evaluation<'a, W: Word> {
    relu: &'a DeveloperRelu<W>,
    workers: &'a Workers,
    channels: &'a Channels<'a>,
    /// Carry masked by H, and after the last chunk the sign bit masked by H.
    beta: Vec<u8>,
    index: Vec<u8>,
    scratch: Vec<Scratch<W>>,
    bodies: Bodies,
    /// The ring elements that follow the bits of a multiplexer request.
    elements: Bodies,
}

/// One lane of D's state.
struct Lane<'a> {
    range: Range<usize>,
    y: &'a mut [u32],
    beta: &'a mut [u8],
    index: &'a mut [u8],
}

fn lanes_of<'a>(
    batch: &Lanes,
    y: &'a mut [u32],
    beta: &'a mut [u8],
    index: &'a mut [u8],
) -> impl Iterator<Item = Lane<'a>> + Send + use<'a> {
    let state = batch.of_mut(beta).zip(batch.of_mut(index));
    let lanes = batch.ranges().zip(batch.of_mut(y)).zip(state);
    lanes.map(|((range, y), (beta, index))| Lane {
        range,
        y,
        beta,
        index,
    })
}

impl<'a> Lane<'a> {
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
}

impl<W: Word> Evaluation<'_, W> {
    /// The thresholds, and the indices of the first chunk.
    fn begin(
        &mut self,
        ch: &mut dyn Channel,
        batch: &Lanes,
        y: &mut [u32],
    ) -> Result<(), ProtocolError> {
        let (relu, channels) = (self.relu, self.channels);
        let lanes = lanes_of(batch, y, &mut self.beta, &mut self.index).zip(self.bodies.of(batch));
        self.workers
            .each_with(&mut self.scratch, lanes, |scratch, (mut lane, body)| {
                body.clear();
                for mut block in lane.blocks() {
                    channels.shift(&block.range, block.y);
                    relu.ask(0, &mut block, scratch, body);
                }
            });
        self.bodies.send(ch, Kind::ChunkIndices)
    }

    /// The answers of chunk `j`, and the indices of the next chunk or, after the last, the multiplexer's request.
    fn advance(
        &mut self,
        ch: &mut dyn Channel,
        batch: &Lanes,
        j: usize,
        y: &mut [u32],
    ) -> Result<(), ProtocolError> {
        let (relu, channels) = (self.relu, self.channels);
        let (entries, last) = (relu.chunks[j].entries(), j + 1 == relu.chunks.len());
        let len = |n| wire::tables_len(n, entries);
        let received = self.bodies.recv(ch, Kind::ChunkTables, batch, len)?;
        let lanes = lanes_of(batch, y, &mut self.beta, &mut self.index)
            .zip(received.iter_mut().zip(self.elements.of(batch)));
        self.workers.each_with(
            &mut self.scratch,
            lanes,
            |scratch, (mut lane, (body, elements))| {
                let mut request = std::mem::take(&mut scratch.body);
                request.clear();
                elements.clear();
                for (mut block, answers) in lane.blocks().zip(body.chunks(len(STEP))) {
                    relu.pick(j, &mut block, scratch, answers);
                    if last {
                        channels.flip(&block.range, block.beta);
                        relu.request(&mut block, scratch, [&mut request, elements]);
                    } else {
                        relu.ask(j + 1, &mut block, scratch, &mut request);
                    }
                }
                scratch.body = replace(body, request);
            },
        );
        if !last {
            return self.bodies.send(ch, Kind::ChunkIndices);
        }
        for (flips, elements) in (self.bodies.of(batch).iter()).zip(self.elements.of(batch)) {
            ch.send(Kind::MuxRequest, flips)?;
            ch.send(Kind::MuxRequest, elements)?;
        }
        Ok(())
    }

    /// The multiplexer's answers; `y` becomes D's shares of the results.
    fn finish(
        &mut self,
        ch: &mut dyn Channel,
        batch: &Lanes,
        y: &mut [u32],
    ) -> Result<(), ProtocolError> {
        let (relu, bits) = (self.relu, self.relu.out_bits);
        let len = |n| wire::words_len(n, bits);
        let received = self.bodies.recv(ch, Kind::MuxAnswer, batch, len)?;
        let lanes = lanes_of(batch, y, &mut self.beta, &mut self.index).zip(received.iter());
        self.workers
            .try_each_with(&mut self.scratch, lanes, |scratch, (mut lane, body)| {
                for (block, answers) in lane.blocks().zip(body.chunks(len(STEP))) {
                    let words = &mut scratch.words[..block.y.len()];
                    wire::get_words(answers, bits, words)?;
                    let (w, tau) = (&relu.w[block.range.clone()], &relu.tau[block.range]);
                    let (beta, flips, mask) = (block.beta, block.index, ring_mask(bits));
                    widened(
                        #[inline(always)]
                        || mux::finish(beta, flips, w, tau, mask, words, block.y),
                    );
                }
                Ok(())
            })
    }
}

impl<W: Word> DeveloperRelu<W> {
    /// The indices into the tables of chunk `j`.
    fn ask(&self, j: usize, block: &mut Lane<'_>, scratch: &mut Scratch<W>, body: &mut Vec<u8>) {
        let (chunk, picks): (Chunk, _) = (self.chunks[j], &self.picks[j][block.range.clone()]);
        let deltas = &mut scratch.bytes[..picks.len()];
        widened(
            #[inline(always)]
            || {
                carry::indices(chunk, block.y, self.centre, block.beta, block.index);
                for ((delta, &index), &pick) in deltas.iter_mut().zip(&*block.index).zip(picks) {
                    *delta = index ^ (pick & 15);
                }
                wire::put_nibbles(deltas, body);
            },
        );
    }

    /// The carries out of chunk `j`.
    fn pick(&self, j: usize, block: &mut Lane<'_>, scratch: &mut Scratch<W>, answers: &[u8]) {
        let picks = &self.picks[j][block.range.clone()];
        let tables = &mut scratch.tables[..picks.len()];
        widened(
            #[inline(always)]
            || {
                wire::get_tables(answers, self.chunks[j].entries(), tables);
                carry::pick(tables, block.index, picks, block.beta);
            },
        );
    }

    /// The multiplexer's request, from the carry into the top bit, to which the private sign was added.
    fn request(
        &self,
        block: &mut Lane<'_>,
        scratch: &mut Scratch<W>,
        [flips, elements]: [&mut Vec<u8>; 2],
    ) {
        let choices = &self.choices[block.range.clone()];
        let difference = &self.difference[block.range.clone()];
        let words = &mut scratch.words[..choices.len()];
        let (top, mask) = (self.top, ring_mask(self.out_bits));
        widened(
            #[inline(always)]
            || {
                for (beta, &y) in block.beta.iter_mut().zip(&*block.y) {
                    *beta ^= 1 ^ (y.wrapping_add(self.centre) >> top & 1) as u8;
                }
                mux::request(
                    block.beta,
                    block.y,
                    choices,
                    difference,
                    mask,
                    block.index,
                    words,
                );
                wire::put_bits(block.index, flips);
            },
        );
        wire::put_words(words, self.out_bits, elements);
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
            let threshold = self.threshold[channel];
            for y in &mut y[at] {
                *y = y.wrapping_add(threshold);
            }
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
        mut self: Box<Self>,
        ch: &mut dyn Channel,
        workers: &Workers,
        y: &mut [u32],
        channels: &Channels<'_>,
    ) -> Result<(), ProtocolError> {
        let mut evaluation = Evaluation {
            relu: &*self,
            workers,
            channels,
            beta: vec![0; y.len()],
            index: vec![0; y.len()],
            scratch: Scratch::for_all(workers),
            bodies: Bodies::default(),
            elements: Bodies::default(),
        };
        for group in lanes::groups(y.len()) {
            for batch in group.batches(workers) {
                evaluation.begin(ch, &batch, y)?;
            }
            for j in 0..self.chunks.len() {
                for batch in group.batches(workers) {
                    evaluation.advance(ch, &batch, j, y)?;
                }
            }
            for batch in group.batches(workers) {
                evaluation.finish(ch, &batch, y)?;
            }
        }
        self.picks
            .iter_mut()
            .chain([&mut self.choices])
            .for_each(|picks| picks.erase(workers));
        for words in [&mut self.w, &mut self.tau, &mut self.difference] {
            words.erase(workers);
        }
        Ok(())
    }
}
