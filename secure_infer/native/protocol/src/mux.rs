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

/// H, offline: what H needs online per element, and the corrections for D.
pub struct HospitalInputs<'a> {
    /// H's share of y in the ring of the result.
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

/// H, offline. `keep` holds (answer for flip 0, answer for flip 1) before D's message is added.
pub fn prepare(
    inputs: &HospitalInputs<'_>,
    mask: u32,
    corrections: &mut [u32],
    zero: &mut [u32],
    one: &mut [u32],
) {
    for i in 0..corrections.len() {
        let pi = 0u32.wrapping_sub(u32::from(inputs.pi[i]));
        let y = inputs.y[i];
        let difference = (y ^ pi).wrapping_sub(pi);
        let base = (y & pi)
            .wrapping_add(inputs.pad[i])
            .wrapping_sub(inputs.target[i]);
        corrections[i] = inputs.first[i]
            .wrapping_add(difference)
            .wrapping_sub(inputs.second[i])
            & mask;
        zero[i] = base.wrapping_sub(inputs.first[i]) & mask;
        one[i] = base.wrapping_add(difference).wrapping_add(inputs.first[i]) & mask;
    }
}

/// H, online: the answers to D's flips and ring elements.
pub fn answer(
    zero: &[u32],
    one: &[u32],
    pi: &[u8],
    flips: &[u8],
    request: &[u32],
    mask: u32,
    out: &mut [u32],
) {
    for i in 0..out.len() {
        let flip = 0u32.wrapping_sub(u32::from(flips[i]));
        let pi = 0u32.wrapping_sub(u32::from(pi[i]));
        out[i] = (zero[i] ^ ((zero[i] ^ one[i]) & flip)).wrapping_add(request[i] & pi) & mask;
    }
}

/// D, offline: w = u + c * (1 - 2 pi) y_H from its pad and H's corrections; in place over the pads.
pub fn receive(choices: &[u8], corrections: &[u32], mask: u32, pads: &mut [u32]) {
    for ((pad, &correction), &choice) in pads.iter_mut().zip(corrections).zip(choices) {
        *pad = pad.wrapping_add(correction & 0u32.wrapping_sub(u32::from(choice))) & mask;
    }
}

/// D, online: the flips and ring elements for H. `difference` is first pad minus second pad.
pub fn request(
    beta: &[u8],
    y: &[u32],
    choices: &[u8],
    difference: &[u32],
    mask: u32,
    flips: &mut [u8],
    out: &mut [u32],
) {
    for i in 0..out.len() {
        let sign = 0u32.wrapping_sub(u32::from(beta[i]));
        flips[i] = beta[i] ^ choices[i];
        out[i] = difference[i].wrapping_add((y[i] ^ sign).wrapping_sub(sign)) & mask;
    }
}

/// D, online: z, in place over H's answers.
pub fn finish(
    beta: &[u8],
    y: &[u32],
    flips: &[u8],
    w: &[u32],
    tau: &[u32],
    mask: u32,
    answers: &mut [u32],
) {
    for i in 0..answers.len() {
        let flip = 0u32.wrapping_sub(u32::from(flips[i]));
        let beta = 0u32.wrapping_sub(u32::from(beta[i]));
        let picked = answers[i].wrapping_add((w[i] ^ flip).wrapping_sub(flip));
        answers[i] = picked.wrapping_add(y[i] & beta).wrapping_sub(tau[i]) & mask;
    }
}
