//! The hints of a layer: what the developer computes once per model.
//!
//! Function: a'_o = round_{q -> q2}( sum_i W\[o,i\] a_i + p_a v_o + e_o ) for every output polynomial o, with a fresh
//! ternary v_o, the developer's secret, and a fresh error e_o. Security: an RLWE sample per output polynomial, each with
//! its own secret; public afterwards. Size: 9216 bytes per output polynomial, and 512 bytes of secret.

use std::sync::atomic::{AtomicUsize, Ordering};

use blindread_ring::pack_u64;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::error::LatticeError;
use crate::layout::Layout;
use crate::ntt::{Poly, forward, inverse, multiply_add};
use crate::params::{HINT_BITS, N, Q};
use crate::prg::Prg;
use crate::rounding::{HALF, add_small, scale};
use crate::sample::{Public, add_errors, lift, public, ternary};
use crate::simd::widened;

/// Bytes of one hint.
pub(crate) const HINT: usize = N * HINT_BITS as usize / 8;
/// Bytes of one v_o, two bits a coefficient.
pub(crate) const SECRET: usize = N / 4;

/// Bytes of a layer's hints.
pub fn hint_len(layout: &Layout) -> usize {
    layout.out_polys() * HINT
}

/// Bytes of a layer's secrets.
pub fn secret_len(layout: &Layout) -> usize {
    layout.out_polys() * SECRET
}

/// Computes the hints (public) and the secrets (the developer's) of a layer.
///
/// `first_index` is the layer's first input polynomial in the bundle; [`Layout::in_polys`] indices are taken.
/// The result depends on `rng` but not on the number of threads.
///
/// # Errors
/// [`LatticeError::Length`] when the number of weights does not fit the layout.
pub fn hints(
    layout: &Layout,
    weights: &[i16],
    public_seed: &[u8; 32],
    first_index: u64,
    rng: &mut impl CryptoRng,
    threads: usize,
) -> Result<(Vec<u8>, Zeroizing<Vec<u8>>), LatticeError> {
    LatticeError::check_len("weights", weights.len(), layout.shape().weights_len())?;
    let mut seeds = Zeroizing::new(vec![[0; 32]; layout.out_polys()]);
    seeds.iter_mut().for_each(|seed| rng.fill_bytes(seed));
    let mut key = Poly::zero();
    public(public_seed, Public::Key, &mut key);
    let inputs = in_threads(threads, layout.in_polys(), |index| {
        let mut poly = Poly::zero();
        public(
            public_seed,
            Public::Input(first_index.wrapping_add(index as u64)),
            &mut poly,
        );
        poly
    });
    let job = Job {
        layout,
        weights,
        key: &key,
        inputs: &inputs,
        seeds: &seeds,
    };
    let mut hints = Vec::with_capacity(hint_len(layout));
    let mut secrets = Zeroizing::new(Vec::with_capacity(secret_len(layout)));
    for (hint, secret) in in_threads(threads, layout.out_polys(), |index| job.run(index)) {
        hints.extend_from_slice(&hint);
        secrets.extend_from_slice(&secret);
    }
    Ok((hints, secrets))
}

/// Runs `work(0..count)` on some threads; the results in order.
fn in_threads<T: Send>(threads: usize, count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return done;
            }
            done.push((index, work(index)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.clamp(1, count.max(1)))
            .map(|_| scope.spawn(worker))
            .collect();
        let mut done = worker();
        for other in others {
            done.extend(
                other
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            );
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

/// What the output polynomials of a layer are computed from.
struct Job<'a> {
    layout: &'a Layout,
    weights: &'a [i16],
    key: &'a Poly,
    /// Transformed, like `key`.
    inputs: &'a [Poly],
    seeds: &'a [[u8; 32]],
}

impl Job<'_> {
    /// The hint and the secret of output polynomial `index`.
    fn run(&self, index: usize) -> (Vec<u8>, Zeroizing<Vec<u8>>) {
        let mut prg = Prg::from_seed(&self.seeds[index]);
        let secret = ternary(&mut prg);
        let (mut factor, mut sum) = (Poly::zero(), Poly::zero());
        lift(&secret, &mut factor);
        forward(&mut factor);
        multiply_add(&factor, self.key, &mut sum);
        self.add_products(index, &mut factor, &mut sum);
        inverse(&mut sum);
        add_errors(&mut prg, &mut sum);
        sum.iter_mut()
            .for_each(|value| *value = scale(*value, HINT_BITS, HALF) & ((1 << HINT_BITS) - 1));
        let mut hint = Vec::with_capacity(HINT);
        pack_u64(&sum[..], HINT_BITS, &mut hint);
        (hint, pack_ternary(&secret))
    }

    /// sum += sum_i W\[index, i\] a_i, transformed.
    ///
    /// The taps and channels that meet in one input polynomial make up a sparse polynomial: one transform each, at
    /// whatever number of weights.
    fn add_products(&self, index: usize, factor: &mut Poly, sum: &mut Poly) {
        let terms = self.layout.terms(index);
        let weights = &self.weights[index / self.layout.residues() * terms.len()..][..terms.len()];
        for terms in terms.chunk_by(|a, b| a.poly == b.poly) {
            factor.fill(0);
            for term in terms {
                // X^-k = -X^(N - k)
                let weight = i64::from(weights[term.weight]);
                let (at, weight) = if term.shift == 0 {
                    (0, weight)
                } else {
                    (N - term.shift, -weight)
                };
                factor[at] = add_small(factor[at], weight);
            }
            forward(factor);
            multiply_add(factor, &self.inputs[terms[0].poly], sum);
        }
    }
}

