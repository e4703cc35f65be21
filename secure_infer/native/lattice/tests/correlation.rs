//! Both parties' shares of a layer add up to the convolution of the masks, within the error that the theory gives.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not recognise as such

use blindread_lattice::{
    DeveloperTicket, HospitalSecret, LatticeError, Layout, Prg, hint_len, hints, params, secret_len,
};
use blindread_pool::Workers;
use blindread_ring::{ConvKernel, ConvShape, ConvSpec};
use proptest::prelude::*;
use rand_core::Rng;

const SEED: [u8; 32] = [5; 32];

fn square(input: usize, size: usize, output: usize, kernel: usize, stride: usize) -> ConvSpec {
    ConvSpec {
        in_channels: input,
        in_height: size,
        in_width: size,
        out_channels: output,
        kernel: [kernel, kernel],
        stride: [stride, stride],
        dilation: [1, 1],
        padding: [kernel / 2; 4],
        groups: 1,
    }
}

fn centred(word: u32, bits: u32) -> f64 {
    f64::from((word << (32 - bits)) as i32 >> (32 - bits))
}

/// Runs the whole correlation and returns masks and both output shares.
fn correlate(spec: ConvSpec, weights: &[i16], bits: u32, prg: &mut Prg) -> [Vec<u32>; 3] {
    correlate_with(&Workers::one(), spec, weights, bits, prg)
}

fn correlate_with(
    workers: &Workers,
    spec: ConvSpec,
    weights: &[i16],
    bits: u32,
    prg: &mut Prg,
) -> [Vec<u32>; 3] {
    let shape = ConvShape::new(spec).unwrap();
    let layout = Layout::new(&shape);
    let (public_hints, secrets) = hints(&layout, weights, &SEED, 1000, prg, 2).unwrap();
    assert_eq!(
        (public_hints.len(), secrets.len()),
        (hint_len(&layout), secret_len(&layout))
    );
    let (secret, p_b) = HospitalSecret::new(&SEED, prg);
    let secret = secret.with_workers(workers);
    let ticket = DeveloperTicket::new(&p_b).unwrap().with_workers(workers);
    let mut masks = vec![u32::MAX; shape.padded_len()];
    let [mut h, mut d] = [
        vec![u32::MAX; shape.out_len()],
        vec![u32::MAX; shape.out_len()],
    ];
    secret
        .input_masks(&layout, &SEED, 1000, bits, prg, &mut masks)
        .unwrap();
    secret
        .output_shares(&layout, &public_hints, bits, &mut h)
        .unwrap();
    ticket
        .output_shares(&layout, &secrets, bits, prg, &mut d)
        .unwrap();
    assert!(
        masks
            .iter()
            .chain(&h)
            .chain(&d)
            .all(|&word| word < 1 << bits)
    );
    [masks, h, d]
}

/// Checks out_H + out_D = W r within `limit` standard deviations, and the deviation itself where there is enough data.
fn check(spec: ConvSpec, bits: u32, seed: u8, limit: f64) {
    let mut prg = Prg::from_seed(&[seed; 32]);
    let shape = ConvShape::new(spec).unwrap();
    let weights: Vec<i16> = (0..shape.weights_len())
        .map(|_| (prg.next_u32() % 4095) as i16 - 2047)
        .collect();
    let [masks, h, d] = correlate(spec, &weights, bits, &mut prg);
    let mut expected = vec![0; shape.out_len()];
    ConvKernel::new(&shape, &weights)
        .unwrap()
        .apply(&masks, &mut expected);
    let unit = (bits as f64 - 27.0).exp2();
    let noise =
        (params::DROWNING_UNITS_AT_27 * unit).powi(2) + 0.5 + (unit * 2.0f64.powi(-5)).powi(2);
    let rows = weights.chunks_exact(weights.len() / spec.out_channels);
    let pixels = shape.out_height() * shape.out_width();
    let (mut squares, mut largest) = (0.0, 0.0f64);
    for (output, row) in rows.enumerate() {
        let variance = row.iter().map(|&w| f64::from(w).powi(2)).sum::<f64>() / 12.0 + noise;
        for i in output * pixels..(output + 1) * pixels {
            let error =
                centred(h[i].wrapping_add(d[i]).wrapping_sub(expected[i]), bits) / variance.sqrt();
            squares += error * error;
            largest = largest.max(error.abs());
        }
    }
    assert!(largest < limit, "{spec:?}: {largest} deviations");
    let deviation = (squares / shape.out_len() as f64).sqrt();
    if shape.out_len() > 2000 {
        assert!((0.7..1.3).contains(&deviation), "{spec:?}: {deviation}");
    }
}

