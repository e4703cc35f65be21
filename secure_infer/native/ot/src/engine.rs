//! What the protocol needs of an OT engine, whichever it is.
//!
//! Both engines (`softspoken` and `ferret`) make *random* OTs: choices and pads come out of the engine, none
//! goes in. A call's messages go in one direction: with `softspoken` the receiver speaks (corrections, a message
//! per batch), with `ferret` the sender (sums of trees, one message if any), see [`OtEngine::speaker`]. Who speaks needs
//! nothing of the other party. Calls must be made in the same order with the same `n` by both parties, of both kinds
//! together.

use crate::{OtError, Wire};

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

    /// The side that sends a message for OTs; the other one waits for it.
    #[must_use]
    pub const fn speaker(self) -> Role {
        match self {
            Self::SoftSpoken => Role::Receiver,
            Self::Ferret => Role::Sender,
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

/// The two sides of an OT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Has both pads, or all of them.
    Sender,
    /// Has a choice and its pad.
    Receiver,
}

/// The party that holds Delta and knows the pads of all entries.
pub trait OtSenderEngine {
    /// `n` one-of-sixteen OTs: bit x of `pads[k]` is the pad of entry x in OT k.
    ///
    /// # Errors
    /// [`OtError::Length`] or [`OtError::NotSetUp`], before anything is consumed: pads of the wrong length. Those of the
    /// wire; then both engines must be dropped.
    fn one_of_16(&mut self, n: usize, wire: &mut dyn Wire, pads: &mut [u16])
    -> Result<(), OtError>;

    /// `n` one-of-two OTs with pads of `bits` bits (1 to 32), in `pads0` and `pads1`.
    ///
    /// # Errors
    /// [`OtError::Length`] or [`OtError::Bits`], before anything is consumed. Those of the wire; then both engines must be
    /// dropped.
    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        wire: &mut dyn Wire,
        pads: [&mut [u32]; 2],
    ) -> Result<(), OtError>;
}

/// The party that gets uniformly random choices and knows the pads of these alone.
pub trait OtReceiverEngine {
    /// `n` one-of-sixteen OTs: the random entry `omega[k]` (0 to 15) and its pad `pads[k]` (0 or 1).
    ///
    /// # Errors
    /// As [`OtSenderEngine::one_of_16`].
    fn one_of_16(
        &mut self,
        n: usize,
        wire: &mut dyn Wire,
        omega: &mut [u8],
        pads: &mut [u8],
    ) -> Result<(), OtError>;

    /// `n` one-of-two OTs: the random choice `choices[k]` (0 or 1) and its pad of `bits` bits (1 to 32).
    ///
    /// # Errors
    /// As [`OtSenderEngine::random_ot`].
    fn random_ot(
        &mut self,
        n: usize,
        bits: u32,
        wire: &mut dyn Wire,
        choices: &mut [u8],
        pads: &mut [u32],
    ) -> Result<(), OtError>;
}
