//! Oblivious transfer without I/O: base OTs over ristretto255, SoftSpokenOT, wide AES.
//!
//! Messages are byte vectors in and byte vectors out, randomness is a parameter, roles are types. There is no
//! socket, clock, thread or file here, and nothing is global but the choice of vector kernels.
//!
//! ```text
//! SenderSetup::start -> request --------> ReceiverSetup::respond
//!         finish     <-------- answer  <-
//!     OtSender (Delta)                       OtReceiver (random choices)
//!       one_of_16, random_ot <- corrections - one_of_16, random_ot      one message per call
//! ```
//!
//! `error` | `aes` PRG and hash | `base` endemic OT | `ggm` trees | `planes` bit matrices | `simd` kernels and
//! run-time dispatch | `softspoken` the engine | `engine` the traits every engine has.
#![deny(unsafe_code)]

mod aes;
mod base;
mod engine;
mod error;
mod ggm;
mod planes;
#[allow(unsafe_code)]
mod simd;
mod softspoken;

pub use engine::{OtReceiverEngine, OtSenderEngine};
pub use error::OtError;
pub use softspoken::{
    OtReceiver, OtSender, ReceiverSetup, SenderSetup, one_of_16_len, random_ot_len,
};
