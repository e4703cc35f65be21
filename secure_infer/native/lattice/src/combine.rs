//! Sums of small integers times shifted polynomials, exactly modulo q: the part of a hint that holds the weights.
//!
//! A residue is cut in a signed low and high half of 25 bits, so that products with 16-bit weights stay below 2^39
//! and a sum of [`ROWS`] = 512 of them below 2^48: exact in f64, whatever the order and whether fused or not.

use crate::layout::Term;
use crate::ntt::Poly;
use crate::params::{N, Q};
use crate::rounding::{times_q, to_float, to_integer};
use crate::simd;

/// Summands between two reductions modulo q.
const ROWS: usize = 512;
/// Coefficients handled together.
pub(crate) const TILE: usize = 32;
/// Coefficients whose sums are in registers together.
pub(crate) const LANES: usize = 8;
/// Output polynomials whose sums are in registers together.
pub(crate) const BLOCK: usize = 6;
const HALF_BITS: u32 = 25;

/// A polynomial's coefficients as low + 2^25 high, both halves in [-2^24, 2^24).
pub(crate) struct Halves {
    low: Box<[i32; N]>,
    high: Box<[i32; N]>,
}

impl Halves {
    pub(crate) fn new(poly: &Poly) -> Self {
        let (mut low, mut high) = (Box::new([0; N]), Box::new([0; N]));
        for ((low, high), &value) in low.iter_mut().zip(high.iter_mut()).zip(poly.iter()) {
            let centred = value as i64 - if value > Q / 2 { Q as i64 } else { 0 };
            let rounded = (centred + (1 << (HALF_BITS - 1))) >> HALF_BITS;
            *high = rounded as i32;
            *low = (centred - (rounded << HALF_BITS)) as i32;
        }
        Self { low, high }
    }
}

/// One tile of the right side: a row of coefficients for every summand, low and high halves.
struct Tile {
    low: Vec<[f64; TILE]>,
    high: Vec<[f64; TILE]>,
}

impl Tile {
    /// Coefficients `from..from + TILE` of X^-shift times polynomial, for every term.
    fn fill(&mut self, inputs: &[Halves], terms: &[Term], from: usize) {
        self.low.clear();
        self.high.clear();
        for term in terms {
            let halves = &inputs[term.poly];
            self.low.push(shifted(&halves.low, term.shift + from));
            self.high.push(shifted(&halves.high, term.shift + from));
        }
    }
}

/// Coefficients from `at` on, where those beyond N come back with the other sign.
#[inline(always)]
fn shifted(values: &[i32; N], at: usize) -> [f64; TILE] {
    let mut out = [0.0; TILE];
    if at + TILE <= N {
        out.iter_mut()
            .zip(&values[at..])
            .for_each(|(out, &value)| *out = f64::from(value));
    } else {
        for (i, out) in out.iter_mut().enumerate() {
            let at = at + i;
            *out = f64::from(if at < N { values[at] } else { -values[at - N] });
        }
    }
    out
}

/// sums[o] = sum_k weights[o][k] * X^-shift_k * inputs[poly_k] modulo q; a row of `weights` has `terms.len()` values.
pub(crate) fn combine(inputs: &[Halves], terms: &[Term], weights: &[i16], sums: &mut [Poly]) {
    let mut tile = Tile {
        low: Vec::with_capacity(ROWS),
        high: Vec::with_capacity(ROWS),
    };
    let mut panel = Vec::with_capacity(ROWS * BLOCK);
    sums.iter_mut().for_each(|sum| sum.fill(0));
    for from in (0..N).step_by(TILE) {
        for (index, terms_now) in terms.chunks(ROWS).enumerate() {
            tile.fill(inputs, terms_now, from);
            let columns = index * ROWS..index * ROWS + terms_now.len();
            let rows = weights
                .chunks_exact(terms.len() * BLOCK)
                .chain(std::iter::once(
                    weights.chunks_exact(terms.len() * BLOCK).remainder(),
                ));
            for (sums, rows) in sums.chunks_mut(BLOCK).zip(rows) {
                panel.clear();
                for k in columns.clone() {
                    panel.extend((0..sums.len()).map(|o| f64::from(rows[o * terms.len() + k])));
                }
                for x in (0..TILE).step_by(LANES) {
                    block(&tile, &panel, sums, from, x);
                }
            }
        }
    }
}

fn block(tile: &Tile, panel: &[f64], sums: &mut [Poly], from: usize, x: usize) {
    match sums.len() {
        1 => block_of::<1>(tile, panel, sums, from, x),
        2 => block_of::<2>(tile, panel, sums, from, x),
        3 => block_of::<3>(tile, panel, sums, from, x),
        4 => block_of::<4>(tile, panel, sums, from, x),
        5 => block_of::<5>(tile, panel, sums, from, x),
        _ => block_of::<6>(tile, panel, sums, from, x),
    }
}

