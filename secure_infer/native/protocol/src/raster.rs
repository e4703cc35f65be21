//! Between a map and its zero-padded raster.

use std::ops::Range;

use blindread_pool::Workers;
use blindread_ring::ConvShape;

/// Elements that a thread takes at once.
const BLOCK: usize = 1 << 14;

/// The positions of a padded channel, row by row: `visit(position, inside the map)`.
fn channel_rows(shape: &ConvShape, mut visit: impl FnMut(Range<usize>, bool)) {
    let spec = shape.spec();
    let [top, _, left, _] = spec.padding;
    let width = shape.padded_width();
    for y in 0..shape.padded_height() {
        let start = y * width;
        if (top..top + spec.in_height).contains(&y) {
            visit(start..start + left, false);
            visit(start + left..start + left + spec.in_width, true);
            visit(start + left + spec.in_width..start + width, false);
        } else {
            visit(start..start + width, false);
        }
    }
}

/// Elements of the padded raster that are padding.
#[must_use]
pub fn border_len(shape: &ConvShape) -> usize {
    let spec = shape.spec();
    shape.padded_len() - spec.in_channels * spec.in_height * spec.in_width
}

/// Splits a padded raster into the map and its border.
#[must_use]
pub fn split(shape: &ConvShape, padded: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut map = Vec::with_capacity(padded.len() - border_len(shape));
    let mut border = Vec::with_capacity(border_len(shape));
    let raster = shape.padded_height() * shape.padded_width();
    for padded in padded.chunks_exact(raster) {
        channel_rows(shape, |at, inside| {
            if inside {
                map.extend(&padded[at])
            } else {
                border.extend(&padded[at])
            }
        });
    }
    (map, border)
}

/// The inverse of [`split`], into the beginning of `padded`; the map itself where nothing is padded.
#[must_use]
pub fn join<'a>(
    workers: &Workers,
    shape: &ConvShape,
    map: &'a [u32],
    border: &[u32],
    padded: &'a mut [u32],
) -> &'a [u32] {
    if border.is_empty() {
        return map;
    }
    let channels = shape.spec().in_channels;
    let [raster, inner, outer] =
        [shape.padded_len(), map.len(), border.len()].map(|len| len / channels);
    let at_once = channels_at_once(raster);
    let padded = &mut padded[..shape.padded_len()];
    let blocks = (padded.chunks_mut(at_once * raster))
        .zip(map.chunks(at_once * inner))
        .zip(border.chunks(at_once * outer));
    workers.each(blocks, |((padded, map), border)| {
        let (mut map, mut border) = (map, border);
        for padded in padded.chunks_exact_mut(raster) {
            channel_rows(shape, |at, inside| {
                let source = if inside { &mut map } else { &mut border };
                let (now, later) = source.split_at(at.len());
                padded[at].copy_from_slice(now);
                *source = later;
            });
        }
    });
    padded
}

/// Channels of so many elements that a thread takes at once.
pub fn channels_at_once(elements: usize) -> usize {
    (BLOCK / elements.max(1)).max(1)
}
