//! The messages of a truncation or an extension; see [`crate::truncate`] for the function and its security.

use blindread_pool::Workers;
use zeroize::Zeroizing;

use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;
use crate::lanes::{self, Bodies};
use crate::program::ring_mask;
use crate::random;
use crate::relu::{DeveloperOffline, HospitalOffline, OFFLINE_STRIPE};
use crate::shares::Share;
use crate::truncate::Truncation;
use crate::wire;

/// Elements that a thread takes at once where nothing is sent.
const BLOCK: usize = 1 << 14;

/// What H keeps for one truncation.
pub struct HospitalTruncate {
    truncation: Truncation,
    zero: Share,
    one: Share,
}

/// What D keeps for one truncation.
pub struct DeveloperTruncate {
    truncation: Truncation,
    choices: Zeroizing<Vec<u8>>,
    w: Share,
}

impl HospitalTruncate {
    /// Offline: from H's shares `y`, what H keeps and H's shares of the result.
    ///
    /// # Errors
    /// Those of the channel, and malformed corrections.
    pub fn prepare(
        off: &mut HospitalOffline<'_>,
        truncation: Truncation,
        y: &[u32],
    ) -> Result<(Self, Vec<u32>), ProtocolError> {
        let bits = truncation.ot_bits();
        let mut rho = Zeroizing::new(vec![0; if bits == 0 { 0 } else { y.len() }]);
        if bits > 0 {
            random::words(off.prg, ring_mask(bits), &mut rho);
        }
        let this = Self::with_masks(off, truncation, y, &rho)?;
        Ok((this, truncation.hospital_share(y, &rho)))
    }

    /// Offline: what H keeps for an extension to H's shares `target`, whose low bits are H's shares of the values.
    ///
    /// # Errors
    /// Those of the channel, and malformed corrections.
    pub fn extend(
        off: &mut HospitalOffline<'_>,
        extension: Truncation,
        target: &[u32],
    ) -> Result<Self, ProtocolError> {
        let mut rho = Zeroizing::new(vec![0; target.len()]);
        extension.towards(target, &mut rho);
        let mask = ring_mask(extension.from_bits);
        let low = Zeroizing::new(target.iter().map(|&word| word & mask).collect::<Vec<_>>());
        Self::with_masks(off, extension, &low, &rho)
    }

    fn with_masks(
        off: &mut HospitalOffline<'_>,
        truncation: Truncation,
        y: &[u32],
        rho: &[u32],
    ) -> Result<Self, ProtocolError> {
        let (bits, n) = (truncation.ot_bits(), rho.len());
        let words = || Zeroizing::new(vec![0u32; n]);
        let (mut zero, mut one) = (words(), words());
        let mut start = 0;
        while start < n {
            let at = start..n.min(start + OFFLINE_STRIPE);
            let words = || Zeroizing::new(vec![0u32; at.len()]);
            let (mut first, mut second, mut corrections) = (words(), words(), words());
            off.send_ot(bits, &mut first, &mut second)?;
            let (zero, one) = (&mut zero[at.clone()], &mut one[at.clone()]);
            truncation.prepare(
                &y[at.clone()],
                &rho[at.clone()],
                (&first, &second),
                &mut corrections,
                zero,
                one,
            );
            wire::send_words(off.ch, Kind::CotCorrections, &corrections, bits)?;
            start = at.end;
        }
        Ok(Self {
            truncation,
            zero,
            one,
        })
    }

    /// Online: answers D's wrap bits.
    ///
    /// # Errors
    /// Those of the channel.
    pub fn answer(self, ch: &mut dyn Channel, workers: &Workers) -> Result<(), ProtocolError> {
        let (truncation, bits) = (self.truncation, self.truncation.ot_bits());
        let mut scratch: Vec<Scratch> = scratch(workers);
        let mut bodies = Bodies::default();
        for batch in lanes::groups(self.zero.len()).flat_map(|group| group.batches(workers)) {
            let received = bodies.recv(ch, Kind::TruncateRequest, &batch, wire::bits_len)?;
            let lanes = received
                .iter_mut()
                .zip(batch.of(&self.zero))
                .zip(batch.of(&self.one));
            workers.each_with(
                &mut scratch,
                lanes,
                |(flips, words), ((body, zero), one)| {
                    flips.resize(zero.len(), 0);
                    words.resize(zero.len(), 0);
                    wire::get_bits(body, flips);
                    truncation.answer(zero, one, flips, words);
                    wire::put_words(words, bits, body);
                },
            );
            bodies.send(ch, Kind::TruncateAnswer)?;
        }
        Ok(())
    }
}

