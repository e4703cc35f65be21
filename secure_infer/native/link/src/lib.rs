//! Connections between hospital and developer: TLS 1.3, frames, time-outs, sessions, tickets.
//!
//! From the wire upwards:
//!
//! | module | what it knows |
//! |---|---|
//! | `tls` | who may talk: certificates of one authority on both sides, pinned names and fingerprints |
//! | `socket` | one non-blocking socket and `poll`: deadlines, cancellation |
//! | `channel` | frames over TLS, the protocol's [`Channel`](blindread_protocol::channel::Channel) |
//! | `connections` | all connections of one session |
//! | `meter` | bytes, seconds and turns, by phase and step |
//! | `hello` | how the parties greet each other: versions, parameters, bundle, connections |
//! | `message` | the messages of an open session: welcome, command, done, error |
//! | `choice`, `probe` | the OT engine: who names it, the rule, and the link that it goes by |
//! | `ticket` | a ticket's life: made, claimed, spent |
//! | `hospital` | the client's session: connect, prepare, infer, close |
//! | `joins` | connections that find their session, at the developer |
//! | `developer` | the server: one thread per connection, several hospitals at once |
//! | `budget` | how many images each hospital may still ask for |
//! | `memory` | both parties in one process, for tests and conformance |
//!
//! Why threads and no asynchronous runtime: a session is minutes of computing between messages, a
//! developer serves a handful of hospitals, and each would occupy a thread of its own anyway. A
//! non-blocking socket with `poll` gives what blocking ones lack: one deadline over many reads, a
//! cancellation flag that is looked at while waiting, and no deadlock when both parties send at once.
//!
//! Why rustls with ring: both parties get the same memory-safe TLS without a system library, TLS 1.2
//! can be left out altogether, and ring builds with a C compiler alone, where the other provider also
//! wants CMake; its AES-GCM is as fast on AES-NI and VAES machines.

pub mod budget;
pub mod cancel;
pub mod channel;
pub mod choice;
mod connections;
pub mod developer;
pub mod error;
pub mod event;
pub mod harden;
pub mod hello;
pub mod hospital;
mod joins;
pub mod memory;
pub mod message;
pub mod meter;
pub mod probe;
mod serve;
mod socket;
pub mod ticket;
pub mod timeouts;
pub mod tls;

pub use cancel::Cancel;
pub use error::LinkError;

/// The version of messages and protocol; both parties must have the same.
pub const PROTOCOL_VERSION: u16 = 9;

/// 32 fresh bytes of the operating system's generator, wiped when dropped.
fn entropy() -> Result<zeroize::Zeroizing<[u8; 32]>, LinkError> {
    let mut bytes = zeroize::Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut()).map_err(|_| LinkError::NoEntropy)?;
    Ok(bytes)
}

/// Lower-case hexadecimal digits of `bytes`.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
            // Writing to a string can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}
