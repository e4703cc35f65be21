//! How the pixels of a convolution's inputs and outputs lie in polynomials.
//!
//! A *plane* is one phase of one input channel: a raster of S pixels on which the convolution has stride 1
//! ([`blindread_ring::Phases`]). Tap `off` of an output at raster position p reads the pixel p + off.
//!
//! - S <= N: one plane fits; P = floor(N / S) planes share a polynomial, plane c at offset (c mod P) S. The tap is
//!   the monomial X^-k with k = (c mod P) S + off, and the output is at coefficient p.
//! - S > N: J = ceil(S / N) polynomials per plane; pixel p is coefficient floor(p / J) of polynomial p mod J. For
//!   the outputs of residue j, the tap reads polynomial (j + off) mod J with k = floor((j + off) / J).
//!
//! Either way the coefficient read, k + that of the output, is below N for every output pixel: shifts never wrap
//! there. What stands at other coefficients is never read.

use blindread_ring::{ConvShape, Phases};

use crate::params::N;

/// The places of pixels in polynomials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    shape: ConvShape,
    phases: Phases,
    residues: usize,
    planes_per_poly: usize,
}

/// One summand of an output polynomial: a weight (by its index in the output's row of weights) times X^-shift times
/// input polynomial.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Term {
    pub weight: usize,
    pub poly: usize,
    pub shift: usize,
}

impl Layout {
    /// The layout of a convolution.
    pub fn new(shape: &ConvShape) -> Self {
        let phases = shape.phases();
        let residues = phases.pixels().div_ceil(N);
        let planes_per_poly = (N / phases.pixels()).max(1);
        Self {
            shape: *shape,
            phases,
            residues,
            planes_per_poly,
        }
    }

    /// The convolution.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Input polynomials: as many indices does the layer take from its first one on.
    pub fn in_polys(&self) -> usize {
        let planes = self.shape.spec().in_channels * self.phases.origins.len();
        planes.div_ceil(self.planes_per_poly) * self.residues
    }

    /// Output polynomials.
    pub fn out_polys(&self) -> usize {
        self.shape.spec().out_channels * self.residues
    }

    /// Polynomials per plane, J.
    pub(crate) fn residues(&self) -> usize {
        self.residues
    }

    pub(crate) fn phases(&self) -> &Phases {
        &self.phases
    }

    /// Planes of the `batch`-th polynomial (or J polynomials) of inputs.
    pub(crate) fn planes_of(&self, batch: usize) -> std::ops::Range<usize> {
        let planes = self.shape.spec().in_channels * self.phases.origins.len();
        let from = batch * self.planes_per_poly;
        from..planes.min(from + self.planes_per_poly)
    }

    /// The smallest number of polynomials (or J of them) whose planes are whole channels, and how many channels.
    pub(crate) fn whole_channels(&self) -> (usize, usize) {
        let phases = self.phases.origins.len();
        let batches = (1..phases)
            .find(|batches| (batches * self.planes_per_poly).is_multiple_of(phases))
            .unwrap_or(phases);
        (batches, batches * self.planes_per_poly / phases)
    }

    /// The summands of output polynomial `index`, input polynomial by input polynomial.
    pub(crate) fn terms(&self, index: usize) -> Vec<Term> {
        let (output, residue) = (index / self.residues, index % self.residues);
        let inputs = self.shape.group_inputs();
        let first = output / self.shape.group_outputs() * inputs;
        let mut terms = Vec::with_capacity(inputs * self.phases.taps.len());
        for channel in first..first + inputs {
            for tap in &self.phases.taps {
                let plane = channel * self.phases.origins.len() + tap.phase;
                let (poly, shift) = if self.residues == 1 {
                    let place = plane % self.planes_per_poly * self.phases.pixels();
                    (plane / self.planes_per_poly, place + tap.offset)
                } else {
                    let at = residue + tap.offset;
                    (
                        plane * self.residues + at % self.residues,
                        at / self.residues,
                    )
                };
                terms.push(Term {
                    weight: terms.len(),
                    poly,
                    shift,
                });
            }
        }
        terms.sort_by_key(|term| term.poly);
        terms
    }

    /// Copies the outputs of residue `residue` from their coefficients to their pixels \[Ho, Wo\].
    pub(crate) fn place_outputs(&self, residue: usize, coefficients: &[u32], out: &mut [u32]) {
        let width = self.shape.out_width();
        for (y, pixels) in out.chunks_exact_mut(width).enumerate() {
            let (first, skip) = self.row(y, residue);
            if self.residues == 1 {
                pixels.copy_from_slice(&coefficients[first..first + width]);
                continue;
            }
            let pixels = pixels.iter_mut().skip(skip).step_by(self.residues);
            pixels
                .zip(&coefficients[first..])
                .for_each(|(pixel, value)| *pixel = *value);
        }
    }

    /// One past the last coefficient that holds an output of residue `residue`.
    pub(crate) fn outputs_end(&self, residue: usize) -> usize {
        let last = (self.shape.out_height() - 1) * self.phases.width + self.shape.out_width() - 1;
        (last + self.residues - residue) / self.residues
    }

    /// The coefficient of a row's first output of residue `residue`, and its column.
    fn row(&self, y: usize, residue: usize) -> (usize, usize) {
        let start = y * self.phases.width;
        let skip = (self.residues + residue - start % self.residues) % self.residues;
        ((start + skip) / self.residues, skip)
    }
}
