//! Between a map and its zero-padded raster.

use blindread_ring::ConvShape;

/// The positions of a padded raster, row by row: `visit(position, inside the map)`.
fn rows(shape: &ConvShape, mut visit: impl FnMut(std::ops::Range<usize>, bool)) {
    let spec = shape.spec();
    let [top, _, left, _] = spec.padding;
    let (height, width) = (shape.padded_height(), shape.padded_width());
    for channel in 0..spec.in_channels {
        for y in 0..height {
            let start = (channel * height + y) * width;
            if (top..top + spec.in_height).contains(&y) {
                visit(start..start + left, false);
                visit(start + left..start + left + spec.in_width, true);
                visit(start + left + spec.in_width..start + width, false);
            } else {
                visit(start..start + width, false);
            }
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
    rows(shape, |at, inside| {
        if inside {
            map.extend(&padded[at])
        } else {
            border.extend(&padded[at])
        }
    });
    (map, border)
}

/// The inverse of [`split`].
#[must_use]
pub fn join(shape: &ConvShape, map: &[u32], border: &[u32]) -> Vec<u32> {
    let mut padded = Vec::with_capacity(shape.padded_len());
    let (mut map, mut border) = (map, border);
    rows(shape, |at, inside| {
        let source = if inside { &mut map } else { &mut border };
        let (now, later) = source.split_at(at.len());
        padded.extend(now);
        *source = later;
    });
    padded
}
