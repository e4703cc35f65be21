//! The online rounds of a vector of ReLUs, lane by lane (see [`crate::lanes`]).

use std::ops::Range;

use super::{DeveloperRelu, HospitalRelu};
use crate::carry;
use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;
use crate::lanes;
use crate::mux;
use crate::program::ring_mask;
use crate::wire;

impl HospitalRelu {
    /// Online: answers D's look-ups and its multiplexer requests.
    ///
    /// # Errors
    /// Those of the channel.
    pub fn answer(self, ch: &mut dyn Channel) -> Result<(), ProtocolError> {
        let mut bytes = Vec::new();
        let mut answers = Vec::new();
        let (mut request, mut words) = (Vec::new(), Vec::new());
        for group in lanes::groups(self.pi.len()) {
            for (j, chunk) in self.chunks.iter().enumerate() {
                for lane in &group {
                    bytes.resize(lane.len(), 0);
                    answers.resize(lane.len(), 0);
                    wire::recv_nibbles(ch, Kind::ChunkIndices, &mut bytes)?;
                    let (tables, pads) =
                        (&self.tables[j][lane.clone()], &self.pads[j][lane.clone()]);
                    carry::answer(tables, pads, &bytes, &mut answers);
                    wire::send_tables(ch, Kind::ChunkTables, &answers, chunk.entries())?;
                }
            }
            for lane in &group {
                bytes.resize(lane.len(), 0);
                request.resize(lane.len(), 0);
                words.resize(lane.len(), 0);
                wire::recv_bits(ch, Kind::MuxRequest, &mut bytes)?;
                wire::recv_words(ch, Kind::MuxRequest, &mut request, self.out_bits)?;
                let (zero, one) = (&self.zero[lane.clone()], &self.one[lane.clone()]);
                let pi = &self.pi[lane.clone()];
                mux::answer(
                    zero,
                    one,
                    pi,
                    &bytes,
                    &request,
                    ring_mask(self.out_bits),
                    &mut words,
                );
                wire::send_words(ch, Kind::MuxAnswer, &words, self.out_bits)?;
            }
        }
        Ok(())
    }
}

/// D's state of the vector between the rounds.
struct Evaluation<'a> {
    relu: &'a DeveloperRelu,
    /// Carry masked by H, and after the last chunk the sign bit masked by H.
    beta: Vec<u8>,
    index: Vec<u8>,
    /// For a lane.
    bytes: Vec<u8>,
    answers: Vec<u16>,
    words: Vec<u32>,
}

impl Evaluation<'_> {
    fn ask(
        &mut self,
        ch: &mut dyn Channel,
        j: usize,
        lane: &Range<usize>,
        y: &[u32],
    ) -> Result<(), ProtocolError> {
        let (beta, index) = (&self.beta[lane.clone()], &mut self.index[lane.clone()]);
        let (chunk, centre) = (self.relu.chunks[j], self.relu.centre);
        carry::indices(chunk, &y[lane.clone()], centre, beta, index);
        self.bytes.resize(lane.len(), 0);
        let picks = &self.relu.picks[j][lane.clone()];
        for ((delta, &index), &pick) in self.bytes.iter_mut().zip(index.iter()).zip(picks) {
            *delta = index ^ (pick & 15);
        }
        wire::send_nibbles(ch, Kind::ChunkIndices, &self.bytes)
    }

    fn pick(
        &mut self,
        ch: &mut dyn Channel,
        j: usize,
        lane: &Range<usize>,
    ) -> Result<(), ProtocolError> {
        self.answers.resize(lane.len(), 0);
        let entries = self.relu.chunks[j].entries();
        wire::recv_tables(ch, Kind::ChunkTables, &mut self.answers, entries)?;
        let (index, picks) = (&self.index[lane.clone()], &self.relu.picks[j][lane.clone()]);
        carry::pick(&self.answers, index, picks, &mut self.beta[lane.clone()]);
        Ok(())
    }

    fn request(
        &mut self,
        ch: &mut dyn Channel,
        lane: &Range<usize>,
        y: &[u32],
        flip: impl Fn(usize) -> u8,
    ) -> Result<(), ProtocolError> {
        let (relu, beta, y) = (self.relu, &mut self.beta[lane.clone()], &y[lane.clone()]);
        for ((beta, &y), i) in beta.iter_mut().zip(y).zip(lane.clone()) {
            *beta ^= 1 ^ (y.wrapping_add(relu.centre) >> relu.top & 1) as u8 ^ flip(i);
        }
        self.words.resize(lane.len(), 0);
        let (flips, mask) = (&mut self.index[lane.clone()], ring_mask(relu.out_bits));
        let (choices, difference) = (&relu.choices[lane.clone()], &relu.difference[lane.clone()]);
        mux::request(beta, y, choices, difference, mask, flips, &mut self.words);
        wire::send_bits(ch, Kind::MuxRequest, flips)?;
        wire::send_words(ch, Kind::MuxRequest, &self.words, relu.out_bits)
    }

    fn finish(
        &mut self,
        ch: &mut dyn Channel,
        lane: &Range<usize>,
        y: &mut [u32],
    ) -> Result<(), ProtocolError> {
        let (relu, y) = (self.relu, &mut y[lane.clone()]);
        self.words.resize(lane.len(), 0);
        wire::recv_words(ch, Kind::MuxAnswer, &mut self.words, relu.out_bits)?;
        let (beta, flips) = (&self.beta[lane.clone()], &self.index[lane.clone()]);
        let (w, tau) = (&relu.w[lane.clone()], &relu.tau[lane.clone()]);
        mux::finish(
            beta,
            y,
            flips,
            w,
            tau,
            ring_mask(relu.out_bits),
            &mut self.words,
        );
        y.copy_from_slice(&self.words);
        Ok(())
    }
}

impl DeveloperRelu {
    /// Online: from D's shares `y` (threshold added) and, per element, the private sign, D's shares of
    /// the results, in place.
    ///
    /// # Errors
    /// Those of the channel.
    pub fn evaluate(
        self,
        ch: &mut dyn Channel,
        y: &mut [u32],
        flip: impl Fn(usize) -> u8,
    ) -> Result<(), ProtocolError> {
        let last = self.chunks.len() - 1;
        let mut evaluation = Evaluation {
            relu: &self,
            beta: vec![0; y.len()],
            index: vec![0; y.len()],
            bytes: Vec::new(),
            answers: Vec::new(),
            words: Vec::new(),
        };
        for group in lanes::groups(y.len()) {
            for lane in &group {
                evaluation.ask(ch, 0, lane, y)?;
            }
            for j in 0..=last {
                for lane in &group {
                    evaluation.pick(ch, j, lane)?;
                    if j < last {
                        evaluation.ask(ch, j + 1, lane, y)?;
                    } else {
                        evaluation.request(ch, lane, y, &flip)?;
                    }
                }
            }
            for lane in &group {
                evaluation.finish(ch, lane, y)?;
            }
        }
        Ok(())
    }
}
