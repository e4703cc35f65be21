//! Oblivious transfer without I/O: base OTs over ristretto255, SoftSpokenOT, Ferret, wide AES.
//!
//! Messages are byte vectors, passed to and taken from a [`Wire`]; randomness is a parameter, roles are types. There is no
//! socket, clock or file here, threads are lent by the caller, and nothing is global but the choice of vector kernels.
//!
//! ```text
//! SenderSetup::start -> request --------> ReceiverSetup::respond
//!         finish     <-------- answer  <-
//!     OtSender (Delta)                       OtReceiver (random choices)
//!       one_of_16, random_ot <- corrections - one_of_16, random_ot      one message per batch
//!
//!     FerretSender (Delta)                   FerretReceiver             made from these two
//!       start           <- corrections -       start                    once
//!       one_of_16, random_ot - tree sums ->    one_of_16, random_ot     one message per call
//! ```
//!
//! `error` | `aes` PRG and hash | `base` endemic OT | `ggm` trees | `planes` bit matrices | `simd` kernels and
//! run-time dispatch | `softspoken` and, bootstrapped by it, `ferret`: the engines | `engine` the traits both have |
//! `rates` work for measuring.
#![deny(unsafe_code)]

mod aes;
mod base;
mod engine;
mod error;
mod ferret;
mod ggm;
mod planes;
pub mod rates;
#[allow(unsafe_code)]
mod simd;
mod softspoken;
mod wire;

pub use engine::{OtEngine, OtKind, OtReceiverEngine, OtSenderEngine, Role};
pub use error::OtError;
pub use ferret::{
    FerretReceiver, FerretSender, params::PARAMETERS as FERRET_PARAMETERS,
    start_len as ferret_start_len,
};
pub use softspoken::{
    OtReceiver, OtSender, ReceiverSetup, SenderSetup, one_of_16_len, random_ot_len,
};
pub use wire::Wire;
