//! What can be wrong with bytes and sizes that come from outside.

use blindread_ring::LengthError;

/// Input that does not fit; no value of it is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LatticeError {
    /// A buffer of another length.
    #[error("{what}: expected {expected} elements, got {got}")]
    Length {
        /// Which buffer.
        what: &'static str,
        /// Elements that the layout needs.
        expected: usize,
        /// Elements that were there.
        got: usize,
    },
    /// A coefficient out of its range.
    #[error("{0}: expected reduced coefficients, got one out of range")]
    Range(&'static str),
    /// A ring that is not supported.
    #[error("ring: expected 8 to 31 bits, got {0}")]
    Ring(u32),
}

impl LatticeError {
    /// The name of the error, the same in every version.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Length { .. } => "lattice_length",
            Self::Range(_) => "lattice_range",
            Self::Ring(_) => "lattice_ring",
        }
    }

    pub(crate) fn check_len(what: &'static str, got: usize, expected: usize) -> Result<(), Self> {
        if got == expected {
            Ok(())
        } else {
            Err(Self::Length {
                what,
                expected,
                got,
            })
        }
    }

    pub(crate) fn check_ring(bits: u32) -> Result<(), Self> {
        let range = crate::params::MIN_RING_BITS..=crate::params::MAX_RING_BITS;
        if range.contains(&bits) {
            Ok(())
        } else {
            Err(Self::Ring(bits))
        }
    }
}

impl From<LengthError> for LatticeError {
    fn from(error: LengthError) -> Self {
        Self::Length {
            what: "packed words",
            expected: error.expected,
            got: error.got,
        }
    }
}
