//! What the protocol needs of an OT engine, whichever it is.
//!
//! Both engines (`softspoken`, and `ferret` later) make *random* OTs: choices and pads come out of
//! the engine, none goes in. The receiver speaks first and alone: it appends its corrections to a
//! message; the sender reads exactly `*_len(n)` bytes of it. Calls of one kind must be made in the same
//! order with the same `n` by both parties; the two kinds do not disturb each other.

use crate::OtError;

/// The party that holds Delta and knows the pads of all entries.
pub trait OtSenderEngine {
    /// Bytes of corrections for `n` one-of-sixteen OTs.
    fn one_of_16_len(&self, n: usize) -> usize;

    /// Bytes of corrections for `n` random OTs.
    fn random_ot_len(&self, n: usize) -> usize;

    /// `n` one-of-sixteen OTs: bit x of `pads[k]` is the pad of entry x in OT k.
    ///
    /// # Errors
    /// [`OtError::Length`], before anything is consumed: corrections or pads of the wrong length.
    fn one_of_16(&mut self, n: usize, corrections: &[u8], pads: &mut [u16]) -> Result<(), OtError>;

    /// `n` one-of-two OTs with pads of `bits` bits (1 to 32), in `pads0` and `pads1`.
    ///
    /// # Errors
    /// [`OtError::Length`] or [`OtError::Bits`], before anything is consumed.
    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        corrections: &[u8],
        pads0: &mut [u32],
        pads1: &mut [u32],
    ) -> Result<(), OtError>;
}

/// The party that gets uniformly random choices and knows the pads of these alone.
pub trait OtReceiverEngine {
    /// Bytes of corrections for `n` one-of-sixteen OTs.
    fn one_of_16_len(&self, n: usize) -> usize;

    /// Bytes of corrections for `n` random OTs.
    fn random_ot_len(&self, n: usize) -> usize;

    /// `n` one-of-sixteen OTs: the random entry `omega[k]` (0 to 15) and its pad `pads[k]` (0 or 1).
    ///
    /// The corrections for the sender are *appended*.
    ///
    /// # Errors
    /// [`OtError::Length`], before anything is consumed: a buffer that does not have `n` elements.
    fn one_of_16(
        &mut self,
        n: usize,
        corrections: &mut Vec<u8>,
        omega: &mut [u8],
        pads: &mut [u8],
    ) -> Result<(), OtError>;

    /// `n` one-of-two OTs: the random choice `choices[k]` (0 or 1) and its pad of `bits` bits (1 to 32).
    ///
    /// The corrections for the sender are *appended*.
    ///
    /// # Errors
    /// [`OtError::Length`] or [`OtError::Bits`], before anything is consumed.
    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        corrections: &mut Vec<u8>,
        choices: &mut [u8],
        pads: &mut [u32],
    ) -> Result<(), OtError>;
}