macro_rules! correlations {
    ($($name:ident: $spec:expr, $bits:expr;)*) => {
        $(#[test]
        fn $name() {
            check($spec, $bits, stringify!($name).len() as u8, 6.0);
        })*
    };
}

correlations! {
    pointwise_layer_correlates: square(70, 20, 9, 1, 1), 27;
    padded_3x3_layer_correlates: square(13, 21, 7, 3, 1), 27;
    stem_7x7_with_stride_2_correlates: square(1, 64, 8, 7, 2), 27;
    large_map_of_many_residues_correlates: square(2, 150, 3, 3, 1), 27;
    large_strided_map_correlates: square(3, 131, 2, 3, 2), 27;
    pointwise_with_stride_2_correlates: square(5, 15, 6, 1, 2), 27;
    depthwise_layer_correlates: ConvSpec { groups: 12, ..square(12, 18, 12, 3, 1) }, 27;
    grouped_layer_correlates: ConvSpec { groups: 3, ..square(12, 30, 15, 3, 1) }, 27;
    dilated_layer_correlates: ConvSpec { dilation: [2, 3], padding: [2, 2, 3, 3], ..square(4, 17, 5, 3, 1) }, 27;
    non_square_layer_correlates:
        ConvSpec { in_width: 90, kernel: [1, 5], stride: [1, 3], padding: [0, 0, 2, 1], ..square(3, 41, 4, 3, 1) }, 27;
    uneven_padding_correlates: ConvSpec { padding: [0, 1, 0, 1], ..square(3, 28, 4, 3, 2) }, 27;
    dense_layer_on_one_pixel_correlates: square(3000, 1, 40, 1, 1), 27;
    dense_layer_on_a_map_correlates: ConvSpec { padding: [0; 4], ..square(30, 7, 10, 7, 1) }, 27;
    small_ring_correlates: square(10, 12, 20, 3, 1), 16;
    smallest_ring_correlates: ConvSpec { in_channels: 1, ..square(1, 60, 2, 1, 1) }, 31;
    largest_ring_correlates: square(10, 32, 20, 3, 1), 31;
    map_of_exactly_n_pixels_correlates: ConvSpec { in_width: 64, ..square(2, 32, 2, 1, 1) }, 27;
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn layer_of_any_shape_correlates(
        channels in (1usize..3, 1usize..5, 1usize..4), size in (1usize..70, 1usize..70), kernel in [1usize..4, 1..4],
        stride in [1usize..4, 1..4], dilation in [1usize..3, 1..3], padding in [0usize..3, 0..3, 0..3, 0..3],
        bits in 20u32..=31, seed in any::<u8>()
    ) {
        let (groups, inputs, outputs) = channels;
        let reach = |axis: usize| (kernel[axis] - 1) * dilation[axis] + 1;
        let (in_height, in_width) = (size.0.max(reach(0)), size.1.max(reach(1)));
        let (in_channels, out_channels) = (groups * inputs, groups * outputs);
        check(
            ConvSpec { in_channels, in_height, in_width, out_channels, kernel, stride, dilation, padding, groups },
            bits,
            seed,
            6.7, // 1e-11 for each output, of which there are 1e5 with random seeds
        );
    }
}

#[test]
fn masks_are_spread_evenly_over_the_ring() {
    let mut prg = Prg::from_seed(&[77; 32]);
    let spec = square(20, 60, 1, 1, 2); // three of four phases are read by no tap
    for bits in [8, 27] {
        let weights = vec![1; 20];
        let [masks, ..] = correlate(spec, &weights, bits, &mut prg);
        let mut counts = [0f64; 256];
        masks
            .iter()
            .for_each(|mask| counts[(mask >> (bits - 8)) as usize] += 1.0);
        let mean = masks.len() as f64 / 256.0;
        let chi_square: f64 = counts
            .iter()
            .map(|count| (count - mean).powi(2) / mean)
            .sum();
        // 255 degrees of freedom, standard deviation 22.6
        assert!((150.0..370.0).contains(&chi_square), "{chi_square}");
        let mut low = [0f64; 256];
        masks
            .iter()
            .for_each(|mask| low[(mask & 255) as usize] += 1.0);
        let chi_square: f64 = low.iter().map(|count| (count - mean).powi(2) / mean).sum();
        assert!((150.0..370.0).contains(&chi_square), "{chi_square}");
    }
}

