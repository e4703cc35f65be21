//! The multiplexer: from a masked sign bit to b * y under the mask that H has fixed.
//!
//! Function: D holds beta = b xor pi and y_D, H holds pi and y_H; D learns z = b * (y_H + y_D) - r',
//! mod 2^ell', with r' chosen by H offline. Error: none. Rounds: one.
//! Bits: offline ell' to D; online 1 + ell' to H and ell' to D.
//! Security: semi-honest; H sees beta masked by the choice bit c of an OT and kappa masked by the pad
//! that it does not have; D sees one of two values whose difference was masked offline, under r'.
//!
//! With kappa = (1 - 2 beta) y_D, an OT whose receiver H has the choice bit pi gives H
//! q = tau + pi * kappa. Then M = b * y_H + q - r' takes, as beta is 0 or 1, one of two values that
//! differ by (1 - 2 pi) y_H, known to H offline: a correlated OT with a random choice c, derandomised
//! by beta xor c. z = M + beta * y_D - tau.

use blindread_ring::Word;

/// H, offline: what H needs online per element, and the corrections for D.
pub struct HospitalInputs<'a> {
    /// H's share of y, of which the ring of the result is used.
    pub y: &'a [u32],
    /// H's mask of the sign bit, which is H's choice in D's OT.
    pub pi: &'a [u8],
    /// H's pad in D's OT.
    pub pad: &'a [u32],
    /// The first pad of H's OT.
    pub first: &'a [u32],
    /// The second pad of H's OT.
    pub second: &'a [u32],
    /// H's share of the result.
    pub target: &'a [u32],
}

/// All bits of a word from one.
#[inline(always)]
fn all(bit: u8) -> u32 {
    0u32.wrapping_sub(u32::from(bit))
}

/// H, offline. `zero` and `one` keep the answers for either flip before D's message is added.
#[inline(always)]
pub fn prepare<W: Word>(
    inputs: &HospitalInputs<'_>,
    mask: u32,
    corrections: &mut [W],
    zero: &mut [W],
    one: &mut [W],
) {
    let n = corrections.len();
    let (zero, one) = (&mut zero[..n], &mut one[..n]);
    let (y, pi, pad) = (&inputs.y[..n], &inputs.pi[..n], &inputs.pad[..n]);
    let (first, second) = (&inputs.first[..n], &inputs.second[..n]);
    let target = &inputs.target[..n];
    for i in 0..n {
        let pi = all(pi[i]);
        let difference = (y[i] ^ pi).wrapping_sub(pi);
        let base = (y[i] & pi).wrapping_add(pad[i]).wrapping_sub(target[i]);
        let correction = first[i].wrapping_add(difference).wrapping_sub(second[i]);
        corrections[i] = W::of(correction & mask);
        zero[i] = W::of(base.wrapping_sub(first[i]) & mask);
        one[i] = W::of(base.wrapping_add(difference).wrapping_add(first[i]) & mask);
    }
}

/// H, online: the answers to D's flips and ring elements; in place over the latter.
#[inline(always)]
pub fn answer<W: Word>(
    zero: &[W],
    one: &[W],
    pi: &[u8],
    flips: &[u8],
    mask: u32,
    elements: &mut [W],
) {
    let (n, elements, mask) = (elements.len(), elements, W::of(mask));
    let (zero, one, pi, flips) = (&zero[..n], &one[..n], &pi[..n], &flips[..n]);
    for i in 0..n {
        let picked = zero[i] ^ ((zero[i] ^ one[i]) & W::all(flips[i]));
        elements[i] = picked.plus(elements[i] & W::all(pi[i])) & mask;
    }
}

/// D, offline: w = u + c * (1 - 2 pi) y_H from its pads and H's corrections.
#[inline(always)]
pub fn receive<W: Word>(choices: &[u8], corrections: &[W], mask: u32, pads: &[u32], w: &mut [W]) {
    let n = w.len();
    let (choices, corrections, pads) = (&choices[..n], &corrections[..n], &pads[..n]);
    for i in 0..n {
        let correction = corrections[i].get() & all(choices[i]);
        w[i] = W::of(pads[i].wrapping_add(correction) & mask);
    }
}

/// D, online: the flips and ring elements for H. `difference` is first pad minus second pad.
#[inline(always)]
pub fn request<W: Word>(
    beta: &[u8],
    y: &[W],
    choices: &[u8],
    difference: &[W],
    mask: u32,
    flips: &mut [u8],
    elements: &mut [W],
) {
    let (n, mask) = (elements.len(), W::of(mask));
    let (beta, y, choices) = (&beta[..n], &y[..n], &choices[..n]);
    let (difference, flips) = (&difference[..n], &mut flips[..n]);
    for i in 0..n {
        let sign = W::all(beta[i]);
        let kappa = (y[i] ^ sign).minus(sign);
        flips[i] = beta[i] ^ choices[i];
        elements[i] = difference[i].plus(kappa) & mask;
    }
}

/// D, online: z from H's answers, in place over D's share of y.
#[inline(always)]
pub fn finish<W: Word>(
    beta: &[u8],
    flips: &[u8],
    w: &[W],
    tau: &[W],
    mask: u32,
    answers: &[W],
    y: &mut [W],
) {
    let (n, y, mask) = (y.len(), y, W::of(mask));
    let (beta, flips, w) = (&beta[..n], &flips[..n], &w[..n]);
    let (tau, answers) = (&tau[..n], &answers[..n]);
    for i in 0..n {
        let flip = W::all(flips[i]);
        let picked = answers[i].plus((w[i] ^ flip).minus(flip));
        y[i] = picked.plus(y[i] & W::all(beta[i])).minus(tau[i]) & mask;
    }
}
