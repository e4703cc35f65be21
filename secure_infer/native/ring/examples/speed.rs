//! Prints what packing and convolutions take here: `cargo run --release --example speed -p blindread-ring`.

use std::time::Instant;

use blindread_ring::{ConvKernel, ConvShape, ConvSpec, Instructions, pack, unpack};

fn time(mut work: impl FnMut()) -> f64 {
    work();
    (0..5)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min)
}

fn main() {
    let words: Vec<u32> = (0..1 << 22)
        .map(|i: u32| i.wrapping_mul(2_654_435_761))
        .collect();
    for bits in [20, 27, 31] {
        let (mut packed, mut back) = (Vec::new(), vec![0u32; words.len()]);
        let packing = time(|| {
            packed.clear();
            pack(&words, bits, &mut packed);
        });
        let unpacking = time(|| assert!(unpack(&packed, bits, &mut back).is_ok()));
        let rate = |seconds| packed.len() as f64 / seconds / 1e9;
        println!(
            "{bits} bits: pack {:.1} GB/s, unpack {:.1} GB/s (packed bytes)",
            rate(packing),
            rate(unpacking)
        );
    }
    // (channels, size, outputs, kernel, stride, groups)
    for (input, size, output, kernel, stride, groups) in [
        (1, 320, 64, 7, 2, 1),
        (64, 80, 128, 1, 1, 1),
        (128, 80, 32, 3, 1, 1),
        (512, 20, 128, 1, 1, 1),
        (128, 20, 32, 3, 1, 1),
        (1024, 10, 128, 1, 1, 1),
        (512, 14, 512, 3, 1, 1),
        (144, 56, 144, 3, 1, 144),
        (144, 56, 144, 3, 2, 144),
        (1280, 1, 1000, 1, 1, 1),
    ] {
        let spec = ConvSpec {
            in_channels: input,
            in_height: size,
            in_width: size,
            out_channels: output,
            kernel: [kernel, kernel],
            stride: [stride, stride],
            dilation: [1, 1],
            padding: [kernel / 2; 4],
            groups,
        };
        let Ok(shape) = ConvShape::new(spec) else {
            continue;
        };
        let weights: Vec<i16> = words
            .iter()
            .cycle()
            .take(shape.weights_len())
            .map(|&w| w as i16)
            .collect();
        let padded: Vec<u32> = words
            .iter()
            .cycle()
            .take(shape.padded_len())
            .copied()
            .collect();
        let mut out = vec![0; shape.out_len()];
        let macs = (shape.out_height() * shape.out_width() * shape.weights_len()) as f64;
        print!(
            "{input:5} x {size:3}^2 -> {output:4}, {kernel}x{kernel}/{stride}, {groups:3} groups:"
        );
        for set in [Instructions::Portable, Instructions::detect()] {
            let Ok(conv) = ConvKernel::with_instructions(&shape, &weights, set) else {
                continue;
            };
            let seconds = time(|| conv.apply(&padded, &mut out));
            print!(
                "  {set:?} {:6.1} G multiply-adds/s ({:.2} ms)",
                macs / seconds / 1e9,
                seconds * 1e3
            );
        }
        println!();
    }
}
