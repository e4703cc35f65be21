//! Convolution of ring words with private weights, as a matrix product over shifted views of the raster.
//!
//! No im2col: a *slab* holds a tile of pixels (and what the taps reach beyond it) of some channels, and every
//! (channel, tap) is one row of the product's right side, namely the slab from some offset on. Strides are taken
//! out first by splitting the raster in phases. Outputs are computed in blocks of up to six channels, so that
//! the accumulators of a block stay in registers, and all blocks of a strip of pixels after each other, so that what
//! the strip's rows read stays in L1. What a slab holds is put together from the map and what is around it; a tile's sums
//! are added to what the output holds already.

use std::ops::Range;

use blindread_pool::Workers;

use crate::raster::{Padded, Rasters, border_len};
use crate::shape::{ConvShape, Phases};
use crate::simd;

mod plan;

pub(crate) use plan::{LINE, Offsets};
use plan::{Plan, STRIP, blocks};

/// Weights whose number does not fit the shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("weights: expected {expected} values, got {got}")]
pub struct WeightsError {
    /// Values that the shape needs.
    pub expected: usize,
    /// Values that were there.
    pub got: usize,
}

/// The instruction set a kernel runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instructions {
    /// Plain Rust.
    Portable,
    /// 32-bit products in 256-bit vectors.
    Avx2,
    /// 32-bit products in 512-bit vectors.
    Avx512,
    /// Dot products of 16-bit digits in 512-bit vectors.
    Avx512Vnni,
    /// The arithmetic of [`Self::Avx512Vnni`] in plain Rust, to test it where the instructions are missing.
    PortableDigits,
}

impl Instructions {
    /// The fastest set for convolutions that this processor has and whose kernel agrees with the portable one.
    pub fn detect() -> Self {
        simd::detect()
    }
}

/// Output channels whose accumulators are in registers together.
pub(crate) const BLOCK: usize = 6;
/// Products below which a convolution is not divided: some 50 us.
const MIN_PRODUCTS: usize = 1 << 20;
/// Parts for each thread, at most, so that none waits long for the last.
const PARTS_PER_THREAD: usize = 4;
/// Positions of a part, at least, unless that would leave a thread without one.
const PART: usize = 1600;

/// A convolution with its weights in the order in which the inner loop reads them.
///
/// Weights are the developer's secret: no `Debug`, no `Clone`, zeroed on drop.
pub struct ConvKernel {
    shape: ConvShape,
    phases: Phases,
    plan: Plan,
    panels: Vec<u32>,
}

/// The operands of one block of outputs: `acc[o][x] (+)= sum_k panel[k][o] * slab[offsets[k] + x]`, x below `pixels`.
pub(crate) struct Block<'a> {
    pub slab: &'a [u32],
    /// Distance from a low-digit row to its high-digit row (digits only).
    pub row: usize,
    pub offsets: &'a Offsets,
    /// Rows of the product, the first ones of `offsets`.
    pub rows: usize,
    pub panel: &'a [u32],
    pub pixels: usize,
    /// Distance from an output's accumulators to the next one's.
    pub stride: usize,
    /// Whether `acc` starts at zero instead of at what it holds.
    pub first: bool,
}

impl ConvKernel {
    /// Takes weights `[out, in/groups, kernel rows, kernel columns]`.
    ///
    /// # Errors
    /// [`WeightsError`] when their number does not fit the shape.
    pub fn new(shape: &ConvShape, weights: &[i16]) -> Result<Self, WeightsError> {
        Self::with_instructions(shape, weights, Instructions::detect())
    }

