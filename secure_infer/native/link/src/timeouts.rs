//! How long each wait may last.

use std::time::Duration;

/// A limit for every wait of a session; none is without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the peer's address accepts a connection.
    pub connect: Duration,
    /// TLS, hello and welcome together.
    pub handshake: Duration,
    /// No byte moves although one is due. Covers the peer's computing between two messages.
    pub silence: Duration,
    /// One message, from its first byte to its last.
    pub message: Duration,
    /// The developer waits for the next command.
    pub idle: Duration,
    /// For the other side to read a last error before the socket is dropped.
    pub farewell: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            silence: Duration::from_secs(120),
            message: Duration::from_secs(300),
            idle: Duration::from_secs(900),
            farewell: Duration::from_secs(1),
        }
    }
}
