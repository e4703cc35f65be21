//! Errors: values with a stable code, worded "what: expected X, got Y".

use thiserror::Error;

/// Why a message or a buffer was refused. No variant carries secret data.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OtError {
    /// A message from the peer, or a buffer of the caller, has the wrong length.
    #[error("{what}: expected {expected}, got {got}")]
    Length {
        /// Which message or buffer.
        what: &'static str,
        /// The only length that is accepted.
        expected: usize,
        /// The length found.
        got: usize,
    },
    /// Bytes of the peer do not encode a ristretto255 point, or encode the identity.
    #[error(
        "{what}, point {index}: expected a ristretto255 point other than the identity, got other bytes"
    )]
    InvalidPoint {
        /// Which message.
        what: &'static str,
        /// Index of the first offending point in that message.
        index: usize,
    },
    /// OTs of a kind that this connection and direction was not set up for.
    #[error(
        "one-of-sixteen OTs: expected an engine that was set up for them, got one for random OTs alone"
    )]
    NotSetUp,
    /// The connection failed, while OTs needed it.
    #[error("connection: expected messages of OTs, got a failure")]
    Connection,
    /// The width of a random OT is not between 1 and 32 bits.
    #[error("bits of a random OT: expected 1 to 32, got {got}")]
    Bits {
        /// The width asked for.
        got: u32,
    },
}

impl OtError {
    /// A code that stays the same over versions.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Length { .. } => "ot.length",
            Self::InvalidPoint { .. } => "ot.invalid_point",
            Self::NotSetUp => "ot.not_set_up",
            Self::Connection => "ot.connection",
            Self::Bits { .. } => "ot.bits",
        }
    }
}

/// Checks one length.
pub(crate) fn check_len(what: &'static str, expected: usize, got: usize) -> Result<(), OtError> {
    if expected == got {
        Ok(())
    } else {
        Err(OtError::Length {
            what,
            expected,
            got,
        })
    }
}
