//! Convolutions of random shapes against the definition, on every instruction set.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy does not recognise as such

use blindread_pool::Workers;
use blindread_ring::raster::{self, Padded};
use blindread_ring::{ConvKernel, ConvScratch, ConvShape, ConvSpec, Instructions};
use proptest::prelude::*;

const MASK: u32 = (1 << 27) - 1;

fn naive(shape: &ConvShape, weights: &[i16], padded: &[u32]) -> Vec<u32> {
    let spec = shape.spec();
    let (hp, wp) = (shape.padded_height(), shape.padded_width());
    let (inputs, outputs) = (shape.group_inputs(), shape.group_outputs());
    let mut out = Vec::new();
    for o in 0..spec.out_channels {
        for y in 0..shape.out_height() {
            for x in 0..shape.out_width() {
                let mut sum = 0u32;
                for i in 0..inputs {
                    for ky in 0..spec.kernel[0] {
                        for kx in 0..spec.kernel[1] {
                            let w = weights
                                [((o * inputs + i) * spec.kernel[0] + ky) * spec.kernel[1] + kx];
                            let row = y * spec.stride[0] + ky * spec.dilation[0];
                            let column = x * spec.stride[1] + kx * spec.dilation[1];
                            let pixel =
                                padded[((o / outputs * inputs + i) * hp + row) * wp + column];
                            sum = sum.wrapping_add((i32::from(w) as u32).wrapping_mul(pixel));
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

fn words(seed: u64, count: usize) -> Vec<u32> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as u32
    };
    (0..count).map(|_| next()).collect()
}

fn check(spec: ConvSpec, seed: u64) {
    let shape = ConvShape::new(spec).unwrap();
    let weights: Vec<i16> = words(seed, shape.weights_len())
        .iter()
        .map(|&w| w as i16)
        .collect();
    let padded = words(seed + 1, shape.padded_len());
    let expected = naive(&shape, &weights, &padded);
    let (map, border) = raster::split(&shape, &padded);
    let before = words(seed + 2, shape.out_len());
    let biases = [spec.out_channels, shape.out_len()].map(|len| words(seed + 3, len));
    use Instructions::{Avx2, Avx512, Avx512Vnni, Portable, PortableDigits};
    // what one convolution leaves there must not matter to the next
    let mut scratch = ConvScratch::default();
    for set in [
        Portable,
        PortableDigits,
        Avx2,
        Avx512,
        Avx512Vnni,
        Instructions::detect(),
    ] {
        let kernel = ConvKernel::with_instructions(&shape, &weights, set).unwrap();
        let mut out = vec![7; shape.out_len()];
        kernel.apply(&padded, &mut out);
        assert!(out == expected, "{spec:?} on {set:?}");
        for threads in [1, 2, 3] {
            let workers = Workers::new(threads).unwrap();
            for bias in &biases {
                let mut out = before.clone();
                let padded = Padded {
                    map: &map,
                    border: &border,
                };
                kernel.add_to(&workers, &mut scratch, padded, (bias, MASK), &mut out);
                let per_channel = bias.len() / spec.out_channels;
                let each = shape.out_len() / bias.len();
                let bias = |i: usize| bias[if per_channel == 1 { i / each } else { i }];
                let expected = expected.iter().zip(&before).enumerate();
                let expected: Vec<u32> = expected
                    .map(|(i, (a, b))| a.wrapping_add(*b).wrapping_add(bias(i)) & MASK)
                    .collect();
                assert!(out == expected, "{spec:?} on {set:?}, {threads} threads");
            }
        }
    }
}

fn specs() -> impl Strategy<Value = ConvSpec> {
    let pair = |max: usize| [1..=max, 1..=max];
    let channels = (1usize..=3, 1usize..=5, 1usize..=9);
    (
        channels,
        1usize..=20,
        1usize..=40,
        pair(4),
        pair(3),
        pair(2),
        [0usize..3, 0..3, 0..3, 0..3],
    )
        .prop_map(
            |((groups, inputs, outputs), height, width, kernel, stride, dilation, padding)| {
                let reach = |axis: usize| (kernel[axis] - 1) * dilation[axis] + 1;
                ConvSpec {
                    in_channels: groups * inputs,
                    in_height: height.max(reach(0)),
                    in_width: width.max(reach(1)),
                    out_channels: groups * outputs,
                    kernel,
                    stride,
                    dilation,
                    padding,
                    groups,
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn convolution_of_any_shape_equals_the_definition(spec in specs(), seed in any::<u32>()) {
        check(spec, u64::from(seed));
    }
}

#[test]
fn depthwise_convolution_divided_by_groups_equals_the_definition() {
    let spec = ConvSpec {
        in_channels: 67,
        in_height: 40,
        in_width: 45,
        out_channels: 134,
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        padding: [1, 1, 1, 1],
        groups: 67,
    };
    check(spec, 4);
}

#[test]
fn convolution_of_one_channel_whose_taps_come_in_pairs_equals_the_definition() {
    for (kernel, stride, padding) in [([7, 7], [2, 2], 3), ([1, 4], [1, 1], 0)] {
        let spec = ConvSpec {
            in_channels: 1,
            in_height: 33,
            in_width: 46,
            out_channels: 8,
            kernel,
            stride,
            dilation: [1, 1],
            padding: [padding; 4],
            groups: 1,
        };
        check(spec, 9);
    }
}

#[test]
fn convolution_divided_by_pixels_equals_the_definition() {
    // with 2, 3 and 4 threads there are as many parts as tiles, or fewer
    for (height, width, threads) in [(20, 20, 2), (40, 45, 2), (40, 45, 3), (40, 45, 4)] {
        for (kernel, stride) in [(1, 1), (3, 1), (3, 2)] {
            let spec = ConvSpec {
                in_channels: 70,
                in_height: height * stride,
                in_width: width * stride,
                out_channels: 45,
                kernel: [kernel, kernel],
                stride: [stride, stride],
                dilation: [1, 1],
                padding: [kernel / 2; 4],
                groups: 1,
            };
            check(spec, threads);
        }
    }
}

#[test]
fn convolution_with_more_rows_than_a_panel_equals_the_definition() {
    let spec = ConvSpec {
        in_channels: 301,
        in_height: 9,
        in_width: 33,
        out_channels: 13,
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        padding: [1, 1, 1, 1],
        groups: 1,
    };
    check(spec, 1);
    check(
        ConvSpec {
            in_channels: 1500,
            in_height: 1,
            in_width: 1,
            kernel: [1, 1],
            padding: [0; 4],
            ..spec
        },
        2,
    );
    check(
        ConvSpec {
            in_channels: 3,
            in_height: 150,
            in_width: 170,
            kernel: [7, 7],
            stride: [2, 2],
            ..spec
        },
        3,
    );
    check(
        ConvSpec {
            in_channels: 40,
            out_channels: 40,
            groups: 40,
            ..spec
        },
        4,
    );
}

#[test]
fn kernel_with_another_number_of_weights_is_refused() {
    let spec = ConvSpec {
        in_channels: 2,
        in_height: 4,
        in_width: 4,
        out_channels: 3,
        kernel: [3, 3],
        stride: [1, 1],
        dilation: [1, 1],
        padding: [0; 4],
        groups: 1,
    };
    let shape = ConvShape::new(spec).unwrap();
    let error = ConvKernel::new(&shape, &[0; 53]).err().unwrap();
    assert_eq!(error.to_string(), "weights: expected 54 values, got 53");
}
