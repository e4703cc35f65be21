//! Gaussians in bulk: D's drowning noise.
//!
//! Reference: G. Marsaglia, W. W. Tsang, "The ziggurat method for generating random variables" (2000), in the variant
//! ZIGNOR of J. A. Doornik, "An improved ziggurat method to generate normal random samples" (2005).
//!
//! The half plane below the density is covered by 256 layers of equal area: layer i > 0 is the rectangle of width
//! x_i between the densities at x_i and x_(i+1), layer 0 the one of width R with the tail beyond R. One word gives a layer and
//! a place u in [-1, 1); u x_i is taken where it lies below x_(i+1), inside of the density for certain (98.8 % of
//! words). All words of a polynomial are tried so at once, and the others go on one by one, with more of the stream.
//!
//! NOTE: addresses (of the layer) and the time of the few that go on depend on the noise, as in every ziggurat; it is
//! fresh for each coefficient of each image.

use std::sync::OnceLock;

use rand_core::Rng;
use zeroize::Zeroize;

use crate::params::{DROWNING_STD, N};
use crate::prg::Prg;
use crate::simd::widened;

const LAYERS: usize = 256;
/// Where the tail begins, for 256 layers.
const R: f64 = 3.654_152_885_361_009;
/// Width of a rectangle with the area of a layer and the height of the density at R.
const X_0: f64 = 3.910_757_959_537_09;

/// x_i and the density there.
struct Tables {
    x: [f64; LAYERS + 1],
    density: [f64; LAYERS + 1],
}

/// Up to its factor.
fn density(x: f64) -> f64 {
    (-0.5 * x * x).exp()
}

fn tables() -> &'static Tables {
    static TABLES: OnceLock<Tables> = OnceLock::new();
    TABLES.get_or_init(|| {
        let area = X_0 * density(R);
        let mut x = [0.0; LAYERS + 1];
        (x[0], x[1]) = (X_0, R);
        for i in 2..LAYERS {
            x[i] = (-2.0 * (area / x[i - 1] + density(x[i - 1])).ln()).sqrt();
        }
        Tables {
            x,
            density: x.map(density),
        }
    })
}

/// The layer of a word, and its place in [-1, 1).
#[inline(always)]
fn layer_and_place(word: u64) -> (usize, f64) {
    let place = f64::from_bits(word >> 12 | 2f64.to_bits()) - 3.0;
    (word as usize % LAYERS, place)
}

/// Uniform in [0, 1).
fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 * (f64::EPSILON / 2.0)
}

/// Uniform in (0, 1).
fn open_unit(rng: &mut impl Rng) -> f64 {
    f64::from_bits(rng.next_u64() >> 12 | 1f64.to_bits()) - (1.0 - f64::EPSILON / 2.0)
}

/// Beyond R.
fn tail(rng: &mut impl Rng) -> f64 {
    loop {
        let (x, y) = (open_unit(rng).ln() / R, open_unit(rng).ln());
        if -2.0 * y >= x * x {
            return R - x;
        }
    }
}

/// The number that a word leads to, with as much more of the stream as it takes.
fn normal(tables: &Tables, mut word: u64, rng: &mut impl Rng) -> f64 {
    loop {
        let (layer, place) = layer_and_place(word);
        let x = place * tables.x[layer];
        if x.abs() < tables.x[layer + 1] {
            return x;
        }
        if layer == 0 {
            return tail(rng).copysign(place);
        }
        let [low, high] = [layer, layer + 1].map(|at| tables.density[at]);
        if high + (low - high) * unit(rng) < density(x) {
            return x;
        }
        word = rng.next_u64();
    }
}

/// Work space for the noise of one polynomial.
pub(crate) struct Noise {
    /// Words, then the bits of numbers.
    values: Box<[[u8; 8]; N]>,
    /// Places of the words that go on, and these words.
    others: Box<[(u16, u64); N]>,
}

impl Noise {
    pub(crate) fn new() -> Self {
        Self {
            values: Box::new([[0; 8]; N]),
            others: Box::new([(0, 0); N]),
        }
    }

    /// Standard normal numbers, `count` of them (at most N).
    fn draw(&mut self, prg: &mut Prg, count: usize) -> impl ExactSizeIterator<Item = f64> {
        let tables = tables();
        let values = &mut self.values[..count];
        prg.fill(values.as_flattened_mut());
        let others = widened(|| try_all(tables, values, &mut self.others));
        for &(at, word) in &self.others[..others] {
            values[usize::from(at)] = normal(tables, word, prg).to_le_bytes();
        }
        values.iter().map(|bytes| f64::from_le_bytes(*bytes))
    }

    /// D's drowning noise for `count` coefficients (at most N): Gaussians, rounded; below q/4 in absolute value.
    pub(crate) fn drowning(
        &mut self,
        prg: &mut Prg,
        count: usize,
    ) -> impl ExactSizeIterator<Item = i64> {
        self.draw(prg, count)
            .map(|normal| rounded(normal * DROWNING_STD))
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.values.as_flattened_mut().zeroize();
        self.others.iter_mut().for_each(|other| other.zeroize());
    }
}

