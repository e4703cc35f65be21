//! Polynomials drawn at random: public uniform ones, ternary secrets, small errors.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::ntt::Poly;
use crate::params::{ERROR_PAIRS, N, Q, Q_BITS};
use crate::prg::{BUFFER, Lines, Prg};
use crate::rounding::add_small;
use crate::simd::widened;

/// Which public polynomial: that of an input, or the one that p_b is made of.
#[derive(Clone, Copy)]
pub(crate) enum Public {
    /// a_i, by its index in the bundle.
    Input(u64),
    /// p_a.
    Key,
}

/// Expands a public uniform polynomial, in the transformed domain.
///
/// The stream AES-128-CTR under SHA-256(tag, seed, kind, index) is read in chunks of 50 bits; those below q are the
/// values, in order.
pub(crate) fn public(seed: &[u8; 32], which: Public, out: &mut Poly) {
    let (kind, index) = match which {
        Public::Input(index) => (b"a", index),
        Public::Key => (b"p", 0),
    };
    let mut hash = Sha256::new();
    hash.update(b"blindread lattice 1");
    hash.update(seed);
    hash.update(kind);
    hash.update(index.to_le_bytes());
    let mut prg = Prg::from_seed(&hash.finalize().into());
    let mut bytes = Lines([0; N * Q_BITS as usize / 8]);
    prg.fill(&mut bytes.0);
    let mut kept = unpack50(&bytes.0, &mut out[..]);
    while kept < N {
        let (mut more, mut words) = ([0; 400], [0; 64]);
        prg.fill(&mut more);
        let count = unpack50(&more, &mut words).min(N - kept);
        out[kept..kept + count].copy_from_slice(&words[..count]);
        kept += count;
    }
}

/// Reads chunks of 50 bits and moves those below q to the front; says how many.
fn unpack50(bytes: &[u8], out: &mut [u64]) -> usize {
    if blindread_ring::unpack_u64(bytes, Q_BITS, out).is_err() {
        return 0;
    }
    // q is 2^50 less a little: with that added, what is not below q has bit 50
    let over = widened(
        #[inline(always)]
        || {
            (out.iter()).fold(0, |over, value| {
                over | (value + ((1 << Q_BITS) - Q)) >> Q_BITS
            })
        },
    );
    if over == 0 {
        return out.len();
    }
    let mut kept = 0;
    for i in 0..out.len() {
        out[kept] = out[i];
        kept += usize::from(out[i] < Q);
    }
    kept
}

/// Uniform over {-1, 0, 1}, as signed bytes.
///
/// Two random bits make a value, 11 is drawn again: how often depends on rejected bits only. Every pair is written and
/// the next one over it if it was rejected, so no branch depends on a value.
pub(crate) fn ternary(prg: &mut Prg) -> Zeroizing<Vec<i8>> {
    // the last byte may bring three values too many
    let mut out = Zeroizing::new(vec![0; N + 3]);
    let mut kept = 0;
    while kept < N {
        for byte in prg.refill() {
            for pair in [byte & 3, byte >> 2 & 3, byte >> 4 & 3, byte >> 6] {
                out[kept] = pair as i8 - 1;
                kept += usize::from(pair < 3);
            }
            if kept >= N {
                break;
            }
        }
    }
    out.truncate(N);
    out
}

/// Signed values modulo q.
pub(crate) fn lift(values: &[i8], out: &mut Poly) {
    for (out, &value) in out.iter_mut().zip(values) {
        *out = (i64::from(value) + (i64::from(value >> 7) & Q as i64)) as u64;
    }
}

/// Buffers of the generator that [`add_errors`] takes.
pub(crate) const ERROR_REFILLS: usize = N * 8 / BUFFER;

/// Adds a centred binomial error of standard deviation 3.24 to every coefficient.
pub(crate) fn add_errors(prg: &mut Prg, poly: &mut Poly) {
    for values in poly.chunks_mut(BUFFER / 8) {
        let bytes = prg.refill();
        widened(|| add_errors_from(bytes, values));
    }
}

#[inline(always)]
fn add_errors_from(bytes: &[u8; BUFFER], values: &mut [u64]) {
    const MINUS: u64 = ((1 << ERROR_PAIRS) - 1) << ERROR_PAIRS;
    const BOTH: u64 = (1 << (2 * ERROR_PAIRS)) - 1;
    for (value, bytes) in values.iter_mut().zip(bytes.as_chunks().0) {
        // ones among the first pairs' bits, less those among the second ones': those inverted, one count does for both
        let ones = ((u64::from_le_bytes(*bytes) ^ MINUS) & BOTH).count_ones();
        *value = add_small(*value, i64::from(ones) - i64::from(ERROR_PAIRS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prg() -> Prg {
        Prg::from_seed(&[3; 32])
    }

    #[test]
    fn public_polynomials_differ_by_index_kind_and_seed_and_repeat() {
        let make = |seed: u8, which| {
            let mut poly = Poly::zero();
            public(&[seed; 32], which, &mut poly);
            assert!(poly.iter().all(|&value| value < Q));
            poly.to_vec()
        };
        let first = make(1, Public::Input(0));
        assert_eq!(first, make(1, Public::Input(0)));
        for other in [
            make(1, Public::Input(1)),
            make(1, Public::Key),
            make(2, Public::Input(0)),
        ] {
            assert!(first.iter().zip(&other).filter(|(a, b)| a == b).count() < 3);
        }
    }

    #[test]
    fn chunks_above_the_modulus_are_skipped() {
        let mut bytes = Vec::new();
        blindread_ring::pack_u64(&[5, Q, Q - 1, (1 << 50) - 1, 6, 7, 8, 9], 50, &mut bytes);
        let mut words = [0; 8];
        assert_eq!(unpack50(&bytes, &mut words), 6);
        assert_eq!(words[..6], [5, Q - 1, 6, 7, 8, 9]);
    }

    #[test]
    fn ternary_values_are_uniform() {
        let mut counts = [0i32; 3];
        let mut prg = prg();
        for _ in 0..50 {
            ternary(&mut prg)
                .iter()
                .for_each(|&v| counts[(v + 1) as usize] += 1);
        }
        // standard deviation of a count is 151
        assert!(
            counts
                .iter()
                .all(|count| (count - 50 * N as i32 / 3).abs() < 750)
        );
    }

    #[test]
    fn errors_have_mean_zero_and_the_variance_of_21_pairs() {
        let (mut prg, mut poly) = (prg(), Poly::zero());
        let (mut sum, mut squares) = (0i64, 0i64);
        for _ in 0..50 {
            poly.fill(0);
            add_errors(&mut prg, &mut poly);
            for &value in poly.iter() {
                let centred = if value > Q / 2 {
                    value as i64 - Q as i64
                } else {
                    value as i64
                };
                sum += centred;
                squares += centred * centred;
            }
        }
        let count = (50 * N) as f64;
        assert!((sum as f64 / count).abs() < 0.06);
        assert!((squares as f64 / count - 10.5).abs() < 0.3);
    }
}