impl DeveloperTruncate {
    /// Offline, for `n` values.
    ///
    /// # Errors
    /// Those of the channel, and malformed corrections.
    pub fn prepare(
        off: &mut DeveloperOffline<'_>,
        truncation: Truncation,
        n: usize,
    ) -> Result<Self, ProtocolError> {
        let bits = truncation.ot_bits();
        let n = if bits == 0 { 0 } else { n };
        let (mut choices, mut w) = (Zeroizing::new(vec![0; n]), Zeroizing::new(vec![0; n]));
        let mut start = 0;
        while start < n {
            let at = start..n.min(start + OFFLINE_STRIPE);
            let (choices, w) = (&mut choices[at.clone()], &mut w[at.clone()]);
            off.recv_ot(bits, choices, w)?;
            let mut corrections = Zeroizing::new(vec![0; at.len()]);
            wire::recv_words(off.ch, Kind::CotCorrections, &mut corrections, bits)?;
            crate::mux::receive(choices, &corrections, ring_mask(bits), w);
            start = at.end;
        }
        Ok(Self {
            truncation,
            choices,
            w,
        })
    }

    /// Online: D's shares of the result from D's shares of the values.
    ///
    /// # Errors
    /// Those of the channel.
    pub fn evaluate(
        self,
        ch: &mut dyn Channel,
        workers: &Workers,
        mut y: Vec<u32>,
    ) -> Result<Vec<u32>, ProtocolError> {
        let truncation = self.truncation;
        if self.w.is_empty() {
            workers.each(y.chunks_mut(BLOCK), |y| {
                truncation.offset(y);
                truncation.finish(y, &[], &[], &[]);
            });
            return Ok(y);
        }
        let bits = truncation.ot_bits();
        let mut flips = vec![0; y.len()];
        let mut scratch: Vec<Scratch> = scratch(workers);
        let mut bodies = Bodies::default();
        for group in lanes::groups(y.len()) {
            for batch in group.batches(workers) {
                let lanes = (bodies.of(&batch).iter_mut())
                    .zip(batch.of_mut(&mut y))
                    .zip(batch.of_mut(&mut flips))
                    .zip(batch.of(&self.choices));
                workers.each(lanes, |(((body, y), flips), choices)| {
                    truncation.offset(y);
                    truncation.request(y, choices, flips);
                    wire::put_bits(flips, body);
                });
                bodies.send(ch, Kind::TruncateRequest)?;
            }
            for batch in group.batches(workers) {
                let len = |n| wire::words_len(n, bits);
                let received = bodies.recv(ch, Kind::TruncateAnswer, &batch, len)?;
                let lanes = (received.iter())
                    .zip(batch.of_mut(&mut y))
                    .zip(batch.of(&flips))
                    .zip(batch.of(&self.w));
                workers.try_each_with(
                    &mut scratch,
                    lanes,
                    |(_, answers), (((body, y), flips), w)| {
                        answers.resize(y.len(), 0);
                        wire::get_words(body, bits, answers)?;
                        truncation.finish(y, flips, w, answers);
                        Ok::<_, ProtocolError>(())
                    },
                )?;
            }
        }
        Ok(y)
    }
}

/// Flips and answers of a lane.
type Scratch = (Vec<u8>, Vec<u32>);

/// One for each thread.
fn scratch<S: Default>(workers: &Workers) -> Vec<S> {
    (0..workers.threads()).map(|_| S::default()).collect()
}
