//! Words modulo 2^k: how they are packed for the wire, and convolutions of them with private weights.
//!
//! The bottom of the workspace. Every value of the network is a word modulo 2^ell with ell <= 32, kept in a
//! `u32` whose bits above ell are without meaning; arithmetic wraps modulo 2^32 and is therefore right modulo
//! every smaller power of two.

mod kernel;
mod pack;
pub mod raster;
pub mod rates;
mod shape;
mod simd;

pub use kernel::{ConvKernel, ConvScratch, Instructions, WeightsError};
pub use pack::{LengthError, Word, pack, pack_u64, packed_len, unpack, unpack_u64};
pub use shape::{ConvShape, ConvSpec, Phases, ShapeError, Tap};
pub use simd::{prefetch_next, widened};
