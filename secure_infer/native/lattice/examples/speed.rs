//! Prints what the correlation of some layers takes here: `cargo run --release --example speed -p blindread-lattice`.

use std::time::Instant;

use blindread_lattice::{DeveloperTicket, HospitalSecret, LatticeError, Layout, Prg, hints};
use blindread_ring::{ConvShape, ConvSpec};

/// Prints the shortest of some runs; others may be using the machine.
fn time<T>(polys: usize, what: &str, mut work: impl FnMut() -> T) -> T {
    let (mut shortest, started) = (f64::MAX, Instant::now());
    loop {
        let start = Instant::now();
        let result = work();
        shortest = shortest.min(start.elapsed().as_secs_f64());
        if started.elapsed().as_secs_f64() > 0.3 {
            print!(
                "  {what} {:.1} ms ({:.1} us each of {polys})",
                shortest * 1e3,
                shortest * 1e6 / polys as f64
            );
            return result;
        }
    }
}

fn main() -> Result<(), LatticeError> {
    let mut prg = Prg::from_seed(&[1; 32]);
    let mut bytes = vec![0; 1 << 24];
    for chunk in [1 << 24, 16384, 1024] {
        let start = Instant::now();
        bytes.chunks_mut(chunk).for_each(|bytes| prg.fill(bytes));
        println!(
            "generator, {chunk} at once: {:.1} GB/s",
            bytes.len() as f64 / start.elapsed().as_secs_f64() / 1e9
        );
    }
    for (input, size, output, kernel, stride, groups) in [
        (1, 320, 64, 7, 2, 1),
        (64, 80, 128, 1, 1, 1),
        (128, 40, 32, 3, 1, 1),
        (768, 20, 128, 1, 1, 1),
        (128, 20, 32, 3, 1, 1),
        (1024, 10, 128, 1, 1, 1),
        (128, 10, 32, 3, 1, 1),
        (192, 56, 192, 3, 1, 192),
        (1280, 1, 1000, 1, 1, 1),
        (256, 7, 64, 7, 7, 1),
    ] {
        let spec = ConvSpec {
            in_channels: input,
            in_height: size,
            in_width: size,
            out_channels: output,
            kernel: [kernel, kernel],
            stride: [stride, stride],
            dilation: [1, 1],
            padding: if kernel == size {
                [0; 4]
            } else {
                [kernel / 2; 4]
            },
            groups,
        };
        let Ok(shape) = ConvShape::new(spec) else {
            continue;
        };
        let layout = Layout::new(&shape);
        let weights: Vec<i16> = (0..shape.weights_len())
            .map(|i| ((i * 7919) % 4095) as i16 - 2047)
            .collect();
        println!("{input} x {size}^2 -> {output}, {kernel}x{kernel}/{stride}, {groups} groups:");
        let (seed, mut masks, mut out) = (
            [2; 32],
            vec![0; shape.padded_len()],
            vec![0; shape.out_len()],
        );
        let (inputs, outputs) = (layout.in_polys(), layout.out_polys());
        let (hint, secrets) = time(outputs, "hints", || {
            hints(&layout, &weights, &seed, 0, &mut prg, 1)
        })?;
        let (secret, p_b) = HospitalSecret::new(&seed, &mut prg);
        let ticket = DeveloperTicket::new(&p_b)?;
        time(inputs, "masks", || {
            secret.input_masks(&layout, &seed, 0, 27, &mut prg, &mut masks)
        })?;
        time(outputs, "H", || {
            secret.output_shares(&layout, &hint, 27, &mut out)
        })?;
        time(outputs, "D", || {
            ticket.output_shares(&layout, &secrets, 27, &mut prg, &mut out)
        })?;
        println!();
    }
    Ok(())
}