    /// As [`Self::new`] on a given instruction set; falls back to plain Rust when the processor lacks it.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_instructions(
        shape: &ConvShape,
        weights: &[i16],
        instructions: Instructions,
    ) -> Result<Self, WeightsError> {
        let expected = shape.weights_len();
        if weights.len() != expected {
            return Err(WeightsError {
                expected,
                got: weights.len(),
            });
        }
        let phases = shape.phases();
        let plan = Plan::new(shape, &phases, simd::available(instructions));
        let panels = plan.panels(shape, weights);
        Ok(Self {
            shape: *shape,
            phases,
            plan,
            panels,
        })
    }

    /// The geometry.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// `out[O, Ho, Wo] = sum of weights times padded[C, Hp, Wp]`, modulo 2^32; what stands at padded positions counts.
    ///
    /// Does nothing but fill `out` with zeros when a length does not fit the shape (`padded_len`, `out_len`);
    /// callers own these buffers.
    pub fn apply(&self, padded: &[u32], out: &mut [u32]) {
        debug_assert_eq!(padded.len(), self.shape.padded_len());
        out.fill(0);
        if padded.len() == self.shape.padded_len() {
            let rasters = Rasters::Whole {
                words: padded,
                pixels: padded.len() / self.shape.spec().in_channels,
            };
            let bias = vec![0; self.shape.spec().out_channels];
            let mut scratch = ConvScratch::default();
            self.add_rasters(
                &Workers::one(),
                &mut scratch,
                &rasters,
                (&bias, u32::MAX),
                out,
            );
        }
    }

    /// `out[O, Ho, Wo] = (out + bias + sum of weights times padded[C, Hp, Wp]) & mask`, divided among threads: by pixels
    /// of large maps, else by output channels. `bias` has one word for each output channel, or for each output.
    ///
    /// As [`Self::apply`] when a length does not fit the shape.
    pub fn add_to(
        &self,
        workers: &Workers,
        scratch: &mut ConvScratch,
        padded: Padded<'_>,
        (bias, mask): (&[u32], u32),
        out: &mut [u32],
    ) {
        let given = (padded.map.len() + padded.border.len(), padded.border.len());
        let expected = (self.shape.padded_len(), border_len(&self.shape));
        debug_assert_eq!(given, expected);
        if given == expected {
            let rasters = Rasters::new(&self.shape, padded);
            self.add_rasters(workers, scratch, &rasters, (bias, mask), out);
        } else {
            out.fill(0);
        }
    }

    fn add_rasters(
        &self,
        workers: &Workers,
        scratch: &mut ConvScratch,
        rasters: &Rasters<'_>,
        (bias, mask): (&[u32], u32),
        out: &mut [u32],
    ) {
        let channels = self.shape.spec().out_channels;
        debug_assert_eq!(out.len(), self.shape.out_len());
        debug_assert!([channels, out.len()].contains(&bias.len()));
        if out.len() != self.shape.out_len() || ![channels, out.len()].contains(&bias.len()) {
            out.fill(0);
            return;
        }
        let last = Last { bias, mask };
        if self.phases.is_identity() {
            self.add_planes(workers, scratch, rasters, &last, out);
            return;
        }
        let (pixels, raster) = (
            self.phases.pixels(),
            self.shape.padded_height() * self.shape.padded_width(),
        );
        let per_channel = self.phases.origins.len() * pixels;
        let mut planes = vec![0; self.shape.spec().in_channels * per_channel];
        let each = planes.chunks_exact_mut(per_channel).enumerate();
        let pieces = rasters.pieces(0, raster);
        workers.each(each, |(channel, planes)| {
            let mut whole = vec![0; raster];
            rasters.copy(channel, &pieces, &mut whole);
            for (phase, plane) in planes.chunks_exact_mut(pixels).enumerate() {
                self.phases.gather(&whole, phase, plane);
            }
        });
        let planes = Rasters::Whole {
            words: &planes,
            pixels,
        };
        self.add_planes(workers, scratch, &planes, &last, out);
    }

    /// The convolution of phases: `planes[C * phases, height, width]`.
    fn add_planes(
        &self,
        workers: &Workers,
        scratch: &mut ConvScratch,
        planes: &Rasters<'_>,
        last: &Last<'_>,
        out: &mut [u32],
    ) {
        let products = self.shape.out_len() * self.shape.group_inputs() * self.phases.taps.len();
        let threads = match workers.threads() {
            _ if products < MIN_PRODUCTS => 1,
            threads => threads,
        };
        let (groups, outputs) = (self.shape.spec().groups, self.shape.group_outputs());
        let channels = groups * outputs;
        let positions = self.positions();
        let unit = simd::pixels(self.plan.instructions);
        let units = positions.div_ceil(unit);
        let parts: Vec<Part> = if threads == 1 || units < threads {
            parts(groups, outputs, positions, threads).collect()
        } else {
            // nobody fills the same slab twice
            let count = threads * (positions / threads / PART).clamp(1, PARTS_PER_THREAD);
            let edge = |i: usize| positions.min(i * units / count * unit);
            let part = |i| Part {
                groups: 0..groups,
                outputs: 0..outputs,
                positions: edge(i)..edge(i + 1),
            };
            (0..count).map(part).collect()
        };
        let of_part = |_| Vec::with_capacity(channels);
        let mut owned: Vec<Vec<&mut [u32]>> = parts.iter().map(of_part).collect();
        let pixels = self.shape.out_height() * self.shape.out_width();
        for (channel, mut out) in out.chunks_exact_mut(pixels).enumerate() {
            let (group, output) = (channel / outputs, channel % outputs);
            for (part, owned) in parts.iter().zip(&mut owned) {
                if part.groups.contains(&group) && part.outputs.contains(&output) {
                    let pixels = self.pixel(part.positions.end) - self.pixel(part.positions.start);
                    let (own, rest) = out.split_at_mut(pixels);
                    owned.push(own);
                    out = rest;
                }
            }
        }
        let rooms = scratch.of_threads(workers.threads());
        workers.each_with(rooms, parts.iter().zip(&mut owned), |room, (part, outs)| {
            self.add_part(planes, part, last, room, outs);
        });
    }

    /// Positions of the raster from the first output pixel to the last, what lies between rows included.
    fn positions(&self) -> usize {
        (self.shape.out_height() - 1) * self.phases.width + self.shape.out_width()
    }

    /// Output pixels before a position.
    fn pixel(&self, position: usize) -> usize {
        let width = self.shape.out_width();
        position / self.phases.width * width + (position % self.phases.width).min(width)
    }

    /// A part, of whose output channels `outs` are the pixels.
    fn add_part(
        &self,
        planes: &Rasters<'_>,
        part: &Part,
        last: &Last<'_>,
        room: &mut Room,
        outs: &mut [&mut [u32]],
    ) {
        let (plan, inputs, outputs) = (
            &self.plan,
            self.shape.group_inputs(),
            self.shape.group_outputs(),
        );
        let own = part.outputs.len();
        let planes_per_channel = self.phases.origins.len();
        let slab = lines(&mut room.slab, plan.slab_len());
        let acc = lines(&mut room.acc, own * plan.tile);
        let blocks: Vec<_> = blocks(outputs)
            .filter(|(at, _)| part.outputs.contains(at))
            .collect();
        // every slab but a group's last holds `plan.channels`
        let group_rows =
            inputs / plan.channels * plan.rows(plan.channels) + plan.rows(inputs % plan.channels);
        let first_pixel = self.pixel(part.positions.start);
        for start in part.positions.clone().step_by(plan.tile) {
            let length = plan.length(part.positions.end - start);
            for group in part.groups.clone() {
                let outs = &mut outs[(group - part.groups.start) * own..][..own];
                for from in (0..inputs).step_by(plan.channels) {
                    let count = plan.channels.min(inputs - from);
                    let plane = (group * inputs + from) * planes_per_channel;
                    let pixels = (start, length);
                    plan.fill_slab(planes, (plane, count), pixels, slab);
                    let rows = plan.rows(count);
                    let before =
                        group * group_rows + from / plan.channels * plan.rows(plan.channels);
                    let panels = &self.panels[before * outputs..];
                    // where there is one block only, nothing is read again
                    let strip = if own > BLOCK { STRIP } else { length };
                    for x in (0..length).step_by(strip) {
                        let end = part.positions.end.min(start + x + strip);
                        let pixels =
                            self.pixel(start + x) - first_pixel..self.pixel(end) - first_pixel;
                        for &(at, block) in &blocks {
                            let own = at - part.outputs.start;
                            if from + count == inputs {
                                for out in &outs[own..own + block] {
                                    simd::prefetch(&out[pixels.clone()]);
                                }
                            }
                            let operands = Block {
                                slab: &slab[x..],
                                row: plan.row,
                                offsets: &plan.offsets,
                                rows,
                                panel: &panels[rows * at..rows * (at + block)],
                                pixels: strip.min(length - x),
                                stride: plan.tile,
                                first: from == 0,
                            };
                            let acc = &mut acc[own * plan.tile + x..];
                            simd::multiply(plan.instructions, block, &operands, acc);
                        }
                    }
                }
                let channel = group * outputs + part.outputs.start;
                self.add_tile(acc, (start, channel), &part.positions, last, outs);
            }
        }
    }

    /// Adds the tile of output positions from `start` on to the output pixels among them; `outs` are those of the
    /// channels from `channel` on.
    fn add_tile(
        &self,
        acc: &[u32],
        (start, channel): (usize, usize),
        positions: &Range<usize>,
        last: &Last<'_>,
        outs: &mut [&mut [u32]],
    ) {
        let (height, width, raster) = (
            self.shape.out_height(),
            self.shape.out_width(),
            self.phases.width,
        );
        let first = self.pixel(positions.start);
        let end = positions.end.min(start + self.plan.tile);
        let each = last.bias.len() / self.shape.spec().out_channels;
        // rows without anything between them are one
        let (height, width, raster) = match width == raster {
            true => (1, height * width, height * width),
            false => (height, width, raster),
        };
        let rows = start / raster..height.min(end.div_ceil(raster));
        simd::widened(
            #[inline(always)]
            || {
                for (index, (tile, out)) in acc.chunks_exact(self.plan.tile).zip(outs).enumerate() {
                    let bias = &last.bias[(channel + index) * each..][..each];
                    for y in rows.clone() {
                        let (from, to) = ((y * raster).max(start), (y * raster + width).min(end));
                        if from < to {
                            let at = y * width + from - y * raster;
                            let sums = &tile[from - start..to - start];
                            let out = &mut out[at - first..][..sums.len()];
                            match bias {
                                &[bias] => add(out, sums, bias, last.mask),
                                bias => add_each(out, sums, &bias[at..], last.mask),
                            }
                        }
                    }
                }
            },
        );
    }
}

