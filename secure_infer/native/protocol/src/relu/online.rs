//! The online rounds of a vector of ReLUs, lane by lane (see [`crate::lanes`]).

use std::ops::Range;

use blindread_pool::Workers;

use super::{DeveloperRelu, HospitalRelu};
use crate::carry::{self, Chunk};
use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;
use crate::lanes::{self, Bodies, Lanes};
use crate::mux;
use crate::program::ring_mask;
use crate::wire;

/// Work space of one thread for one lane.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    tables: Vec<u16>,
    request: Vec<u32>,
    words: Vec<u32>,
}

impl Scratch {
    fn for_all(workers: &Workers) -> Vec<Self> {
        (0..workers.threads()).map(|_| Self::default()).collect()
    }

    fn resize(&mut self, n: usize) {
        self.bytes.resize(n, 0);
        self.tables.resize(n, 0);
        self.request.resize(n, 0);
        self.words.resize(n, 0);
    }
}

impl HospitalRelu {
    /// Online: answers D's look-ups and its multiplexer requests.
    ///
    /// # Errors
    /// Those of the channel.
    pub fn answer(mut self, ch: &mut dyn Channel, workers: &Workers) -> Result<(), ProtocolError> {
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

    /// Answers in place of D's indices.
    fn look_up(
        &self,
        workers: &Workers,
        scratch: &mut [Scratch],
        j: usize,
        batch: &Lanes,
        bodies: &mut Bodies,
    ) {
        let entries = self.chunks[j].entries();
        let lanes = (bodies.of(batch).iter_mut())
            .zip(batch.of(&self.tables[j]))
            .zip(batch.of(&self.pads[j]));
        workers.each_with(scratch, lanes, |scratch, ((body, tables), pads)| {
            scratch.resize(tables.len());
            wire::get_nibbles(body, &mut scratch.bytes);
            carry::answer(tables, pads, &scratch.bytes, &mut scratch.tables);
            wire::put_tables(&scratch.tables, entries, body);
        });
    }

    /// Answers in place of D's ring elements.
    fn multiplex(
        &self,
        workers: &Workers,
        scratch: &mut [Scratch],
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
                scratch.resize(zero.len());
                let Scratch {
                    bytes,
                    request,
                    words,
                    ..
                } = scratch;
                wire::get_bits(flips, bytes);
                wire::get_words(elements, bits, request)?;
                mux::answer(zero, one, pi, bytes, request, mask, words);
                wire::put_words(words, bits, elements);
                Ok(())
            },
        )
    }
}

/// D's state of the vector between the rounds.
struct Evaluation<'a, F> {
    relu: &'a DeveloperRelu,
    workers: &'a Workers,
    /// The private sign of an element.
    flip: F,
    /// Carry masked by H, and after the last chunk the sign bit masked by H.
    beta: Vec<u8>,
    index: Vec<u8>,
    scratch: Vec<Scratch>,
    bodies: Bodies,
    /// The ring elements that follow the bits of a multiplexer request.
    elements: Bodies,
}

/// One lane of D's state.
struct Lane<'a> {
    range: Range<usize>,
    y: &'a [u32],
    beta: &'a mut [u8],
    index: &'a mut [u8],
}

fn lanes_of<'a>(
    batch: &Lanes,
    y: &'a [u32],
    beta: &'a mut [u8],
    index: &'a mut [u8],
) -> impl Iterator<Item = Lane<'a>> + Send + use<'a> {
    let state = batch.of_mut(beta).zip(batch.of_mut(index));
    let lanes = batch.ranges().zip(batch.of(y)).zip(state);
    lanes.map(|((range, y), (beta, index))| Lane {
        range,
        y,
        beta,
        index,
    })
}

