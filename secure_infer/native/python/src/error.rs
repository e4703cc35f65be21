//! One exception for everything the core reports; `secure_infer.runtime` turns it into its own classes.

use blindread_link::LinkError;
use blindread_protocol::{ParameterError, ProgramError, ProtocolError};
use pyo3::exceptions::PyException;
use pyo3::prelude::*;

pyo3::create_exception!(
    secure_infer._native,
    NativeError,
    PyException,
    "A failure of the core. `args` are its stable code and its message."
);

/// A failure on its way to Python.
pub struct Failure {
    code: String,
    message: String,
}

impl Failure {
    /// With code and message; the message reads "what: expected X, got Y".
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            message: message.into(),
        }
    }

    /// Whether the other side went away.
    pub fn is_closed(&self) -> bool {
        self.code == "peer_closed"
    }

    /// Whether a cancellation is what went wrong.
    pub fn is_cancelled(&self) -> bool {
        self.code == "cancelled"
    }
}

impl From<Failure> for PyErr {
    fn from(failure: Failure) -> Self {
        NativeError::new_err((failure.code, failure.message))
    }
}

impl From<LinkError> for Failure {
    fn from(error: LinkError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<ProtocolError> for Failure {
    fn from(error: ProtocolError) -> Self {
        LinkError::from(error).into()
    }
}

impl From<ProgramError> for Failure {
    fn from(error: ProgramError) -> Self {
        Self::new("program", error.to_string())
    }
}

impl From<ParameterError> for Failure {
    fn from(error: ParameterError) -> Self {
        Self::new("private_parameters", error.to_string())
    }
}
