//! How a convolution is cut up, and its operands in the order in which the inner loop reads them.

use super::{BLOCK, Instructions};
use crate::raster::Rasters;
use crate::shape::{ConvShape, Phases};
use crate::simd;

/// Pixels whose outputs are computed together, a multiple of every vector block.
pub(super) const STRIP: usize = 32;
/// Words that the rows of a strip read before the accumulators are put back: they stay in L1.
const MAX_READ: usize = 8 << 10;
/// Words of a cache line.
pub(crate) const LINE: usize = 16;
/// Words of a slab: it stays in L2.
const MAX_SLAB: usize = 48 << 10;

/// How the work is cut up.
pub(super) struct Plan {
    pub instructions: Instructions,
    /// What shares the words of slab and panels.
    pairs: Pairs,
    /// Output positions of a tile, a multiple of the vector block.
    pub tile: usize,
    /// Positions that the taps reach beyond the one that they belong to.
    reach: usize,
    /// Words of a slab row, at least the tile and the reach.
    pub row: usize,
    /// Input channels of a slab.
    pub channels: usize,
    planes_per_channel: usize,
    /// Rows of the product for one channel, or one pair of channels.
    entries: Vec<Entry>,
    /// Where each row of the product starts in the slab.
    pub offsets: Offsets,
}

/// What two 16-bit digits in one word belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pairs {
    /// No digits: one number a word.
    None,
    /// A channel and the next one, at the same pixel.
    Channels,
    /// A pixel and the next one, of the only channel.
    Taps,
}

/// One row of the product: a tap of a phase, and for [`Pairs::Taps`] the tap that reads the next pixel, if there is one.
struct Entry {
    phase: usize,
    offset: usize,
    tap: usize,
    next: Option<usize>,
}

/// Where rows start, and the largest of these places.
pub(crate) struct Offsets {
    starts: Vec<u32>,
    largest: usize,
}

impl Offsets {
    pub(crate) fn new(starts: Vec<u32>) -> Self {
        let largest = starts.iter().max().map_or(0, |&start| start as usize);
        Self { starts, largest }
    }

    pub(crate) fn starts(&self) -> &[u32] {
        &self.starts
    }

    pub(crate) fn largest(&self) -> usize {
        self.largest
    }
}

impl Plan {
    pub fn new(shape: &ConvShape, phases: &Phases, mut instructions: Instructions) -> Self {
        let mut pairs = match simd::takes_digits(instructions) {
            false => Pairs::None,
            true if shape.group_inputs() > 1 => Pairs::Channels,
            true => Pairs::Taps,
        };
        let mut entries = entries(phases, pairs);
        if pairs == Pairs::Taps
            && (shape.group_outputs() == 1 || 3 * entries.len() > 2 * phases.taps.len())
        {
            // too few outputs share the digits, or too few taps have a neighbour
            instructions = match instructions {
                Instructions::Avx512Vnni => simd::available(Instructions::Avx512),
                _ => Instructions::Portable,
            };
            pairs = Pairs::None;
            entries = self::entries(phases, pairs);
        }
        let reach = phases.taps.iter().map(|tap| tap.offset).max().unwrap_or(0);
        let positions = (shape.out_height() - 1) * phases.width + shape.out_width();
        let unit = simd::pixels(instructions);
        // as few tiles as that, but of equal size
        let tiles = positions.div_ceil(reach.clamp(256, 1024));
        let tile = positions.div_ceil(tiles).next_multiple_of(unit);
        // an odd number of cache lines, so that rows don't meet in a few sets of the cache
        let row = ((tile + reach).div_ceil(LINE) | 1) * LINE;
        let by_reads = (MAX_READ / words_read(phases)).max(1);
        let by_words = (MAX_SLAB / (row * phases.origins.len())).max(1);
        // as few slabs as that, but of equal size
        let slabs = (shape.group_inputs()).div_ceil(by_reads.min(by_words));
        let channels = shape.group_inputs().div_ceil(slabs);
        let mut plan = Self {
            instructions,
            pairs,
            tile,
            reach,
            row,
            channels: match pairs {
                Pairs::Channels => channels.next_multiple_of(2),
                Pairs::None | Pairs::Taps => channels,
            },
            planes_per_channel: phases.origins.len(),
            entries,
            offsets: Offsets::new(Vec::new()),
        };
        let mut starts = Vec::with_capacity(plan.rows(plan.channels));
        for unit in 0..plan.units(plan.channels) {
            for entry in &plan.entries {
                let plane = unit * phases.origins.len() + entry.phase;
                starts.push((plane * plan.plane_len() + entry.offset) as u32);
            }
        }
        plan.offsets = Offsets::new(starts);
        plan
    }

