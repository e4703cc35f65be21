//! H's online rounds of a vector of ReLUs, lane by lane (see [`crate::lanes`]) and inside of a lane block by block.

use std::cmp::Ordering;

use blindread_ring::{Word, prefetch_next, widened};

use super::{Answers, HospitalOffline, HospitalRelu, HospitalTruncate};
use crate::ahead::stripes;
use crate::carry::{self, Chunk};
use crate::channel::Kind;
use crate::error::ProtocolError;
use crate::lanes::{Lane, Lanes, Online, Room, STEP, Scratch};
use crate::mux;
use crate::program::ring_mask;
use crate::secret::{Secret, wipe};
use crate::{truncate_flow, wire};

/// What H keeps for one lane. Every chunk has a round, and so have the multiplexer and the extension; in the last one D
/// reads and H has nothing to do.
struct HospitalLane<'a, W> {
    chunks: &'a [Chunk],
    out_bits: u32,
    codes: Vec<&'a mut [u8]>,
    pads: Vec<&'a mut [u16]>,
    zero: &'a mut [W],
    one: &'a mut [W],
    extension: Option<truncate_flow::HospitalLane<'a, W>>,
}

impl<W: Room> Answers for HospitalRelu<W> {
    fn prepare(
        &mut self,
        off: &mut HospitalOffline<'_>,
        y: &[u32],
        target: &[u32],
    ) -> Result<(), ProtocolError> {
        stripes(y.len())
            .try_for_each(|at| self.prepare_stripe(off, at.clone(), &y[at.clone()], &target[at]))?;
        match &mut self.extension {
            Some(extension) => extension.prepare(off, target, &[]),
            None => Ok(()),
        }
    }

    fn answer(&mut self, on: &mut Online<'_>) -> Result<(), ProtocolError> {
        let rounds = self.chunks.len() + 2 + usize::from(self.extension.is_some());
        on.exchange(self.lanes(), rounds)?;
        debug_assert!(self.codes.iter().all(Secret::is_wiped));
        debug_assert!(self.pads.iter().all(Secret::is_wiped));
        debug_assert!(self.zero.is_wiped() && self.one.is_wiped());
        debug_assert!(self.extension.iter().all(HospitalTruncate::is_wiped));
        Ok(())
    }
}

impl<W: Word> HospitalRelu<W> {
    fn lanes(&mut self) -> impl Iterator<Item = HospitalLane<'_, W>> + Send {
        let lanes = Lanes::new(self.zero.len());
        let (chunks, out_bits) = (&self.chunks[..], self.out_bits);
        let of_chunks = (lanes.of_all(&mut self.codes)).zip(lanes.of_all(&mut self.pads));
        let of_product = (lanes.of_mut(&mut self.zero)).zip(lanes.of_mut(&mut self.one));
        let mut extension = self.extension.as_mut().map(HospitalTruncate::lanes);
        (of_chunks.zip(of_product)).map(move |((codes, pads), (zero, one))| HospitalLane {
            chunks,
            out_bits,
            codes,
            pads,
            zero,
            one,
            extension: extension.as_mut().and_then(Iterator::next),
        })
    }
}

impl<W: Word> Lane<W> for HospitalLane<'_, W> {
    fn receives(&self, round: usize) -> Option<(Kind, usize)> {
        let (n, multiplexer) = (self.zero.len(), self.chunks.len());
        match round.cmp(&multiplexer) {
            Ordering::Less => Some((Kind::ChunkIndices, wire::nibbles_len(n))),
            Ordering::Equal => Some((Kind::MuxRequest, wire::flagged_len(n, self.out_bits))),
            Ordering::Greater => self.extension.as_ref()?.receives(round - multiplexer - 1),
        }
    }

    fn work(
        &mut self,
        round: usize,
        received: &[u8],
        answer: &mut Vec<u8>,
        scratch: &mut Scratch<W>,
    ) -> Result<(), ProtocolError> {
        let multiplexer = self.chunks.len();
        match (round.cmp(&multiplexer), &mut self.extension) {
            (Ordering::Less, _) => self.look_up(round, received, answer, scratch),
            (Ordering::Equal, _) => self.multiplex(received, answer, scratch)?,
            (Ordering::Greater, Some(extension)) => {
                extension.work(round - multiplexer - 1, received, answer, scratch)?;
            }
            (Ordering::Greater, None) => {}
        }
        Ok(())
    }

    fn sends(&self, round: usize) -> Option<Kind> {
        let multiplexer = self.chunks.len();
        match round.cmp(&multiplexer) {
            Ordering::Less => Some(Kind::ChunkTables),
            Ordering::Equal => Some(Kind::MuxAnswer),
            Ordering::Greater => self.extension.as_ref()?.sends(round - multiplexer - 1),
        }
    }
}

impl<W: Word> HospitalLane<'_, W> {
    /// The answers to D's indices.
    fn look_up(
        &mut self,
        at: usize,
        received: &[u8],
        answer: &mut Vec<u8>,
        scratch: &mut Scratch<W>,
    ) {
        let (chunk, last) = (self.chunks[at], at + 1 == self.chunks.len());
        let blocks = (self.codes[at].chunks_mut(STEP))
            .zip(self.pads[at].chunks_mut(STEP))
            .zip(received.chunks(wire::nibbles_len(STEP)));
        for ((codes, pads), indices) in blocks {
            prefetch_next(codes);
            prefetch_next(pads);
            let n = codes.len();
            let (bytes, answers) = (&mut scratch.bytes[..n], &mut scratch.tables[..n]);
            widened(
                #[inline(always)]
                || {
                    wire::get_nibbles(indices, bytes);
                    carry::answer(chunk, codes, pads, bytes, answers);
                    wire::put_tables(answers, chunk.entries(), answer);
                    if last {
                        carry::leave_choices(codes);
                    }
                },
            );
            if !last {
                wipe(codes);
            }
            wipe(pads);
        }
    }

    /// The answers to D's flips and ring elements.
    fn multiplex(
        &mut self,
        received: &[u8],
        answer: &mut Vec<u8>,
        scratch: &mut Scratch<W>,
    ) -> Result<(), ProtocolError> {
        let (bits, mask) = (self.out_bits, ring_mask(self.out_bits));
        let pi = &mut self.codes[self.chunks.len() - 1];
        let blocks = (self.zero.chunks_mut(STEP).zip(self.one.chunks_mut(STEP)))
            .zip(pi.chunks_mut(STEP))
            .zip(received.chunks(wire::flagged_len(STEP, bits)));
        for (((zero, one), pi), request) in blocks {
            prefetch_next(zero);
            prefetch_next(one);
            prefetch_next(pi);
            let n = pi.len();
            let (flips, words) = (&mut scratch.bytes[..n], &mut scratch.words[..n]);
            wire::get_flagged(request, bits, flips, words)?;
            widened(
                #[inline(always)]
                || mux::answer(zero, one, pi, flips, mask, words),
            );
            wipe(zero);
            wipe(one);
            wipe(pi);
            wire::put_words(words, bits, answer);
        }
        Ok(())
    }
}
