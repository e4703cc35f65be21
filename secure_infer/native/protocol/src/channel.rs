//! What the protocol needs of a connection: typed messages of a length known before they arrive.
//!
//! The protocol knows no socket, no clock and no thread. Whoever drives it (the `link` crate, or a
//! test with two queues) implements [`Channel`] and decides about encryption, time-outs and
//! cancellation; every length is checked there against what the protocol announces, before any
//! memory is allocated for it.

use crate::program::StepId;

/// The largest body of one message, in bytes; longer transfers are split by the protocol.
pub const MAX_BODY: usize = 1 << 26;

/// The most connections of one session: as many as a long vector has lanes, or a part of their number.
pub const MAX_CONNECTIONS: usize = 8;

/// The type of a message; its number is the byte on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Opening of a session: protocol version, bundle digest, parameters.
    Hello = 1,
    /// The hospital asks for a step of the session (offline, online, close).
    Command = 2,
    /// Fresh randomness of one party for one ticket.
    Nonce = 3,
    /// Base oblivious transfers.
    BaseOt = 4,
    /// Corrections of the OT extension.
    OtCorrections = 5,
    /// The hospital's ring-LWE sample.
    RingLwe = 6,
    /// Masks at zero-padded positions.
    PaddingMasks = 7,
    /// Differences between an arbitrary share and a lattice mask.
    Remask = 8,
    /// Offline corrections of correlated OTs (multiplexer, truncation).
    CotCorrections = 9,
    /// The masked input.
    MaskedInput = 10,
    /// Masked table indices of one chunk of the carry chain.
    ChunkIndices = 11,
    /// Masked tables of one chunk of the carry chain.
    ChunkTables = 12,
    /// The developer's multiplexer message.
    MuxRequest = 13,
    /// The hospital's multiplexer message.
    MuxAnswer = 14,
    /// The developer's masked wrap bits.
    TruncateRequest = 15,
    /// The hospital's answers to wrap bits.
    TruncateAnswer = 16,
    /// The developer's share of an output.
    Output = 17,
    /// End of a phase; both sides are in step.
    Done = 18,
    /// Sums of the trees of OTs, of their sender.
    OtSums = 19,
    /// The hospital asks for a probe of the link, or names the OT engine.
    Opening = 20,
    /// Bytes without meaning, whose time is taken.
    Probe = 21,
    /// A named error; the session ends.
    Error = 255,
}

/// A failure of the connection, not of the protocol.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// No byte came, or none could be sent, within the time allowed.
    #[error("peer: expected {expected:?} within the time allowed, got nothing")]
    Timeout {
        /// What was waited for.
        expected: Kind,
    },
    /// The peer closed the connection.
    #[error("peer: expected {expected:?}, got the end of the connection")]
    Closed {
        /// What was waited for.
        expected: Kind,
    },
    /// A message of another kind came.
    #[error("peer: expected {expected:?}, got kind {got}")]
    UnexpectedKind {
        /// What was waited for.
        expected: Kind,
        /// The byte that came.
        got: u8,
    },
    /// A message of another length came.
    #[error("peer: expected {expected} bytes of {kind:?}, got {got}")]
    UnexpectedLength {
        /// The kind of the message.
        kind: Kind,
        /// The length the protocol prescribes.
        expected: usize,
        /// The length announced by the peer.
        got: usize,
    },
    /// The peer ended the session with an error of its own.
    #[error("peer: refused with {code}: {message}")]
    Peer {
        /// The peer's stable error code.
        code: String,
        /// The peer's words, printable ASCII, at most 200 characters.
        message: String,
    },
    /// This side was asked to stop.
    #[error("session: cancelled")]
    Cancelled,
    /// Anything else the operating system or TLS said.
    #[error("connection: {0}")]
    Io(String),
}

/// The parts of a session that are timed and counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Once per connection: base OTs.
    Setup,
    /// Per ticket, before the X-ray exists.
    Offline,
    /// Per X-ray.
    Online,
}

/// An ordered, reliable, authenticated and encrypted connection to the other party, or several that belong to one
/// session: all but [`Channel::connections`] and [`Channel::give_up`] is about the first of them.
pub trait Channel: Send {
    /// Queues one message; it may be sent later, but before [`Channel::recv`] waits.
    ///
    /// # Errors
    /// Any [`ChannelError`].
    fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), ChannelError>;

    /// Sends everything queued.
    ///
    /// # Errors
    /// Any [`ChannelError`].
    fn flush(&mut self) -> Result<(), ChannelError>;

    /// Flushes, waits for the next message, checks its kind and its length (`expected_len`, exact)
    /// before it allocates, and replaces the content of `body`.
    ///
    /// # Errors
    /// Any [`ChannelError`].
    fn recv(
        &mut self,
        kind: Kind,
        expected_len: usize,
        body: &mut Vec<u8>,
    ) -> Result<(), ChannelError>;

    /// Told when the walk enters a step, so that time and bytes can be accounted for it.
    fn enter(&mut self, _phase: Phase, _step: StepId) {}

    /// The session's connections, this one first, the same at both parties. Threads may use them at the same time, and each
    /// has an order of its own. Unless there is only one, at least one party has a thread for each.
    fn connections(&mut self) -> Vec<&mut dyn Channel>;

    /// Ends, with [`ChannelError::Cancelled`], whatever other threads wait for in the session's other connections.
    fn give_up(&mut self) {}
}