/// What is added last to the sums of products.
struct Last<'a> {
    /// A word for each output channel, or for each output.
    bias: &'a [u32],
    mask: u32,
}

/// `(out + sums + bias) & mask`.
#[inline(always)]
fn add(out: &mut [u32], sums: &[u32], bias: u32, mask: u32) {
    for (out, &sum) in out.iter_mut().zip(sums) {
        *out = out.wrapping_add(sum).wrapping_add(bias) & mask;
    }
}

/// As [`add`], each with a bias of its own.
#[inline(always)]
fn add_each(out: &mut [u32], sums: &[u32], bias: &[u32], mask: u32) {
    for ((out, &sum), &bias) in out.iter_mut().zip(sums).zip(bias) {
        *out = out.wrapping_add(sum).wrapping_add(bias) & mask;
    }
}

impl Drop for ConvKernel {
    fn drop(&mut self) {
        self.panels.fill(0);
        std::hint::black_box(&self.panels);
    }
}

/// Memory of the threads that work on convolutions, used again by the next one: what is given back to the operating
/// system and asked for again costs other threads time, too. Erased on drop.
#[derive(Default)]
pub struct ConvScratch(Vec<Room>);

/// Memory of one thread: whatever the last convolution left there.
#[derive(Default)]
struct Room {
    slab: Vec<u32>,
    acc: Vec<u32>,
}

