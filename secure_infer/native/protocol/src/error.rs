//! What can end a session.

use crate::channel::ChannelError;
use crate::program::ProgramError;

/// A session that cannot go on. Every ticket of the connection is gone.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The connection failed or the peer broke the order of messages.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The program is not acceptable.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Bytes of the peer that are not what the protocol prescribes.
    #[error("peer: {0}")]
    Message(String),
    /// The caller's arguments do not fit the program.
    #[error("{0}")]
    Argument(String),
}

impl ProtocolError {
    /// A stable name for logs, error frames and callers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Channel(ChannelError::Timeout { .. }) => "timeout",
            Self::Channel(ChannelError::Closed { .. }) => "peer_closed",
            Self::Channel(ChannelError::UnexpectedKind { .. }) => "unexpected_message",
            Self::Channel(ChannelError::UnexpectedLength { .. }) => "unexpected_length",
            Self::Channel(ChannelError::Peer { .. }) => "peer_error",
            Self::Channel(ChannelError::Cancelled) => "cancelled",
            Self::Channel(ChannelError::Io(_)) => "connection",
            Self::Program(_) => "program",
            Self::Message(_) => "malformed_message",
            Self::Argument(_) => "argument",
        }
    }
}
