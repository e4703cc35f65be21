//! Every cryptographic parameter of blindread, with where it comes from.
//!
//! # Ring-LWE
//!
//! R_q = Z_q\[X\]/(X^N + 1) with [`N`] = 2048 and [`Q`], the largest prime below 2^50 with q = 1 mod 2N, so that
//! there is a negacyclic NTT. Secrets are uniform ternary, errors centred binomial with [`ERROR_PAIRS`] = 21 pairs
//! of bits: standard deviation sqrt(21 / 2) = 3.24, at least the usual 3.2, bounded by 21 and sampled without
//! tables or branches; the Renyi divergence to the rounded Gaussian does not matter for a decision problem at this
//! width (the best known attacks see the variance only).
//!
//! Security of the samples that are given out (hints; p_b; the masks): dual and primal attack estimates in the
//! core-SVP style give 2^136 to 2^141 classical operations (block size about 376) for N = 2048, log q = 50,
//! ternary secret, sigma 3.2; at log q = 53 only 2^127 to 2^132. Hence 50 bits. For comparison: the tables of the
//! homomorphic encryption standard allow log q = 54 for N = 2048 at 128 bits.
//! The masks are rounded besides (q/t >= 2^19), which only makes them harder.
//!
//! # Hints
//!
//! A hint is rounded from q to [`HINT_BITS`] = 36 bits, 9216 bytes. Its rounding error (uniform in +-1/2, unit
//! q/2^36 = 2^14) times a ternary s has a standard deviation of 2^14 * sqrt(2N/3) * 0.29 = 2^17.4, far below a
//! ring unit (q / 2^27 = 2^23) and even below one at ell = 31 (2^19). H knows this error.
//! The centred hint times s is below N * 2^35 = 2^46 < q/2, so that one NTT modulo q gives it over the integers.
//!
//! # Drowning noise
//!
//! h + d contains e*v_o - e_o*s, standard deviation sqrt(2 * 2N/3) * 3.24 = 169, the only trace of v_o that H
//! sees. D adds g of standard deviation [`DROWNING_STD`] = q / 2^18 = 2^32, that is 2^9 units of the ring at ell =
//! 27 and in proportion to 2^ell at others. Kullback-Leibler: (169 / 2^32)^2 / 2 = 2^-50.2 nats per output coefficient,
//! and with 2^24 outputs per image 2^-26 nats: a bound on the information per image, not 2^-40 statistical distance.
//! What it costs: a truncation by f = 14 bits makes 2^9 units 1/32 of a unit.
//!
//! # Oblivious transfer
//!
//! [`KAPPA`] = 128 bits of computational and [`LAMBDA`] = 40 bits of statistical security; SoftSpokenOT with
//! [`SOFTSPOKEN_F`] = 4: trees with 2^4 = 16 leaves, kappa / f = 32 of them, so the traffic is 1/4 of IKNP's for
//! about twice its hashing; on a LAN of 1 to 10 Gbit/s computation and traffic are then balanced.
//! The LPN parameters of the engine `ferret` are in `ot/src/ferret/params.rs`, because `ot` does not know this crate.

/// Degree of the ring.
pub const N: usize = 2048;
/// log2 of [`N`].
pub const LOG_N: u32 = 11;
/// The modulus, the largest prime below 2^50 that is 1 modulo 2N.
pub const Q: u64 = (1 << 50) - (1 << 14) + 1;
/// Bits of a residue modulo [`Q`].
pub const Q_BITS: u32 = 50;
/// A primitive 2N-th root of unity: 11^((q - 1) / 2N), 11 being the smallest non-square.
pub const ROOT: u64 = 765_727_830_662_934;
/// Pairs of bits in a centred binomial error: standard deviation sqrt(21 / 2) = 3.24.
pub const ERROR_PAIRS: u32 = 21;
/// Bits of a coefficient of a hint: q2 = 2^36.
pub const HINT_BITS: u32 = 36;
/// The version of what hints and secrets mean. Whoever changes a bit of them raises it, so that kept bundles are made
/// again; `protocol/tests/hints.rs` notices.
pub const HINT_FORMAT: u32 = 1;
/// Standard deviation of D's drowning noise, modulo q.
pub const DROWNING_STD: f64 = (Q >> 18) as f64;
/// The same in units of the ring at ell = 27.
pub const DROWNING_UNITS_AT_27: f64 = 512.0;
/// Smallest ring, in bits.
pub const MIN_RING_BITS: u32 = 8;
/// Largest ring, in bits.
pub const MAX_RING_BITS: u32 = 31;

/// Computational security of the oblivious transfers, bits.
pub const KAPPA: usize = 128;
/// Statistical security, bits.
pub const LAMBDA: usize = 40;
/// SoftSpokenOT's trade of traffic for hashing: trees with 2^f leaves.
pub const SOFTSPOKEN_F: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ntt::{multiply_mod, power_mod};

    #[test]
    fn modulus_is_a_prime_with_the_root_claimed() {
        assert_eq!(Q % (2 * N as u64), 1);
        // Lucas: 11 has order q - 1 = 2^14 * (2^36 - 1), 2^36 - 1 = 3^3 5 7 13 19 37 73 109
        assert_eq!(Q - 1, (1 << 14) * ((1 << 36) - 1));
        let factors = [2, 3, 5, 7, 13, 19, 37, 73, 109];
        assert_eq!(power_mod(11, Q - 1), 1);
        assert!(factors.iter().all(|f| (Q - 1).is_multiple_of(*f)));
        let rest = factors.iter().fold(Q - 1, |mut rest, f| {
            while rest % f == 0 {
                rest /= f;
            }
            rest
        });
        assert_eq!(rest, 1);
        let generator = (2..).find(|&g| factors.iter().all(|f| power_mod(g, (Q - 1) / f) != 1));
        assert!(generator.is_some_and(|g| g < 100));
        assert_eq!(ROOT, power_mod(11, (Q - 1) / (2 * N as u64)));
        assert_eq!(power_mod(ROOT, N as u64), Q - 1);
        let fermat = |modulus: u64| {
            let multiply =
                |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(modulus)) as u64;
            (0..50).rev().fold(1, |power, bit| {
                let square = multiply(power, power);
                if (modulus - 1) >> bit & 1 == 1 {
                    multiply(square, 3)
                } else {
                    square
                }
            })
        };
        assert_eq!(fermat(Q), 1);
        for candidate in (Q + 2 * N as u64..1 << 50).step_by(2 * N) {
            assert_ne!(fermat(candidate), 1, "{candidate} may be a larger prime");
        }
        assert_eq!(multiply_mod(Q - 1, Q - 1), 1);
    }
}
