//! What happens in a server, told to whoever listens; never a secret among it.

use std::sync::Arc;

use crate::choice::Choice;

/// One thing that happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// A stable name: `connected`, `refused`, `prepared`, `inferred`, `closed`, `accept_failed`.
    pub name: &'static str,
    /// Number of the session's first connection within this server, from 1.
    pub connection: u64,
    /// SHA-256 of the peer's certificate in hexadecimal; empty before it is known.
    pub peer: String,
    /// Error code; empty if all went well.
    pub code: String,
    /// Error message; empty if all went well.
    pub message: String,
    /// Number of the ticket, where there is one.
    pub ticket: Option<u64>,
    /// The OT engine of the session, with the event `connected`; what was measured is the hospital's word.
    pub choice: Option<Choice>,
    /// How long the work took.
    pub seconds: f64,
}

/// Receives events; called from the threads of the sessions.
pub type Listener = Arc<dyn Fn(Event) + Send + Sync>;

/// A listener that hears nothing.
#[must_use]
pub fn silent() -> Listener {
    Arc::new(|_| {})
}
