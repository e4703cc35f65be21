//! The developer's side of the correlation, per image: d_o = round_{q -> t}(p_b v_o + g).
//!
//! Requires p_b of the hospital's ticket and the secrets v_o of the layer; g is fresh Gaussian noise at every output
//! coefficient, which drowns e v_o - e_o s (see [`crate::params`]).

use blindread_ring::unpack_u64;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::error::LatticeError;
use crate::hint::{SECRET, secret_len, unpack_ternary};
use crate::hospital::KEY;
use crate::layout::Layout;
use crate::ntt::{Poly, forward, inverse, pointwise};
use crate::params::{N, Q, Q_BITS};
use crate::prg::Prg;
use crate::rounding::{HALF, add_small, scale};
use crate::sample::drowning;
use crate::simd::widened;

/// p_b of one image.
pub struct DeveloperTicket {
    transformed: Poly,
}

impl DeveloperTicket {
    /// Bytes of the message that [`crate::HospitalSecret::new`] returns.
    pub const MESSAGE_LEN: usize = KEY;

    /// Reads the hospital's message.
    ///
    /// # Errors
    /// [`LatticeError`] when its length is another or a coefficient is not below q.
    pub fn new(p_b: &[u8]) -> Result<Self, LatticeError> {
        LatticeError::check_len("p_b", p_b.len(), KEY)?;
        let mut transformed = Poly::zero();
        unpack_u64(p_b, Q_BITS, &mut transformed[..])?;
        if transformed.iter().any(|&value| value >= Q) {
            return Err(LatticeError::Range("p_b"));
        }
        forward(&mut transformed);
        Ok(Self { transformed })
    }

    /// Fills `out` \[O, Ho, Wo\] with the developer's shares of a layer's output, below 2^ring_bits.
    ///
    /// # Errors
    /// [`LatticeError`] when a buffer's length or the ring does not fit, or the secrets are not ternary.
    pub fn output_shares(
        &self,
        layout: &Layout,
        secrets: &[u8],
        ring_bits: u32,
        rng: &mut impl CryptoRng,
        out: &mut [u32],
    ) -> Result<(), LatticeError> {
        LatticeError::check_ring(ring_bits)?;
        LatticeError::check_len("secrets", secrets.len(), secret_len(layout))?;
        LatticeError::check_len("output", out.len(), layout.shape().out_len())?;
        let mut prg = Prg::from_rng(rng);
        let pixels = layout.shape().out_height() * layout.shape().out_width();
        let (mut v, mut product) = (Poly::zero(), Poly::zero());
        let mut shares = Zeroizing::new(vec![0u32; N]);
        for (index, secret) in secrets.chunks_exact(SECRET).enumerate() {
            let (output, residue) = (index / layout.residues(), index % layout.residues());
            unpack_ternary(secret, &mut v)?;
            forward(&mut v);
            pointwise(&v, &self.transformed, &mut product);
            inverse(&mut product);
            let end = layout.outputs_end(residue);
            let (product, shares) = (&mut product[..end], &mut shares[..end]);
            product
                .iter_mut()
                .for_each(|value| *value = add_small(*value, drowning(&mut prg)));
            widened(|| round_products(product, ring_bits, shares));
            layout.place_outputs(residue, shares, &mut out[output * pixels..][..pixels]);
        }
        Ok(())
    }
}

/// round_{q -> t}(x)
#[inline(always)]
fn round_products(products: &[u64], ring_bits: u32, shares: &mut [u32]) {
    for (&product, share) in products.iter().zip(shares) {
        *share = scale(product, ring_bits, HALF) as u32 & ((1 << ring_bits) - 1);
    }
}