#[test]
fn two_calls_use_different_randomness() {
    let mut prg = Prg::from_seed(&[78; 32]);
    let (spec, weights) = (square(2, 30, 2, 1, 1), [100; 4]);
    let first = correlate(spec, &weights, 27, &mut prg);
    let second = correlate(spec, &weights, 27, &mut prg);
    for (first, second) in first.iter().zip(&second) {
        assert!(first.iter().zip(second).filter(|(a, b)| a == b).count() < 5);
    }
    let layout = Layout::new(&ConvShape::new(spec).unwrap());
    let (first, second) = (
        hints(&layout, &weights, &SEED, 0, &mut prg, 1).unwrap(),
        hints(&layout, &weights, &SEED, 0, &mut prg, 1).unwrap(),
    );
    assert!(first.0 != second.0 && first.1[..] != second.1[..]);
    let equal = first
        .0
        .iter()
        .zip(&second.0)
        .filter(|(a, b)| a == b)
        .count();
    assert!(equal < first.0.len() / 128);
    // the same randomness gives the same hints, whatever the threads
    let again = |threads| {
        hints(
            &layout,
            &weights,
            &SEED,
            0,
            &mut Prg::from_seed(&[1; 32]),
            threads,
        )
        .unwrap()
    };
    assert!(again(1).0 == again(3).0);
}

#[test]
fn masks_and_shares_are_the_same_for_any_number_of_threads() {
    // many channels in a polynomial; several polynomials for one; four phases, a channel's in different polynomials
    for spec in [
        square(70, 20, 9, 1, 1),
        square(2, 46, 3, 1, 1),
        square(1, 100, 5, 7, 2),
        square(7, 50, 5, 3, 2),
        square(3, 40, 2, 1, 2),
    ] {
        let weights = vec![-3; ConvShape::new(spec).unwrap().weights_len()];
        let [expected, two, three] = [1, 2, 3].map(|threads| {
            let workers = Workers::new(threads).unwrap();
            let mut prg = Prg::from_seed(&[81; 32]);
            correlate_with(&workers, spec, &weights, 27, &mut prg)
        });
        assert!(two == expected && three == expected, "{spec:?}");
    }
}

#[test]
fn layout_counts_polynomials_by_size_of_the_map() {
    let polys = |spec| {
        let layout = Layout::new(&ConvShape::new(spec).unwrap());
        (layout.in_polys(), layout.out_polys())
    };
    assert_eq!(polys(square(70, 20, 9, 1, 1)), (14, 9)); // 400 pixels, five channels each
    assert_eq!(polys(square(2, 46, 3, 1, 1)), (4, 6)); // 2116 pixels, two residues
    assert_eq!(polys(square(3, 90, 4, 1, 2)), (3, 4)); // one of four phases, 2025 pixels
    assert_eq!(polys(square(1, 224, 64, 7, 2)), (4 * 7, 64 * 7)); // 115^2 pixels in seven residues
}

#[test]
fn bytes_of_another_length_are_refused() {
    let mut prg = Prg::from_seed(&[79; 32]);
    let shape = ConvShape::new(square(2, 30, 2, 1, 1)).unwrap();
    let layout = Layout::new(&shape);
    let (secret, p_b) = HospitalSecret::new(&SEED, &mut prg);
    let ticket = DeveloperTicket::new(&p_b).unwrap();
    let mut out = vec![0; shape.out_len()];
    let length = |what, expected, got| {
        Err::<(), _>(LatticeError::Length {
            what,
            expected,
            got,
        })
    };
    let refused = hints(&layout, &[1; 3], &SEED, 0, &mut prg, 1).map(|_| ());
    assert_eq!(refused, length("weights", 4, 3));
    for got in [0, 18431, 18433] {
        let refused = secret.output_shares(&layout, &vec![0; got], 27, &mut out);
        assert_eq!(refused, length("hints", 18432, got));
    }
    let refused = ticket.output_shares(&layout, &[0; 1023], 27, &mut prg, &mut out);
    assert_eq!(refused, length("secrets", 1024, 1023));
    let refused = secret.input_masks(&layout, &SEED, 0, 27, &mut prg, &mut out[1..]);
    assert_eq!(refused, length("padded input", 1800, 1799));
    for bits in [0, 7, 32, u32::MAX] {
        let refused = secret.input_masks(&layout, &SEED, 0, bits, &mut prg, &mut out);
        assert_eq!(refused, Err(LatticeError::Ring(bits)));
    }
}

#[test]
fn message_with_a_wrong_length_or_coefficient_is_refused() {
    let mut prg = Prg::from_seed(&[80; 32]);
    let (_, p_b) = HospitalSecret::new(&SEED, &mut prg);
    assert_eq!(p_b.len(), DeveloperTicket::MESSAGE_LEN);
    let error = DeveloperTicket::new(&p_b[1..]).err().unwrap();
    assert_eq!(error.to_string(), "p_b: expected 12800 elements, got 12799");
    let mut large = p_b;
    large[..7].fill(0xff);
    assert_eq!(
        DeveloperTicket::new(&large).err(),
        Some(LatticeError::Range("p_b"))
    );
}
