//! The developer's side of the correlation, per image: d_o = round_{q -> t}(p_b v_o + g).
//!
//! Requires p_b of the hospital's ticket and the secrets v_o of the layer; g is fresh Gaussian noise at every output
//! coefficient, which drowns e v_o - e_o s (see [`crate::params`]).

use blindread_pool::Workers;
use blindread_ring::unpack_u64;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::error::LatticeError;
use crate::gaussian::Noise;
use crate::hint::{SECRET, secret_len, unpack_ternary};
use crate::hospital::KEY;
use crate::layout::Layout;
use crate::ntt::{Poly, forward, inverse, pointwise};
use crate::params::{N, Q, Q_BITS};
use crate::prg::Prg;
use crate::rounding::{HALF, scale};
use crate::simd::widened;

/// p_b of one image.
pub struct DeveloperTicket {
    transformed: Poly,
    workers: Workers,
}

/// Work space of one thread.
struct Scratch {
    v: Poly,
    product: Poly,
    noise: Noise,
    shares: Zeroizing<Vec<u32>>,
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
        let workers = Workers::one();
        Ok(Self {
            transformed,
            workers,
        })
    }

    /// The same ticket, with which output channels are divided among these threads.
    #[must_use]
    pub fn with_workers(self, workers: &Workers) -> Self {
        Self {
            workers: workers.clone(),
            ..self
        }
    }

    /// Fills `out` \[O, Ho, Wo\] with the developer's shares of a layer's output, below 2^ring_bits.
    ///
    /// Each output channel has a generator of its own, seeded in order by `rng`, since a Gaussian takes as much of a
    /// stream as it happens to need.
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
        let mut seeds = Zeroizing::new(vec![[0; 32]; layout.out_polys() / layout.residues()]);
        seeds.iter_mut().for_each(|seed| prg.fill(seed));
        let mut states: Vec<_> = (0..self.workers.threads())
            .map(|_| Scratch {
                v: Poly::zero(),
                product: Poly::zero(),
                noise: Noise::new(),
                shares: Zeroizing::new(vec![0; N]),
            })
            .collect();
        let outputs = secrets
            .chunks_exact(layout.residues() * SECRET)
            .zip(out.chunks_exact_mut(pixels))
            .zip(seeds.iter());
        self.workers
            .try_each_with(&mut states, outputs, |scratch, ((secrets, out), seed)| {
                let mut prg = Prg::from_seed(seed);
                for (residue, secret) in secrets.chunks_exact(SECRET).enumerate() {
                    let end = layout.outputs_end(residue);
                    self.share(scratch, secret, end, ring_bits, &mut prg)?;
                    layout.place_outputs(residue, &scratch.shares[..end], out);
                }
                Ok(())
            })
    }

    /// The first `end` shares of one output polynomial, in the scratch's shares.
    fn share(
        &self,
        scratch: &mut Scratch,
        secret: &[u8],
        end: usize,
        ring_bits: u32,
        prg: &mut Prg,
    ) -> Result<(), LatticeError> {
        let Scratch {
            v,
            product,
            noise,
            shares,
        } = scratch;
        unpack_ternary(secret, v)?;
        forward(v);
        pointwise(v, &self.transformed, product);
        inverse(product);
        let (product, shares) = (&product[..end], &mut shares[..end]);
        let noise = noise.drowning(prg, end);
        widened(|| round_products(product, noise, ring_bits, shares));
        Ok(())
    }
}

/// round_{q -> t}(x + g)
#[inline(always)]
fn round_products(
    products: &[u64],
    noise: impl Iterator<Item = i64>,
    ring_bits: u32,
    shares: &mut [u32],
) {
    for ((&product, noise), share) in products.iter().zip(noise).zip(shares) {
        // a multiple of q more or less makes a multiple of t
        let sum = (product + Q).wrapping_add_signed(noise);
        *share = scale(sum, ring_bits, HALF) as u32 & ((1 << ring_bits) - 1);
    }
}