/// Two bits a coefficient: 0, 1, and 2 for -1.
fn pack_ternary(values: &[i8]) -> Zeroizing<Vec<u8>> {
    let code = |value: &i8| (*value as u8 & 2) | (!(*value as u8 >> 1) & *value as u8 & 1);
    let fours = values.chunks_exact(4);
    Zeroizing::new(
        fours
            .map(|four| {
                four.iter()
                    .rev()
                    .fold(0, |byte, value| byte << 2 | code(value))
            })
            .collect(),
    )
}

/// The inverse of `pack_ternary`, modulo q.
///
/// # Errors
/// [`LatticeError::Range`] for the code 3, [`LatticeError::Length`] for another number of bytes.
pub(crate) fn unpack_ternary(bytes: &[u8], out: &mut Poly) -> Result<(), LatticeError> {
    LatticeError::check_len("secret", bytes.len(), SECRET)?;
    let invalid = bytes
        .iter()
        .fold(0, |invalid, byte| invalid | byte & (byte >> 1) & 0x55);
    widened(|| unpack_fours(bytes, out));
    if invalid == 0 {
        Ok(())
    } else {
        Err(LatticeError::Range("secret"))
    }
}

#[inline(always)]
fn unpack_fours(bytes: &[u8], out: &mut Poly) {
    for (four, byte) in out.as_chunks_mut::<4>().0.iter_mut().zip(bytes) {
        *four = [0, 2, 4, 6].map(|shift| {
            let code = u64::from(*byte) >> shift;
            code & 1 | (code >> 1 & 1).wrapping_neg() & (Q - 1)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::ERROR_PAIRS;
    use blindread_ring::{ConvShape, ConvSpec, unpack_u64};

    /// The sum of shifted inputs, coefficient by coefficient, where shifts wrap with the other sign.
    fn weighted_sum(layout: &Layout, weights: &[i16], index: usize, first_index: u64) -> Vec<i128> {
        let terms = layout.terms(index);
        let row = &weights[index / layout.residues() * terms.len()..];
        let mut sum = vec![0i128; N];
        for term in terms {
            let mut input = Poly::zero();
            public(
                &[4; 32],
                Public::Input(first_index + term.poly as u64),
                &mut input,
            );
            inverse(&mut input);
            for (i, sum) in sum.iter_mut().enumerate() {
                let at = i + term.shift;
                let value = i128::from(input[at % N]) * i128::from(row[term.weight]);
                *sum += if at < N { value } else { -value };
            }
        }
        sum
    }

    #[test]
    fn hint_is_the_full_negacyclic_sum_within_error_and_rounding() {
        let base = ConvSpec {
            in_channels: 4,
            in_height: 22,
            in_width: 19,
            out_channels: 4,
            kernel: [3, 2],
            stride: [1, 1],
            dilation: [1, 1],
            padding: [1, 0, 2, 1],
            groups: 2,
        };
        let large = ConvSpec {
            in_height: 70,
            in_width: 68,
            stride: [1, 2],
            ..base
        };
        for spec in [base, large] {
            let layout = Layout::new(&ConvShape::new(spec).unwrap());
            let weights: Vec<i16> = (0..layout.shape().weights_len())
                .map(|i| (i * 7919 % 65535) as i16)
                .map(|w| w.max(-i16::MAX))
                .collect();
            let (all, secrets) = hints(
                &layout,
                &weights,
                &[4; 32],
                9,
                &mut Prg::from_seed(&[8; 32]),
                2,
            )
            .unwrap();
            let mut key = Poly::zero();
            public(&[4; 32], Public::Key, &mut key);
            for index in [0, layout.out_polys() / 2, layout.out_polys() - 1] {
                let (mut hint, mut v, mut mask) = (Poly::zero(), Poly::zero(), Poly::zero());
                unpack_u64(&all[index * HINT..][..HINT], HINT_BITS, &mut hint[..]).unwrap();
                unpack_ternary(&secrets[index * SECRET..][..SECRET], &mut v).unwrap();
                forward(&mut v);
                multiply_add(&v, &key, &mut mask);
                inverse(&mut mask);
                let sums = weighted_sum(&layout, &weights, index, 9);
                let mut errors = 0i128;
                for ((sum, &mask), &hint) in sums.iter().zip(mask.iter()).zip(hint.iter()) {
                    let q = i128::from(Q);
                    let exact = (sum + i128::from(mask)).rem_euclid(q);
                    let rounded = (i128::from(hint) * q) >> HINT_BITS;
                    let error = (rounded - exact + q / 2).rem_euclid(q) - q / 2;
                    let bound = (q >> (HINT_BITS + 1)) + i128::from(ERROR_PAIRS) + 2;
                    assert!(error.abs() <= bound, "{spec:?}, hint {index}: {error}");
                    errors += error.abs();
                }
                assert!(errors > 0);
            }
        }
    }

    #[test]
    fn ternary_values_packed_come_back_modulo_q() {
        let values: Vec<i8> = (0..N).map(|i| (i * i % 3) as i8 - 1).collect();
        let (mut poly, mut expected) = (Poly::zero(), Poly::zero());
        unpack_ternary(&pack_ternary(&values), &mut poly).unwrap();
        lift(&values, &mut expected);
        assert!(poly[..] == expected[..] && poly.contains(&(Q - 1)));
    }

    #[test]
    fn secret_with_an_unused_code_is_refused() {
        let mut bytes = vec![0; SECRET];
        bytes[99] = 0b0011_0000;
        let refused = unpack_ternary(&bytes, &mut Poly::zero());
        assert_eq!(refused, Err(LatticeError::Range("secret")));
        assert_eq!(refused.unwrap_err().code(), "lattice_range");
    }
}
