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

use blindread_ring::Word;

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
    #[inline(always)]
    pub fn towards(self, target: &[u32], rho: &mut [u32]) {
        let mask = self.ot_mask();
        for (rho, &target) in rho.iter_mut().zip(target) {
            let top = target >> (self.from_bits - 1) & 1;
            *rho = (target >> self.from_bits).wrapping_add(top).wrapping_neg() & mask;
        }
    }

    /// H, offline: its share of the result; `rho` is empty when no OT is needed.
    #[inline(always)]
    pub fn hospital_share(self, y: &[u32], rho: &[u32], shares: &mut [u32]) {
        let (kept, mask) = (self.from_bits - self.shift, ring_mask(self.to_bits));
        let share = |y: u32, rho: u32| {
            let wrap = (y >> (self.from_bits - 1)).wrapping_add(rho);
            (y >> self.shift).wrapping_sub(wrap << kept) & mask
        };
        let pairs = shares.iter_mut().zip(y);
        if rho.is_empty() {
            pairs.for_each(|(result, &y)| *result = share(y, 0));
        } else {
            pairs
                .zip(rho)
                .for_each(|((result, &y), &rho)| *result = share(y, rho));
        }
    }

    /// H, offline: the corrections for D and the two possible answers.
    #[inline(always)]
    pub fn prepare<W: Word>(
        self,
        y: &[u32],
        rho: &[u32],
        pads: (&[u32], &[u32]),
        corrections: &mut [W],
        zero: &mut [W],
        one: &mut [W],
    ) {
        let mask = self.ot_mask();
        for i in 0..y.len() {
            let top = y[i] >> (self.from_bits - 1);
            let (first, second) = (pads.0[i], pads.1[i]);
            corrections[i] = W::of(first.wrapping_add(top).wrapping_sub(second) & mask);
            zero[i] = W::of(rho[i].wrapping_sub(first) & mask);
            one[i] = W::of(rho[i].wrapping_add(top).wrapping_add(first) & mask);
        }
    }

    /// H, online: the answers to D's flips.
    #[inline(always)]
    pub fn answer<W: Word>(self, zero: &[W], one: &[W], flips: &[u8], out: &mut [W]) {
        let n = out.len();
        let (zero, one, flips) = (&zero[..n], &one[..n], &flips[..n]);
        for i in 0..n {
            let (zero, one) = (zero[i].get(), one[i].get());
            out[i] = W::of(zero ^ ((zero ^ one) & 0u32.wrapping_sub(u32::from(flips[i]))));
        }
    }

    /// D, online: shifts its share of the value into the range where the wrap is known; in place.
    #[inline(always)]
    pub fn offset<W: Word>(self, y: &mut [W]) {
        let (offset, mask) = (
            W::of((1u32 << (self.from_bits - 2)).wrapping_add(self.rounding())),
            W::of(ring_mask(self.from_bits)),
        );
        for y in y {
            *y = y.plus(offset) & mask;
        }
    }

    /// D, online: the flips for H, from offset shares, in place over D's choices.
    #[inline(always)]
    pub fn request<W: Word>(self, y: &[W], choices: &mut [u8]) {
        for (choice, &y) in choices.iter_mut().zip(y) {
            *choice ^= y.byte(self.from_bits - 1);
        }
    }

    /// D, online: its share of the result, in place over the offset shares.
    #[inline(always)]
    pub fn finish<W: Word>(self, y: &mut [u32], flips: &[u8], w: &[W], answers: &[W]) {
        let (n, y) = (y.len(), y);
        let (flips, w, answers) = (&flips[..n], &w[..n], &answers[..n]);
        let mask = self.ot_mask();
        for i in 0..n {
            let flip = 0u32.wrapping_sub(u32::from(flips[i]));
            let product = answers[i]
                .get()
                .wrapping_add((w[i].get() ^ flip).wrapping_sub(flip))
                & mask;
            y[i] = self.result(y[i], product);
        }
    }

    /// As [`Self::finish`], where no OT is needed.
    #[inline(always)]
    pub fn finish_alone(self, y: &mut [u32]) {
        for y in y {
            *y = self.result(*y, 0);
        }
    }

    #[inline(always)]
    fn result(self, y: u32, product: u32) -> u32 {
        let wrap = product.wrapping_sub(y >> (self.from_bits - 1));
        (y >> self.shift)
            .wrapping_add(wrap << (self.from_bits - self.shift))
            .wrapping_sub(1u32 << (self.from_bits - 2 - self.shift))
            & ring_mask(self.to_bits)
    }
}