impl<F: Fn(usize) -> u8 + Sync> Evaluation<'_, F> {
    /// The indices of the first chunk.
    fn begin(
        &mut self,
        ch: &mut dyn Channel,
        batch: &Lanes,
        y: &[u32],
    ) -> Result<(), ProtocolError> {
        let relu = self.relu;
        let lanes = lanes_of(batch, y, &mut self.beta, &mut self.index).zip(self.bodies.of(batch));
        self.workers
            .each_with(&mut self.scratch, lanes, |scratch, (mut lane, body)| {
                relu.ask(0, &mut lane, scratch, body);
            });
        self.bodies.send(ch, Kind::ChunkIndices)
    }

    /// The answers of chunk `j`, and the indices of the next chunk or, after the last, the multiplexer's request.
    fn advance(
        &mut self,
        ch: &mut dyn Channel,
        batch: &Lanes,
        j: usize,
        y: &[u32],
    ) -> Result<(), ProtocolError> {
        let (relu, flip) = (self.relu, &self.flip);
        let (entries, last) = (relu.chunks[j].entries(), j + 1 == relu.chunks.len());
        let len = |n| wire::tables_len(n, entries);
        let received = self.bodies.recv(ch, Kind::ChunkTables, batch, len)?;
        let lanes = lanes_of(batch, y, &mut self.beta, &mut self.index)
            .zip(received.iter_mut().zip(self.elements.of(batch)));
        self.workers.each_with(
            &mut self.scratch,
            lanes,
            |scratch, (mut lane, (body, elements))| {
                scratch.resize(lane.range.len());
                wire::get_tables(body, entries, &mut scratch.tables);
                let picks = &relu.picks[j][lane.range.clone()];
                carry::pick(&scratch.tables, lane.index, picks, lane.beta);
                if last {
                    relu.request(&mut lane, flip, scratch, [body, elements]);
                } else {
                    relu.ask(j + 1, &mut lane, scratch, body);
                }
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
        let relu = self.relu;
        let len = |n| wire::words_len(n, relu.out_bits);
        let received = self.bodies.recv(ch, Kind::MuxAnswer, batch, len)?;
        let lanes = (received.iter())
            .zip(batch.of_mut(y))
            .zip(batch.of(&self.beta))
            .zip(batch.of(&self.index))
            .zip(batch.of(&relu.w).zip(batch.of(&relu.tau)));
        self.workers.try_each_with(
            &mut self.scratch,
            lanes,
            |scratch, ((((body, y), beta), flips), (w, tau))| {
                scratch.resize(y.len());
                let words = &mut scratch.words;
                wire::get_words(body, relu.out_bits, words)?;
                mux::finish(beta, y, flips, w, tau, ring_mask(relu.out_bits), words);
                y.copy_from_slice(words);
                Ok(())
            },
        )
    }
}

impl DeveloperRelu {
    /// The indices into the tables of chunk `j`.
    fn ask(&self, j: usize, lane: &mut Lane<'_>, scratch: &mut Scratch, body: &mut Vec<u8>) {
        let chunk: Chunk = self.chunks[j];
        carry::indices(chunk, lane.y, self.centre, lane.beta, lane.index);
        scratch.resize(lane.range.len());
        let picks = &self.picks[j][lane.range.clone()];
        for ((delta, &index), &pick) in scratch.bytes.iter_mut().zip(lane.index.iter()).zip(picks) {
            *delta = index ^ (pick & 15);
        }
        wire::put_nibbles(&scratch.bytes, body);
    }

    /// The multiplexer's request, from the carry into the top bit.
    fn request(
        &self,
        lane: &mut Lane<'_>,
        flip: impl Fn(usize) -> u8,
        scratch: &mut Scratch,
        [flips, elements]: [&mut Vec<u8>; 2],
    ) {
        let range = lane.range.clone();
        for ((beta, &y), i) in lane.beta.iter_mut().zip(lane.y).zip(range.clone()) {
            *beta ^= 1 ^ (y.wrapping_add(self.centre) >> self.top & 1) as u8 ^ flip(i);
        }
        let (choices, difference) = (&self.choices[range.clone()], &self.difference[range]);
        let mask = ring_mask(self.out_bits);
        let words = &mut scratch.words;
        mux::request(
            lane.beta, lane.y, choices, difference, mask, lane.index, words,
        );
        wire::put_bits(lane.index, flips);
        wire::put_words(words, self.out_bits, elements);
    }

    /// Online: from D's shares `y` (threshold added) and, per element, the private sign, D's shares of
    /// the results, in place.
    ///
    /// # Errors
    /// Those of the channel.
    pub fn evaluate(
        mut self,
        ch: &mut dyn Channel,
        workers: &Workers,
        y: &mut [u32],
        flip: impl Fn(usize) -> u8 + Sync,
    ) -> Result<(), ProtocolError> {
        let mut evaluation = Evaluation {
            relu: &self,
            workers,
            flip,
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