/// From a word to x_i u, right for all but those that are in `others` then; how many these are.
#[inline(always)]
fn try_all(tables: &Tables, values: &mut [[u8; 8]], others: &mut [(u16, u64); N]) -> usize {
    let mut count = 0;
    for (first, values) in values.chunks_mut(8).enumerate() {
        let (mut words, mut refused) = ([0; 8], 0u32);
        for (k, (value, word)) in values.iter_mut().zip(&mut words).enumerate() {
            *word = u64::from_le_bytes(*value);
            let (layer, place) = layer_and_place(*word);
            let x = place * tables.x[layer];
            *value = x.to_le_bytes();
            refused |= u32::from(x.abs() >= tables.x[layer + 1]) << k;
        }
        while refused != 0 {
            let k = refused.trailing_zeros() as usize;
            others[count] = ((8 * first + k) as u16, words[k]);
            count += 1;
            refused &= refused - 1;
        }
    }
    count
}

/// The integer nearest to a number of absolute value below 2^51; vectorises where a conversion would not.
#[inline(always)]
fn rounded(x: f64) -> i64 {
    const MAGIC: f64 = (3u64 << 51) as f64;
    (x + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_have_equal_areas_and_end_at_the_top_of_the_density() {
        let Tables { x, density } = tables();
        let area = x[0] * density[1];
        for i in 1..LAYERS {
            // R is known to 19 digits: what that leaves open shows at the top
            let error = if i + 1 < LAYERS { 1e-14 } else { 1e-11 };
            let layer = x[i] * (density[i + 1] - density[i]);
            assert!((layer - area).abs() < error, "{i}");
        }
        // the tail by Simpson's rule: the area of layer 0
        let (steps, width) = (4000, 12.0 / 4000.0);
        let weight = |k| {
            if k == 0 || k == steps {
                1.0
            } else {
                f64::from(2 + k % 2 * 2)
            }
        };
        let simpson = (0..=steps).map(|k| weight(k) * super::density(R + width * f64::from(k)));
        let tail = simpson.sum::<f64>() * width / 3.0;
        assert!((R * density[1] + tail - area).abs() < 1e-12);
    }

    #[test]
    fn bulk_takes_the_same_numbers_as_one_by_one() {
        let mut noise = Noise::new();
        let (mut bulk, mut single) = (Prg::from_seed(&[5; 32]), Prg::from_seed(&[5; 32]));
        for count in [N, 1, 700, N] {
            let values = noise.draw(&mut bulk, count).collect::<Vec<_>>();
            let mut bytes = vec![0; 8 * count];
            single.fill(&mut bytes);
            // those that go on take from the stream in order, after the words of all
            let words: Vec<_> = bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| u64::from_le_bytes(*b))
                .collect();
            let expected: Vec<_> = words
                .iter()
                .map(|&word| normal(tables(), word, &mut single))
                .collect();
            assert_eq!(values, expected);
        }
    }

    #[test]
    fn noise_is_gaussian_with_the_width_of_the_parameters() {
        let (mut prg, mut noise) = (Prg::from_seed(&[3; 32]), Noise::new());
        let values: Vec<f64> = (0..100)
            .flat_map(|_| noise.drowning(&mut prg, N).collect::<Vec<_>>())
            .map(|value| value as f64 / DROWNING_STD)
            .collect();
        let n = values.len() as f64;
        let moment = |power| values.iter().map(|x: &f64| x.powi(power)).sum::<f64>() / n;
        // six standard deviations of each: sqrt of 1, 2, 15, 96 over n
        for (power, expected, variance) in [
            (1, 0.0, 1.0),
            (2, 1.0, 2.0),
            (3, 0.0, 15.0),
            (4, 3.0, 96.0f64),
        ] {
            assert!(
                (moment(power) - expected).abs() < 6.0 * (variance / n).sqrt(),
                "{power}"
            );
        }
        // shares beyond points inside of the layers, in wedges and in the tail, on either side
        for (point, share) in [
            (0.5, 0.308_538),
            (1.5, 0.066_807),
            (2.5, 0.006_210),
            (3.0, 0.001_350),
            (R, 0.000_129),
        ] {
            for sign in [1.0, -1.0] {
                let beyond = values.iter().filter(|x| sign * **x > point).count() as f64;
                assert!(
                    (beyond - share * n).abs() < 6.0 * (share * n).sqrt() + 1.0,
                    "{point}"
                );
            }
        }
    }

    #[test]
    fn numbers_are_rounded_to_the_nearest_integer() {
        for (x, expected) in [
            (0.4, 0),
            (-0.6, -1),
            (1e15 + 0.5, 1_000_000_000_000_000),
            (-7.0, -7),
        ] {
            assert_eq!(rounded(x), expected);
        }
    }
}
