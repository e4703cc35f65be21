//! The messages of a truncation; see [`crate::truncate`] for the function and its security.

use zeroize::Zeroizing;

use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;
use crate::lanes;
use crate::program::ring_mask;
use crate::random;
use crate::relu::{DeveloperOffline, HospitalOffline, OFFLINE_STRIPE};
use crate::shares::Share;
use crate::truncate::Truncation;
use crate::wire;

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
        let n = if bits == 0 { 0 } else { y.len() };
        let words = || Zeroizing::new(vec![0u32; n]);
        let (mut rho, mut zero, mut one) = (words(), words(), words());
        if bits > 0 {
            random::words(off.prg, ring_mask(bits), &mut rho);
        }
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
        let share = truncation.hospital_share(y, &rho);
        Ok((
            Self {
                truncation,
                zero,
                one,
            },
            share,
        ))
    }

    /// Online: answers D's wrap bits.
    ///
    /// # Errors
    /// Those of the channel.
    pub fn answer(self, ch: &mut dyn Channel) -> Result<(), ProtocolError> {
        let (mut flips, mut answers) = (Vec::new(), Vec::new());
        for lane in lanes::groups(self.zero.len()).flatten() {
            flips.resize(lane.len(), 0);
            answers.resize(lane.len(), 0);
            wire::recv_bits(ch, Kind::TruncateRequest, &mut flips)?;
            let (zero, one) = (&self.zero[lane.clone()], &self.one[lane]);
            self.truncation.answer(zero, one, &flips, &mut answers);
            wire::send_words(
                ch,
                Kind::TruncateAnswer,
                &answers,
                self.truncation.ot_bits(),
            )?;
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
    pub fn evaluate(self, ch: &mut dyn Channel, y: &[u32]) -> Result<Vec<u32>, ProtocolError> {
        let mut y = y.to_vec();
        self.truncation.offset(&mut y);
        if self.w.is_empty() {
            self.truncation.finish(&mut y, &[], &[], &[]);
            return Ok(y);
        }
        let (mut flips, mut answers) = (vec![0; y.len()], Vec::new());
        for group in lanes::groups(y.len()) {
            for lane in &group {
                let flips = &mut flips[lane.clone()];
                self.truncation
                    .request(&y[lane.clone()], &self.choices[lane.clone()], flips);
                wire::send_bits(ch, Kind::TruncateRequest, flips)?;
            }
            for lane in group {
                answers.resize(lane.len(), 0);
                wire::recv_words(
                    ch,
                    Kind::TruncateAnswer,
                    &mut answers,
                    self.truncation.ot_bits(),
                )?;
                let (flips, w) = (&flips[lane.clone()], &self.w[lane.clone()]);
                self.truncation.finish(&mut y[lane], flips, w, &answers);
            }
        }
        Ok(y)
    }
}
