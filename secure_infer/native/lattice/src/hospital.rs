//! The hospital's side of the correlation: masks of inputs and shares of outputs, from one secret per image.
//!
//! Functions, for a fresh ternary s (all modulo q unless said otherwise):
//! - p_b = p_a s + e, the one message;
//! - phase_i = -a_i s - e_i, r_i = floor((phase_i t + eta + (q - 1)/2) / q) modulo t with eta uniform in \[0, t): exactly
//!   uniform for a uniform phase, so plain RLWE (one secret, many samples) is all that is assumed;
//! - h_o = round_{q2 -> t}(-a'_o s) with a'_o centred, an integer product.
//!
//! NOTE: pixels of the padded raster that no tap reads (strides that skip whole phases) get masks from `rng`, since
//! callers mask every pixel.

use blindread_pool::Workers;
use blindread_ring::{pack_u64, unpack_u64};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::error::LatticeError;
use crate::hint::{HINT, hint_len};
use crate::layout::Layout;
use crate::ntt::{Poly, forward, inverse, pointwise};
use crate::params::{HINT_BITS, N, Q, Q_BITS};
use crate::prg::{BUFFER, Prg};
use crate::rounding::{HALF, scale};
use crate::sample::{ERROR_REFILLS, Public, add_errors, lift, public, ternary};
use crate::simd::widened;

/// Bytes of p_b.
pub(crate) const KEY: usize = N * Q_BITS as usize / 8;

/// The secret s of one image. Zeroed on drop; to be used for one image only, and then dropped.
pub struct HospitalSecret {
    transformed: Poly,
    workers: Workers,
}

/// Buffers of the generator for the masks of one polynomial: its errors and its roundings.
const MASK_REFILLS: usize = ERROR_REFILLS + N * 4 / BUFFER;

/// Work space of one thread.
struct Scratch {
    poly: Poly,
    product: Poly,
    words: Zeroizing<Vec<u32>>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            poly: Poly::zero(),
            product: Poly::zero(),
            words: Zeroizing::new(vec![0; N]),
        }
    }
}

impl HospitalSecret {
    /// Draws s; the bytes are p_b, for the developer.
    pub fn new(public_seed: &[u8; 32], rng: &mut impl CryptoRng) -> (Self, Vec<u8>) {
        let mut prg = Prg::from_rng(rng);
        let (mut transformed, mut key, mut product) = (Poly::zero(), Poly::zero(), Poly::zero());
        lift(&ternary(&mut prg), &mut transformed);
        forward(&mut transformed);
        public(public_seed, Public::Key, &mut key);
        pointwise(&key, &transformed, &mut product);
        inverse(&mut product);
        add_errors(&mut prg, &mut product);
        let mut message = Vec::with_capacity(KEY);
        pack_u64(&product[..], Q_BITS, &mut message);
        let workers = Workers::one();
        let this = Self {
            transformed,
            workers,
        };
        (this, message)
    }

    /// The same secret, with which polynomials are divided among these threads.
    #[must_use]
    pub fn with_workers(self, workers: &Workers) -> Self {
        Self {
            workers: workers.clone(),
            ..self
        }
    }

    /// Fills `padded` \[C, Hp, Wp\] with the masks of a layer's padded input, below 2^ring_bits.
    ///
    /// `public_seed` and `first_index` as for [`crate::hints`].
    ///
    /// # Errors
    /// [`LatticeError`] when the buffer's length or the ring does not fit.
    pub fn input_masks(
        &self,
        layout: &Layout,
        public_seed: &[u8; 32],
        first_index: u64,
        ring_bits: u32,
        rng: &mut impl CryptoRng,
        padded: &mut [u32],
    ) -> Result<(), LatticeError> {
        LatticeError::check_ring(ring_bits)?;
        LatticeError::check_len("padded input", padded.len(), layout.shape().padded_len())?;
        let mut prg = Prg::from_rng(rng);
        let phases = layout.phases();
        if !phases.covers_raster() {
            fill_uniform(&mut prg, ring_bits, padded);
        }
        let raster = layout.shape().padded_height() * layout.shape().padded_width();
        // The masks of a polynomial take a fixed part of the stream, so threads can take polynomials in any order.
        let (batches, channels) = layout.whole_channels();
        let all = layout.in_polys() / layout.residues();
        let mut states: Vec<_> = (0..self.workers.threads())
            .map(|_| {
                let plane = Zeroizing::new(vec![0u32; phases.pixels()]);
                (Scratch::new(), plane, prg.fork())
            })
            .collect();
        self.workers.each_with(
            &mut states,
            padded.chunks_mut(channels * raster).enumerate(),
            |(scratch, plane, own), (index, padded)| {
                for batch in index * batches..all.min((index + 1) * batches) {
                    let planes = layout.planes_of(batch);
                    for residue in 0..layout.residues() {
                        let place = batch * layout.residues() + residue;
                        own.seek(&prg, place * MASK_REFILLS);
                        let index = first_index.wrapping_add(place as u64);
                        self.masks(scratch, public_seed, index, ring_bits, own);
                        let column = plane[residue.min(phases.pixels())..]
                            .iter_mut()
                            .step_by(layout.residues());
                        column
                            .zip(scratch.words.iter())
                            .for_each(|(pixel, &mask)| *pixel = mask);
                    }
                    let first = planes.start;
                    for plane_index in planes {
                        let pixels = if layout.residues() > 1 {
                            &plane[..]
                        } else {
                            &scratch.words[(plane_index - first) * phases.pixels()..]
                                [..phases.pixels()]
                        };
                        let (channel, phase) = (
                            plane_index / phases.origins.len() - index * channels,
                            plane_index % phases.origins.len(),
                        );
                        phases.scatter(pixels, phase, &mut padded[channel * raster..][..raster]);
                    }
                }
            },
        );
        Ok(())
    }

