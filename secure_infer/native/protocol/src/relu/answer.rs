//! H's online rounds of a vector of ReLUs, lane by lane (see [`crate::lanes`]) and inside of a lane block by block.

use std::mem::{replace, take};

use blindread_pool::Rounds;
use blindread_ring::{Word, prefetch_next, widened};

use super::{Answers, HospitalOffline, HospitalRelu};
use crate::ahead::stripes;
use crate::carry::{self, Chunk};
use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;
use crate::lanes::{Lanes, Online, STEP, Scratch};
use crate::mux;
use crate::program::ring_mask;
use crate::secret::{Secret, wipe};
use crate::wire;

/// What H keeps for one lane, and D's message, which its answer replaces. Every chunk has a round, and so has the
/// multiplexer; in the last one D reads and H has nothing to do.
struct Lane<'a, W> {
    chunks: &'a [Chunk],
    out_bits: u32,
    tables: Vec<&'a mut [u16]>,
    pads: Vec<&'a mut [u16]>,
    pi: &'a mut [u8],
    zero: &'a mut [W],
    one: &'a mut [W],
    body: Vec<u8>,
    /// The bits of a multiplexer request, whose ring elements follow.
    flips: Vec<u8>,
}

impl<W: Word> Answers for HospitalRelu<W> {
    fn prepare(
        &mut self,
        off: &mut HospitalOffline<'_>,
        y: &[u32],
        target: &[u32],
    ) -> Result<(), ProtocolError> {
        stripes(y.len())
            .try_for_each(|at| self.prepare_stripe(off, at.clone(), &y[at.clone()], &target[at]))
    }

    fn answer(&mut self, on: &mut Online<'_>) -> Result<(), ProtocolError> {
        let rounds = self.chunks.len() + 2;
        on.exchange(self.lanes(), rounds)?;
        debug_assert!(self.tables.iter().chain(&self.pads).all(Secret::is_wiped));
        debug_assert!(self.pi.is_wiped() && self.zero.is_wiped() && self.one.is_wiped());
        Ok(())
    }
}

impl<W: Word> HospitalRelu<W> {
    fn lanes(&mut self) -> impl Iterator<Item = Lane<'_, W>> + Send {
        let lanes = Lanes::new(self.pi.len());
        let (chunks, out_bits) = (&self.chunks[..], self.out_bits);
        let of_chunks = (lanes.of_all(&mut self.tables)).zip(lanes.of_all(&mut self.pads));
        let of_product = (lanes.of_mut(&mut self.pi))
            .zip(lanes.of_mut(&mut self.zero))
            .zip(lanes.of_mut(&mut self.one));
        (of_chunks.zip(of_product)).map(move |((tables, pads), ((pi, zero), one))| Lane {
            chunks,
            out_bits,
            tables,
            pads,
            pi,
            zero,
            one,
            body: Vec::new(),
            flips: Vec::new(),
        })
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
        let n = self.pi.len();
        self.body = scratch.vector();
        if round < self.chunks.len() {
            ch.recv(Kind::ChunkIndices, wire::nibbles_len(n), &mut self.body)?;
        } else if round == self.chunks.len() {
            self.flips = scratch.vector();
            ch.recv(Kind::MuxRequest, wire::bits_len(n), &mut self.flips)?;
            let len = wire::words_len(n, self.out_bits);
            ch.recv(Kind::MuxRequest, len, &mut self.body)?;
        }
        Ok(())
    }

    fn work(&mut self, round: usize, scratch: &mut Scratch<W>) -> Result<(), ProtocolError> {
        let mut answer = scratch.vector();
        if round < self.chunks.len() {
            self.look_up(round, scratch, &mut answer);
        } else if round == self.chunks.len() {
            self.multiplex(scratch, &mut answer)?;
            scratch.keep(take(&mut self.flips));
        }
        scratch.keep(replace(&mut self.body, answer));
        Ok(())
    }

    fn after(
        &mut self,
        round: usize,
        scratch: &mut Scratch<W>,
        ch: &mut (dyn Channel + 'c),
    ) -> Result<(), ProtocolError> {
        if round < self.chunks.len() {
            ch.send(Kind::ChunkTables, &self.body)?;
        } else if round == self.chunks.len() {
            ch.send(Kind::MuxAnswer, &self.body)?;
        }
        scratch.keep(take(&mut self.body));
        Ok(())
    }
}

impl<W: Word> Lane<'_, W> {
    /// The answers to D's indices.
    fn look_up(&mut self, chunk: usize, scratch: &mut Scratch<W>, answer: &mut Vec<u8>) {
        let entries = self.chunks[chunk].entries();
        let blocks = (self.tables[chunk].chunks_mut(STEP))
            .zip(self.pads[chunk].chunks_mut(STEP))
            .zip(self.body.chunks(wire::nibbles_len(STEP)));
        for ((tables, pads), indices) in blocks {
            prefetch_next(tables);
            prefetch_next(pads);
            let n = tables.len();
            let (bytes, answers) = (&mut scratch.bytes[..n], &mut scratch.tables[..n]);
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
    }

    /// The answers to D's flips and ring elements.
    fn multiplex(
        &mut self,
        scratch: &mut Scratch<W>,
        answer: &mut Vec<u8>,
    ) -> Result<(), ProtocolError> {
        let (bits, mask) = (self.out_bits, ring_mask(self.out_bits));
        let blocks = (self.zero.chunks_mut(STEP).zip(self.one.chunks_mut(STEP)))
            .zip(self.pi.chunks_mut(STEP))
            .zip(self.flips.chunks(wire::bits_len(STEP)))
            .zip(self.body.chunks(wire::words_len(STEP, bits)));
        for ((((zero, one), pi), flips), elements) in blocks {
            prefetch_next(zero);
            prefetch_next(one);
            prefetch_next(pi);
            let n = pi.len();
            let (bytes, words) = (&mut scratch.bytes[..n], &mut scratch.words[..n]);
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
            wire::put_words(words, bits, answer);
        }
        Ok(())
    }
}