    /// Positions that are computed of a tile with so many ahead of it.
    pub fn length(&self, ahead: usize) -> usize {
        let unit = simd::pixels(self.instructions);
        self.tile.min(ahead.next_multiple_of(unit))
    }

    /// Rows of the product for `channels` input channels.
    pub fn rows(&self, channels: usize) -> usize {
        self.units(channels) * self.entries.len()
    }

    /// Channels, or pairs of them: each has a row of the product per entry.
    fn units(&self, channels: usize) -> usize {
        match self.pairs {
            Pairs::Channels => channels.div_ceil(2),
            Pairs::None | Pairs::Taps => channels,
        }
    }

    /// Words of a plane in the slab: one row, or a row of low digits and one of high ones.
    fn plane_len(&self) -> usize {
        match self.pairs {
            Pairs::None => self.row,
            Pairs::Channels | Pairs::Taps => 2 * self.row,
        }
    }

    pub fn slab_len(&self) -> usize {
        self.units(self.channels) * self.planes_per_channel * self.plane_len()
    }

    /// The weights in the order in which `add_part` reads them, sign-extended, or as pairs of 16 bits for digits.
    pub fn panels(&self, shape: &ConvShape, weights: &[i16]) -> Vec<u32> {
        let (inputs, outputs) = (shape.group_inputs(), shape.group_outputs());
        let taps: usize = shape.spec().kernel.iter().product();
        let step = if self.pairs == Pairs::Channels { 2 } else { 1 };
        let mut panels = Vec::with_capacity(weights.len() + weights.len() / 8);
        for group in 0..shape.spec().groups {
            for from in (0..inputs).step_by(self.channels) {
                let to = inputs.min(from + self.channels);
                for (at, block) in blocks(outputs) {
                    for input in (from..to).step_by(step) {
                        for entry in &self.entries {
                            for output in at..at + block {
                                let channel = ((group * outputs + output) * inputs + input) * taps;
                                let first = weights[channel + entry.tap];
                                let second = match self.pairs {
                                    Pairs::Channels if input + 1 < to => {
                                        weights[channel + taps + entry.tap]
                                    }
                                    Pairs::Taps => {
                                        entry.next.map_or(0, |tap| weights[channel + tap])
                                    }
                                    Pairs::None | Pairs::Channels => 0,
                                };
                                panels.push(match self.pairs {
                                    Pairs::None => i32::from(first) as u32,
                                    Pairs::Channels | Pairs::Taps => {
                                        u32::from(first as u16) | u32::from(second as u16) << 16
                                    }
                                });
                            }
                        }
                    }
                }
            }
        }
        panels
    }

