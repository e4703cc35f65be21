//! What the protocol needs of an OT engine, whichever it is.
//!
//! Both engines (`softspoken` and `ferret`) make *random* OTs: choices and pads come out of the engine, none
//! goes in. The receiver speaks first and alone: it appends its corrections to a message (`ferret` has none);
//! the sender reads exactly `*_len(n)` bytes of it. Calls of one kind must be made in the same order with the
//! same `n` by both parties; with `softspoken` the two kinds do not disturb each other.
//!
//! Before a call, both parties ask `refill` until it is `None` (with `softspoken` it always is), and exchange a request
//! of the receiver and an answer of the sender each time. A request may be empty; then it need not be sent.

use crate::OtError;

/// How OTs are extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OtEngine {
    /// SoftSpokenOT, f = 4: about 4 bytes per random OT, no LPN assumption.
    SoftSpoken = 1,
    /// Ferret: about a bit per OT, primal LPN with regular noise.
    Ferret = 2,
}

impl OtEngine {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::SoftSpoken, Self::Ferret];

    /// Its name in options and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SoftSpoken => "softspoken",
            Self::Ferret => "ferret",
        }
    }

    /// The engine of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| engine.name() == name)
    }
}

/// A kind of OT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtKind {
    /// One of two.
    RandomOt,
    /// One of sixteen.
    OneOf16,
}

/// A refill that is due: one message of the receiver, then one of the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refill {
    /// What is refilled.
    pub kind: OtKind,
    /// Bytes of the receiver's request.
    pub request_len: usize,
    /// Bytes of the sender's answer.
    pub answer_len: usize,
}

/// The party that holds Delta and knows the pads of all entries.
pub trait OtSenderEngine {
    /// Bytes of corrections for `n` one-of-sixteen OTs.
    fn one_of_16_len(&self, n: usize) -> usize;

    /// Bytes of corrections for `n` random OTs.
    fn random_ot_len(&self, n: usize) -> usize;

    /// The refill that is due before `n` OTs of a kind, if any.
    fn refill(&self, _kind: OtKind, _n: usize) -> Option<Refill> {
        None
    }

    /// Reads the receiver's request and *appends* the answer.
    ///
    /// # Errors
    /// [`OtError::Length`], before anything is consumed; [`OtError::Refill`] when none is due.
    fn answer_refill(
        &mut self,
        _refill: Refill,
        _request: &[u8],
        _answer: &mut Vec<u8>,
    ) -> Result<(), OtError> {
        Err(OtError::Refill { expected: "none" })
    }

    /// `n` one-of-sixteen OTs: bit x of `pads[k]` is the pad of entry x in OT k.
    ///
    /// # Errors
    /// [`OtError::Length`] or [`OtError::Exhausted`], before anything is consumed: corrections or pads of the wrong length.
    fn one_of_16(&mut self, n: usize, corrections: &[u8], pads: &mut [u16]) -> Result<(), OtError>;

    /// `n` one-of-two OTs with pads of `bits` bits (1 to 32), in `pads0` and `pads1`.
    ///
    /// # Errors
    /// [`OtError::Length`], [`OtError::Bits`] or [`OtError::Exhausted`], before anything is consumed.
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

    /// The refill that is due before `n` OTs of a kind, if any.
    fn refill(&self, _kind: OtKind, _n: usize) -> Option<Refill> {
        None
    }

    /// *Appends* the request.
    ///
    /// # Errors
    /// [`OtError::Refill`] when none is due.
    fn request_refill(&mut self, _refill: Refill, _request: &mut Vec<u8>) -> Result<(), OtError> {
        Err(OtError::Refill { expected: "none" })
    }

    /// Reads the answer to the last request.
    ///
    /// # Errors
    /// [`OtError::Length`], before anything is consumed; [`OtError::Refill`] when nothing was requested.
    fn finish_refill(&mut self, _answer: &[u8]) -> Result<(), OtError> {
        Err(OtError::Refill { expected: "none" })
    }

    /// `n` one-of-sixteen OTs: the random entry `omega[k]` (0 to 15) and its pad `pads[k]` (0 or 1).
    ///
    /// The corrections for the sender are *appended*.
    ///
    /// # Errors
    /// [`OtError::Length`] or [`OtError::Exhausted`], before anything is consumed: a buffer that does not have `n` elements.
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
    /// [`OtError::Length`], [`OtError::Bits`] or [`OtError::Exhausted`], before anything is consumed.
    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        corrections: &mut Vec<u8>,
        choices: &mut [u8],
        pads: &mut [u32],
    ) -> Result<(), OtError>;
}
