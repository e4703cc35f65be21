//! What a session is told besides its model.

use blindread_ot::OtEngine;
use blindread_pool::Workers;

/// What both parties have agreed on, and this party's threads.
#[derive(Clone)]
pub struct SessionOptions {
    /// Binds everything to this connection; the same for both parties.
    pub id: [u8; 32],
    /// How OTs are extended; the peer's.
    pub engine: OtEngine,
    /// This party's threads. What is sent doesn't depend on their number.
    pub workers: Workers,
}
