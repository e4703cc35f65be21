//! Silent correlations for linear layers from ring-LWE.
//!
//! For a convolution `W` of the developer and masks `r` of the hospital, both fixed before there is an X-ray,
//! the two parties get additive shares of `W r` after **one** message of the hospital, whatever the number of layers:
//!
//! ```text
//! once per model     D: hints()                          -> hints (public), secrets (D's)
//! once per image     H: HospitalSecret::new()            -> p_b, sent to D
//!                    H: input_masks(), output_shares()   -> r, h
//!                    D: DeveloperTicket, output_shares() -> d        with h + d = W r + small error  (mod 2^ell)
//! ```
//!
//! - Error: `W delta + g`, with `delta` the rounding of every mask (uniform in +-1/2, known to H, at padded
//!   positions as well) and `g` Gaussian of [`params::DROWNING_UNITS_AT_27`] units at ell = 27.
//! - Security (semi-honest): against D, `r` is pseudorandom under RLWE with one secret `s` per image; against H,
//!   every hint is an RLWE sample with its own secret `v_o`, and the trace of `v_o` in the shares is drowned by `g`.
//!   `s` must be fresh for every image: [`HospitalSecret`] cannot be cloned and is zeroed on drop, and whoever
//!   uses it twice on one tensor reveals differences of X-rays.
//! - Requirement: every input polynomial of a bundle has its own index ([`Layout::in_polys`] many from
//!   `first_index` on), used with one ring only.

mod developer;
mod error;
mod gaussian;
mod hint;
mod hospital;
mod layout;
mod ntt;
pub mod params;
mod prg;
pub mod rates;
mod rounding;
mod sample;
mod simd;

pub use developer::DeveloperTicket;
pub use error::LatticeError;
pub use hint::{hint_len, hints, secret_len};
pub use hospital::HospitalSecret;
pub use layout::Layout;
pub use prg::Prg;
