//! Truncation: division by 2^f with a wrap that is corrected, never guessed; extension: the same with f = 0.
//!
//! Function: x = y / 2^f + e, from Z_(2^ell) to Z_(2^ell'), e in (-1, 1] with mean 2^-f.
//! Requires: -2^(ell-2) <= y + 2^f < 2^(ell-2), where f > 0. Rounds: one, or none where ell' <= ell - f.
//! Bits: with g = max(0, ell' - (ell - f)): offline g to D; online 1 to H and g to D.
//! Security: semi-honest; H sees D's top bit masked by the choice bit of an OT, D sees H's answer
//! masked by rho, which stays in H's share.
//!
//! D adds 2^(ell-2) + 2^f to its share: the value becomes non-negative with a clear top bit, so the
//! sum of the shares wraps unless both top bits are clear: wrap = mu_H + mu_D - mu_H mu_D. The product
//! is the only non-local part: one correlated OT, with D's top bit as its choice. The 2^f makes up for
//! the two floors, whose mean error is -1 together.
//!
//! Extension to a larger ring is the same with f = 0, and exact: there are no floors. H chooses its share of
//! the result, whose low ell bits are its share of y; rho follows from the others and is as uniform as they.

use crate::program::ring_mask;

/// Ring sizes and shift of one truncation or extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Ring before, ell.
    pub from_bits: u32,
    /// Ring after, ell'.
    pub to_bits: u32,
    /// Bits dropped, f.
    pub shift: u32,
}

impl Truncation {
    /// What makes up for the two floors.
    fn rounding(self) -> u32 {
        if self.shift == 0 { 0 } else { 1 << self.shift }
    }

    /// Bits of the OT, g; zero when none is needed.
    #[must_use]
    pub fn ot_bits(self) -> u32 {
        self.to_bits.saturating_sub(self.from_bits - self.shift)
    }

    fn ot_mask(self) -> u32 {
        ring_mask(self.ot_bits())
    }

    /// H, offline: the rho with which an extension ends in the share `target`.
    pub fn towards(self, target: &[u32], rho: &mut [u32]) {
        let mask = self.ot_mask();
        for (rho, &target) in rho.iter_mut().zip(target) {
            let top = target >> (self.from_bits - 1) & 1;
            *rho = (target >> self.from_bits).wrapping_add(top).wrapping_neg() & mask;
        }
    }

    /// H, offline: its share of the result; `rho` is empty when no OT is needed.
    #[must_use]
    pub fn hospital_share(self, y: &[u32], rho: &[u32]) -> Vec<u32> {
        let (kept, mask) = (self.from_bits - self.shift, ring_mask(self.to_bits));
        y.iter()
            .enumerate()
            .map(|(i, &y)| {
                let wrap =
                    (y >> (self.from_bits - 1)).wrapping_add(rho.get(i).copied().unwrap_or(0));
                (y >> self.shift).wrapping_sub(wrap << kept) & mask
            })
            .collect()
    }

    /// H, offline: the corrections for D and the two possible answers.
    pub fn prepare(
        self,
        y: &[u32],
        rho: &[u32],
        pads: (&[u32], &[u32]),
        corrections: &mut [u32],
        zero: &mut [u32],
        one: &mut [u32],
    ) {
        let mask = self.ot_mask();
        for i in 0..y.len() {
            let top = y[i] >> (self.from_bits - 1);
            let (first, second) = (pads.0[i], pads.1[i]);
            corrections[i] = first.wrapping_add(top).wrapping_sub(second) & mask;
            zero[i] = rho[i].wrapping_sub(first) & mask;
            one[i] = rho[i].wrapping_add(top).wrapping_add(first) & mask;
        }
    }

    /// H, online: the answers to D's flips.
    pub fn answer(self, zero: &[u32], one: &[u32], flips: &[u8], out: &mut [u32]) {
        for i in 0..out.len() {
            out[i] = zero[i] ^ ((zero[i] ^ one[i]) & 0u32.wrapping_sub(u32::from(flips[i])));
        }
    }

    /// D, online: shifts its share of the value into the range where the wrap is known; in place.
    pub fn offset(self, y: &mut [u32]) {
        let (offset, mask) = (
            (1u32 << (self.from_bits - 2)).wrapping_add(self.rounding()),
            ring_mask(self.from_bits),
        );
        for y in y {
            *y = y.wrapping_add(offset) & mask;
        }
    }

    /// D, online: the flips for H, from offset shares.
    pub fn request(self, y: &[u32], choices: &[u8], flips: &mut [u8]) {
        for i in 0..flips.len() {
            flips[i] = (y[i] >> (self.from_bits - 1)) as u8 ^ choices[i];
        }
    }

    /// D, online: its share of the result, in place over the offset shares. The slices are empty when
    /// no OT is needed.
    pub fn finish(self, y: &mut [u32], flips: &[u8], w: &[u32], answers: &[u32]) {
        let (kept, mask) = (self.from_bits - self.shift, ring_mask(self.to_bits));
        let offset = 1u32 << (self.from_bits - 2 - self.shift);
        for i in 0..y.len() {
            let product = match answers.get(i) {
                Some(&answer) => {
                    let flip = 0u32.wrapping_sub(u32::from(flips[i]));
                    answer.wrapping_add((w[i] ^ flip).wrapping_sub(flip)) & self.ot_mask()
                }
                None => 0,
            };
            let wrap = product.wrapping_sub(y[i] >> (self.from_bits - 1));
            y[i] = (y[i] >> self.shift)
                .wrapping_add(wrap << kept)
                .wrapping_sub(offset)
                & mask;
        }
    }
}
