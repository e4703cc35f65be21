//! The two-party protocol: what hospital and developer compute and exchange, step by step.
//!
//! No socket, no clock, no thread, no Python: a [`channel::Channel`] moves the bytes.

pub mod channel;
