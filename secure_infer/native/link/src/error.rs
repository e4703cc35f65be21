//! Everything that can go wrong between two parties, each with a stable code.

use blindread_protocol::channel::{ChannelError, Kind};
use blindread_protocol::{ProtocolError, WorkersError};

/// A failure of a connection or a session; [`LinkError::code`] names it for programs.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No connection could be made.
    #[error("peer: expected a connection to {address}, got {reason}")]
    Connect {
        /// Host and port.
        address: String,
        /// What the operating system said.
        reason: String,
    },
    /// The address to listen on can't be used.
    #[error("listen: expected a free address, got {address}: {reason}")]
    Listen {
        /// Host and port.
        address: String,
        /// What the operating system said.
        reason: String,
    },
    /// A certificate, key or authority file can't be used.
    #[error("credentials: expected {expected}, got {got}")]
    Credentials {
        /// What was wanted.
        expected: &'static str,
        /// What was found.
        got: String,
    },
    /// The peer's certificate isn't acceptable.
    #[error("peer's certificate: expected {expected}, got {got}")]
    Certificate {
        /// `certificate_expired`, `certificate_authority`, `certificate_name`,
        /// `certificate_fingerprint` or `certificate_invalid`.
        code: &'static str,
        /// What was wanted.
        expected: String,
        /// What was found.
        got: String,
    },
    /// The peer does not accept our certificate.
    #[error("own certificate: expected to be accepted, got {alert} from the peer")]
    CertificateRefused {
        /// The TLS alert.
        alert: String,
    },
    /// What came is not TLS 1.3, or TLS failed in another way.
    #[error("tls: expected a TLS 1.3 peer, got {reason}")]
    Tls {
        /// What rustls said.
        reason: String,
    },
    /// The peers don't agree about what they are going to compute.
    #[error("{what}: expected {expected}, got {got}")]
    Mismatch {
        /// `hello`, `role`, `version`, `parameters`, `engine` or `bundle`; also the code.
        what: &'static str,
        /// This side's value.
        expected: String,
        /// The peer's value.
        got: String,
    },
    /// A message that this crate reads can't be understood.
    #[error("{what}: expected {expected}, got {got}")]
    Message {
        /// Which message or field.
        what: &'static str,
        /// What was wanted.
        expected: String,
        /// What came.
        got: String,
    },
    /// The hospital has used up its images.
    #[error("budget: expected at most {limit} images of this hospital, got one more")]
    Budget {
        /// How many images the developer allows.
        limit: u64,
    },
    /// The file that counts images can't be written; no image is served uncounted.
    #[error("budget: expected a writable count of images, got {reason}")]
    BudgetStore {
        /// What the operating system said.
        reason: String,
    },
    /// The developer serves as many hospitals as it is allowed to.
    #[error("server: expected at most {limit} hospitals at once, got one more")]
    Busy {
        /// The limit.
        limit: usize,
    },
    /// More tickets were asked for than may be unspent at once.
    #[error("tickets: expected at most {limit} unspent, got one more")]
    TicketLimit {
        /// The limit.
        limit: usize,
    },
    /// A ticket that was never made, or is spent already.
    #[error("ticket: expected an unspent ticket, got {id}")]
    TicketUnknown {
        /// The number that was asked for.
        id: u64,
    },
    /// The number of a new ticket was used before.
    #[error("ticket: expected a number above {last}, got {id}")]
    TicketReused {
        /// The highest number so far.
        last: u64,
        /// The number that was proposed.
        id: u64,
    },
    /// There is no ticket to spend.
    #[error("tickets: expected at least one ready ticket, got none")]
    NoTicket,
    /// The image has another number of elements, or a value outside of the ring.
    #[error("input: expected {expected} elements, got {got}")]
    Input {
        /// What the program takes.
        expected: usize,
        /// What was given.
        got: usize,
    },
    /// The session ended, by an error or by being closed.
    #[error("session: expected an open session, got a closed one")]
    SessionClosed,
    /// The hospital asked for nothing for too long.
    #[error("session: expected a command within {limit_s} s, got none")]
    Idle {
        /// How long the developer waits.
        limit_s: u64,
    },
    /// The developer is shutting down.
    #[error("server: expected to go on, got a request to stop")]
    Shutdown,
    /// The operating system's random generator failed.
    #[error("entropy: expected 32 random bytes of the operating system, got none")]
    NoEntropy,
    /// A session's threads can't be had.
    #[error(transparent)]
    Threads(#[from] WorkersError),
    /// A thread of the session died; this is a defect.
    #[error("session: expected its thread to end well, got a panic")]
    Panic,
    /// The connection failed.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The protocol failed.
    #[error(transparent)]
    Protocol(ProtocolError),
}

impl From<ProtocolError> for LinkError {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::Channel(channel) => Self::Channel(channel),
            other => Self::Protocol(other),
        }
    }
}