fn block_of<const O: usize>(tile: &Tile, panel: &[f64], sums: &mut [Poly], from: usize, x: usize) {
    let low = simd::products::<O>(simd::set(), &tile.low, panel, x);
    let high = simd::products::<O>(simd::set(), &tile.high, panel, x);
    for ((sum, low), high) in sums.iter_mut().zip(&low).zip(&high) {
        let sum = &mut sum[from + x..from + x + LANES];
        for ((sum, &low), &high) in sum.iter_mut().zip(low).zip(high) {
            *sum = add_halves(*sum, low, high);
        }
    }
}

/// sums[o][i] = sum_k panel[k][o] * rows[k][x + i], exact, for the first panel.len() / O rows and x <= TILE - LANES.
pub(crate) fn products_portable<const O: usize>(
    rows: &[[f64; TILE]],
    panel: &[f64],
    x: usize,
) -> [[f64; LANES]; O] {
    let mut sums = [[0.0; LANES]; O];
    for (row, weights) in rows.iter().zip(panel.chunks_exact(O)) {
        let row = &row[x..x + LANES];
        for (sums, &weight) in sums.iter_mut().zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += weight * value;
            }
        }
    }
    sums
}

/// sum + low + 2^25 high modulo q, for |low|, |high| <= 2^48.
#[inline(always)]
fn add_halves(sum: u64, low: f64, high: f64) -> u64 {
    let lift = |value: f64| to_integer(value + if value < 0.0 { Q as f64 } else { 0.0 });
    let high = lift(high);
    let quotient = to_integer(to_float(high) * ((1 << HALF_BITS) as f64 / Q as f64));
    let positive = |value: i64| value + ((value >> 63) & Q as i64);
    let product = positive((high << HALF_BITS).wrapping_sub(times_q(quotient)) as i64);
    positive(positive((sum + lift(low)) as i64 + product - 2 * Q as i64)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Prg;
    use rand_core::Rng;

    #[test]
    fn products_on_every_set_equal_the_portable_ones() {
        fn check<const O: usize>(rows: &[[f64; TILE]], panel: &[f64]) {
            for x in (0..TILE).step_by(LANES) {
                let expected = products_portable::<O>(rows, panel, x);
                for set in simd::sets() {
                    assert_eq!(
                        simd::products::<O>(set, rows, panel, x),
                        expected,
                        "{set:?}"
                    );
                }
            }
        }
        let value =
            |i: usize| (i.wrapping_mul(2_654_435_761) % (1 << 25)) as f64 - (1 << 24) as f64;
        let rows: Vec<[f64; TILE]> = (0..ROWS)
            .map(|k| std::array::from_fn(|x| value(k * TILE + x + 1)))
            .collect();
        let panel: Vec<f64> = (0..ROWS * BLOCK)
            .map(|i| (value(i + 77) / 512.0).floor())
            .collect();
        check::<1>(&rows, &panel[..ROWS]);
        check::<2>(&rows, &panel[..ROWS * 2]);
        check::<3>(&rows, &panel[..ROWS]);
        check::<4>(&rows, &panel[..ROWS]);
        check::<5>(&rows, &panel[..ROWS]);
        check::<6>(&rows, &panel);
        check::<6>(&rows[..0], &panel);
    }

    #[test]
    fn combination_of_many_terms_equals_wide_integers() {
        let mut prg = Prg::from_seed(&[9; 32]);
        let polys: Vec<Poly> = (0..3)
            .map(|_| {
                let mut poly = Poly::zero();
                poly.iter_mut()
                    .for_each(|value| *value = prg.next_u64() % Q);
                poly
            })
            .collect();
        let words: Vec<u64> = (0..700 * 8).map(|_| prg.next_u64()).collect();
        let terms: Vec<Term> = words[..700]
            .iter()
            .map(|w| Term {
                poly: (w % 3) as usize,
                shift: (w >> 8) as usize % N,
            })
            .collect();
        let weights: Vec<i16> = words[700..]
            .iter()
            .map(|&w| (w as i16).max(-i16::MAX))
            .collect();
        let mut sums: Vec<Poly> = (0..7).map(|_| Poly::zero()).collect();
        let halves: Vec<Halves> = polys.iter().map(Halves::new).collect();
        combine(&halves, &terms, &weights, &mut sums);
        for (sum, weights) in sums.iter().zip(weights.chunks_exact(700)) {
            for x in (0..N).step_by(67).chain([N - 1]) {
                let mut expected = 0i128;
                for (term, &weight) in terms.iter().zip(weights) {
                    let (at, sign) = (
                        (x + term.shift) % N,
                        if x + term.shift < N { 1 } else { -1 },
                    );
                    expected += i128::from(weight) * sign * i128::from(polys[term.poly][at]);
                }
                assert_eq!(i128::from(sum[x]), expected.rem_euclid(i128::from(Q)));
            }
        }
    }
}