    /// The masks of one input polynomial, in the scratch's words.
    fn masks(
        &self,
        scratch: &mut Scratch,
        public_seed: &[u8; 32],
        index: u64,
        ring_bits: u32,
        prg: &mut Prg,
    ) {
        let Scratch {
            poly,
            product,
            words,
        } = scratch;
        public(public_seed, Public::Input(index), poly);
        pointwise(poly, &self.transformed, product);
        inverse(product);
        add_errors(prg, product);
        round_masks(prg, product, ring_bits, words);
    }

    /// Fills `out` \[O, Ho, Wo\] with the hospital's shares of a layer's output, below 2^ring_bits.
    ///
    /// # Errors
    /// [`LatticeError`] when a buffer's length or the ring does not fit.
    pub fn output_shares(
        &self,
        layout: &Layout,
        hints: &[u8],
        ring_bits: u32,
        out: &mut [u32],
    ) -> Result<(), LatticeError> {
        LatticeError::check_ring(ring_bits)?;
        LatticeError::check_len("hints", hints.len(), hint_len(layout))?;
        LatticeError::check_len("output", out.len(), layout.shape().out_len())?;
        let pixels = layout.shape().out_height() * layout.shape().out_width();
        let mut states: Vec<_> = (0..self.workers.threads())
            .map(|_| Scratch::new())
            .collect();
        let outputs = hints
            .chunks_exact(layout.residues() * HINT)
            .zip(out.chunks_exact_mut(pixels));
        self.workers
            .try_each_with(&mut states, outputs, |scratch, (hints, out)| {
                for (residue, hint) in hints.chunks_exact(HINT).enumerate() {
                    self.share(scratch, hint, ring_bits)?;
                    layout.place_outputs(residue, &scratch.words, out);
                }
                Ok(())
            })
    }

    /// The share of one output polynomial, in the scratch's words.
    fn share(
        &self,
        scratch: &mut Scratch,
        hint: &[u8],
        ring_bits: u32,
    ) -> Result<(), LatticeError> {
        let Scratch {
            poly,
            product,
            words,
        } = scratch;
        unpack_u64(hint, HINT_BITS, &mut poly[..])?;
        widened(
            #[inline(always)]
            || {
                // centred: values from 2^35 on stand for negative ones
                for value in poly.iter_mut() {
                    *value += (*value >> (HINT_BITS - 1)) * (Q - (1 << HINT_BITS));
                }
            },
        );
        forward(poly);
        pointwise(poly, &self.transformed, product);
        inverse(product);
        let product = &**product;
        widened(|| round_hint_products(product, ring_bits, words));
        Ok(())
    }
}

/// round_{q2 -> t}(-x) for the residues x of integers below 2^46 in absolute value.
#[inline(always)]
fn round_hint_products(products: &[u64; N], ring_bits: u32, shares: &mut [u32]) {
    let drop = HINT_BITS - ring_bits;
    for (&x, share) in products.iter().zip(shares) {
        // Q / 2 - x is negative for the residues that stand for negative integers
        let centred = x as i64 - ((((Q / 2) as i64 - x as i64) >> 63) & Q as i64);
        // the bits below ring_bits are the same whether the shift brings in zeros or signs
        let rounded = ((1i64 << (drop - 1)) - centred) as u64 >> drop;
        *share = rounded as u32 & ((1 << ring_bits) - 1);
    }
}

/// r = floor((phase t + eta + (q - 1)/2) / q) modulo t for phase = -product, eta uniform in \[0, t).
fn round_masks(prg: &mut Prg, product: &Poly, ring_bits: u32, masks: &mut [u32]) {
    for (product, masks) in product.chunks(BUFFER / 4).zip(masks.chunks_mut(BUFFER / 4)) {
        let etas = prg.refill();
        widened(|| round_masks_with(etas, product, ring_bits, masks));
    }
}

#[inline(always)]
fn round_masks_with(etas: &[u8; BUFFER], product: &[u64], ring_bits: u32, masks: &mut [u32]) {
    let mask = (1u32 << ring_bits) - 1;
    for ((&product, out), eta) in product.iter().zip(masks).zip(etas.as_chunks().0) {
        let phase = Q - product; // in 1..=q: q counts as 0, and t q / q = t = 0 as well
        let eta = u32::from_le_bytes(*eta) & mask;
        *out = scale(phase, ring_bits, HALF + u64::from(eta)) as u32 & mask;
    }
}

fn fill_uniform(prg: &mut Prg, ring_bits: u32, out: &mut [u32]) {
    for pixels in out.chunks_mut(BUFFER / 4) {
        for (pixel, bytes) in pixels.iter_mut().zip(prg.refill().as_chunks().0) {
            *pixel = u32::from_le_bytes(*bytes) & ((1 << ring_bits) - 1);
        }
    }
}