impl LinkError {
    /// The stable name of this failure; for a peer's refusal it is the peer's code, if that is a known one.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Connect { .. } => "connect",
            Self::Listen { .. } => "listen",
            Self::Credentials { .. } => "credentials",
            Self::Certificate { code, .. } => code,
            Self::CertificateRefused { .. } => "certificate_refused",
            Self::Tls { .. } => "tls",
            Self::Mismatch { what, .. } => what,
            Self::Message { .. } => "message",
            Self::Budget { .. } => "budget",
            Self::BudgetStore { .. } => "budget_store",
            Self::Busy { .. } => "busy",
            Self::TicketLimit { .. } => "ticket_limit",
            Self::TicketUnknown { .. } => "ticket_unknown",
            Self::TicketReused { .. } => "ticket_reused",
            Self::NoTicket => "no_ticket",
            Self::Input { .. } => "input",
            Self::SessionClosed => "session_closed",
            Self::Idle { .. } => "idle",
            Self::Shutdown => "shutdown",
            Self::NoEntropy => "no_entropy",
            Self::Threads(_) => "threads",
            Self::Panic => "panic",
            Self::Channel(error) => channel_code(error),
            Self::Protocol(error) => error.code(),
        }
    }

    /// Whether the words are fit for the peer: not those about this side's own machine.
    #[must_use]
    pub(crate) fn is_private(&self) -> bool {
        matches!(
            self,
            Self::BudgetStore { .. }
                | Self::NoEntropy
                | Self::Threads(_)
                | Self::Panic
                | Self::Credentials { .. }
                | Self::Listen { .. }
                | Self::Protocol(ProtocolError::Argument(_))
        )
    }

    /// Whether the peer should be told: not when it told us, or can't hear any more.
    #[must_use]
    pub fn worth_telling(&self) -> bool {
        !matches!(
            self,
            Self::Channel(
                ChannelError::Peer { .. } | ChannelError::Closed { .. } | ChannelError::Io(_)
            ) | Self::Tls { .. }
                | Self::CertificateRefused { .. }
                | Self::Connect { .. }
        )
    }
}

/// What a peer may call its own failure. Anything else is `peer_error`: its words must not pass for
/// one of this side's errors, on which a caller would act differently.
const PEER_CODES: [&str; 23] = [
    "argument",
    "budget",
    "budget_store",
    "bundle",
    "busy",
    "certificate_fingerprint",
    "engine",
    "hello",
    "idle",
    "malformed_message",
    "message",
    "no_entropy",
    "parameters",
    "role",
    "shutdown",
    "threads",
    "ticket_limit",
    "ticket_reused",
    "ticket_unknown",
    "timeout",
    "unexpected_length",
    "unexpected_message",
    "version",
];

fn channel_code(error: &ChannelError) -> &str {
    match error {
        ChannelError::Timeout { .. } => "timeout",
        ChannelError::Closed { .. } => "peer_closed",
        ChannelError::UnexpectedKind { .. } => "unexpected_message",
        ChannelError::UnexpectedLength { .. } => "unexpected_length",
        ChannelError::Peer { code, .. } => PEER_CODES
            .iter()
            .find(|known| *known == code)
            .copied()
            .unwrap_or("peer_error"),
        ChannelError::Cancelled => "cancelled",
        ChannelError::Io(_) => "connection",
    }
}

/// What TLS said, sorted by what a person can do about it.
pub(crate) fn from_tls(error: &rustls::Error) -> LinkError {
    use rustls::{AlertDescription as Alert, CertificateError as C, Error as E};
    let certificate = |code, expected: &str, got: &str| LinkError::Certificate {
        code,
        expected: expected.to_owned(),
        got: got.to_owned(),
    };
    match error {
        E::InvalidCertificate(C::Expired | C::ExpiredContext { .. }) => certificate(
            "certificate_expired",
            "one that is valid today",
            "an expired one",
        ),
        E::InvalidCertificate(C::NotValidYet | C::NotValidYetContext { .. }) => certificate(
            "certificate_expired",
            "one that is valid today",
            "one of the future",
        ),
        E::InvalidCertificate(C::UnknownIssuer | C::BadSignature) => certificate(
            "certificate_authority",
            "one of our authority",
            "one of another issuer",
        ),
        E::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => {
            certificate(
                "certificate_name",
                "one for the name we call",
                "one for other names",
            )
        }
        E::InvalidCertificate(C::InvalidPurpose | C::InvalidPurposeContext { .. }) => certificate(
            "certificate_purpose",
            "one for this role",
            "one for the other role",
        ),
        E::InvalidCertificate(other) => {
            certificate("certificate_invalid", "a valid one", &format!("{other:?}"))
        }
        E::NoCertificatesPresented => {
            certificate("certificate_missing", "one of our authority", "none")
        }
        E::AlertReceived(
            alert @ (Alert::BadCertificate
            | Alert::CertificateExpired
            | Alert::CertificateRevoked
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnsupportedCertificate
            | Alert::UnknownCA
            | Alert::DecryptError
            | Alert::AccessDenied),
        ) => LinkError::CertificateRefused {
            alert: format!("{alert:?}"),
        },
        other => LinkError::Tls {
            reason: other.to_string(),
        },
    }
}

/// The end of a connection where `expected` was due.
pub(crate) fn closed(expected: Kind) -> LinkError {
    LinkError::Channel(ChannelError::Closed { expected })
}