impl ConvScratch {
    fn of_threads(&mut self, threads: usize) -> &mut [Room] {
        if self.0.len() < threads {
            self.0.resize_with(threads, Room::default);
        }
        &mut self.0[..threads]
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for words in [&mut self.slab, &mut self.acc] {
            words.fill(0);
            std::hint::black_box(words);
        }
    }
}

/// That many words from the beginning of a cache line on.
fn lines(words: &mut Vec<u32>, len: usize) -> &mut [u32] {
    if words.len() < len + LINE {
        words.resize(len + LINE, 0);
    }
    let first = words.as_ptr().align_offset(LINE * size_of::<u32>());
    &mut words[first..first + len]
}

/// What is computed together: some positions of all channels, or all of some groups, or of some blocks of the only
/// group.
struct Part {
    groups: Range<usize>,
    /// Of each group.
    outputs: Range<usize>,
    positions: Range<usize>,
}

/// Cuts all output channels in at most `count` parts of nearly equal size, in order.
fn parts(
    groups: usize,
    outputs: usize,
    positions: usize,
    count: usize,
) -> impl Iterator<Item = Part> {
    let edges: Vec<usize> = if groups > 1 {
        (0..=groups).collect()
    } else {
        let starts = blocks(outputs).map(|(at, _)| at);
        starts.chain([outputs]).collect()
    };
    let units = edges.len() - 1;
    let count = count.min(units);
    (0..count).map(move |i| {
        let range = edges[i * units / count]..edges[(i + 1) * units / count];
        if groups > 1 {
            Part {
                groups: range,
                outputs: 0..outputs,
                positions: 0..positions,
            }
        } else {
            Part {
                groups: 0..groups,
                outputs: range,
                positions: 0..positions,
            }
        }
    })
}
