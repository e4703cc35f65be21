//! The two-party protocol: what hospital and developer compute and exchange, step by step.
//!
//! No socket, no clock, no Python: a [`channel::Channel`] moves the bytes, and threads are lent as [`Workers`]. H's
//! share of every value in the network is fixed before the X-ray exists (offline); online, D walks the network
//! on masked data and H answers table look-ups that it has prepared. `SECURITY.md` has the security argument.

mod ahead;
pub mod carry;
pub mod channel;
pub mod developer;
mod error;
pub mod hospital;
mod lanes;
pub mod local;
pub mod max_pool;
mod model;
pub mod mux;
mod options;
mod ot;
mod plan;
pub mod program;
mod random;
mod relu;
mod secret;
mod seed;
mod shares;
pub mod truncate;
mod truncate_flow;
mod wire;

pub use blindread_ot::{FERRET_PARAMETERS, OtEngine};
pub use blindread_pool::{Workers, WorkersError};
pub use error::ProtocolError;
pub use model::{ParameterError, Parameters, StepParameters, make_hints};
pub use options::SessionOptions;
pub use plan::Plan;
pub use program::{Program, ProgramError};