    /// Copies `length` positions from `start` on, and what taps reach beyond, of `count` channels' planes from `plane` on
    /// into the slab; beyond a plane is 0.
    pub fn fill_slab(
        &self,
        planes: &Rasters<'_>,
        (plane, count): (usize, usize),
        (start, length): (usize, usize),
        slab: &mut [u32],
    ) {
        let per_channel = self.planes_per_channel;
        let read = length + self.reach;
        let pieces = planes.pieces(start, read);
        // of pairs of taps
        let (mut pixels, next) = match self.pairs {
            Pairs::Taps => (vec![0; read + 1], planes.pieces(start, read + 1)),
            Pairs::None | Pairs::Channels => (Vec::new(), Vec::new()),
        };
        let units = self.units(count) * per_channel;
        for (index, rows) in (slab.chunks_exact_mut(self.plane_len()).take(units)).enumerate() {
            let (unit, phase) = (index / per_channel, index % per_channel);
            let at = |channel: usize| plane + channel * per_channel + phase;
            if self.pairs == Pairs::None {
                planes.copy(at(unit), &pieces, &mut rows[..read]);
                continue;
            }
            let (low, high) = rows.split_at_mut(self.row);
            let (low, high) = (&mut low[..read], &mut high[..read]);
            if self.pairs == Pairs::Taps {
                planes.copy(at(unit), &next, &mut pixels);
            }
            simd::widened(
                #[inline(always)]
                || {
                    if self.pairs == Pairs::Taps {
                        split_digits(&pixels[..read], Some(&pixels[1..]), low, high);
                        return;
                    }
                    let (first, second) = (at(2 * unit), at(2 * unit + 1));
                    let mut done = 0;
                    for &piece in &pieces {
                        let one = planes.piece(first, piece);
                        let other = (2 * unit + 1 < count).then(|| planes.piece(second, piece));
                        let here = done..done + one.len();
                        done = here.end;
                        split_digits(one, other, &mut low[here.clone()], &mut high[here]);
                    }
                    low[done..].fill(0);
                    high[done..].fill(0);
                },
            );
        }
    }
}

/// The rows of the product for one channel.
fn entries(phases: &Phases, pairs: Pairs) -> Vec<Entry> {
    let mut taps: Vec<_> = phases.taps.iter().enumerate().collect();
    if pairs == Pairs::Taps {
        taps.sort_by_key(|(_, tap)| (tap.phase, tap.offset));
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(taps.len());
    for (index, tap) in taps {
        if let Some(last) = entries.last_mut()
            && pairs == Pairs::Taps
            && last.next.is_none()
            && (last.phase, last.offset + 1) == (tap.phase, tap.offset)
        {
            last.next = Some(index);
            continue;
        }
        entries.push(Entry {
            phase: tap.phase,
            offset: tap.offset,
            tap: index,
            next: None,
        });
    }
    entries
}

/// Words that the taps of one channel read for a strip, in whole cache lines.
fn words_read(phases: &Phases) -> usize {
    let mut lines: Vec<_> = (phases.taps.iter())
        .flat_map(|tap| {
            let lines = tap.offset / LINE..(tap.offset + STRIP).div_ceil(LINE);
            lines.map(|line| (tap.phase, line))
        })
        .collect();
    lines.sort_unstable();
    lines.dedup();
    lines.len() * LINE
}

/// Splits two rows of equal length in signed 16-bit digits: `x = low + 2^16 high` modulo 2^32, the pair side by side in
/// one word; zeros are beside a row that is alone.
#[inline(always)]
fn split_digits(first: &[u32], second: Option<&[u32]>, low: &mut [u32], high: &mut [u32]) {
    let digits = low.iter_mut().zip(high).zip(first);
    match second {
        None => {
            for ((low, high), &a) in digits {
                (*low, *high) = (a & 0xffff, a.wrapping_add(0x8000) >> 16);
            }
        }
        Some(second) => {
            for (((low, high), &a), &b) in digits.zip(second) {
                *low = a & 0xffff | b << 16;
                *high = a.wrapping_add(0x8000) >> 16 | b.wrapping_add(0x8000) & 0xffff_0000;
            }
        }
    }
}

/// Cuts `outputs` channels in blocks of nearly equal size of at most [`BLOCK`]: (first channel, size).
pub(super) fn blocks(outputs: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = outputs.div_ceil(BLOCK);
    (0..count).map(move |i| {
        let (from, to) = (i * outputs / count, (i + 1) * outputs / count);
        (from, to - from)
    })
}
