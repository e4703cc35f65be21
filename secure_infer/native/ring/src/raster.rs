//! Between maps and their padded rasters: what is around the maps, and both put together again.

use crate::shape::ConvShape;

/// Zero-padded rasters as the maps of all channels and what is around them, in the order of [`split`].
#[derive(Clone, Copy)]
pub struct Padded<'a> {
    /// The pixels inside of the maps.
    pub map: &'a [u32],
    /// The others; [`border_len`] of them.
    pub border: &'a [u32],
}

/// Elements of the padded raster that are padding.
#[must_use]
pub fn border_len(shape: &ConvShape) -> usize {
    let spec = shape.spec();
    shape.padded_len() - spec.in_channels * spec.in_height * spec.in_width
}

/// Splits a padded raster into the map and its border, channel by channel and row by row.
#[must_use]
pub fn split(shape: &ConvShape, padded: &[u32]) -> (Vec<u32>, Vec<u32>) {
    let mut map = Vec::with_capacity(padded.len() - border_len(shape));
    let mut border = Vec::with_capacity(border_len(shape));
    let frame = Frame::new(shape);
    for padded in padded.chunks_exact(frame.pixels()) {
        for (y, row) in padded.chunks_exact(frame.width).enumerate() {
            if (frame.top..frame.top + frame.inner_height).contains(&y) {
                let (left, row) = row.split_at(frame.left);
                let (inner, right) = row.split_at(frame.inner_width);
                border.extend(left);
                map.extend(inner);
                border.extend(right);
            } else {
                border.extend(row);
            }
        }
    }
    (map, border)
}

/// Where the map is in its padded raster.
#[derive(Clone, Copy)]
struct Frame {
    top: usize,
    left: usize,
    inner_height: usize,
    inner_width: usize,
    height: usize,
    width: usize,
}

impl Frame {
    fn new(shape: &ConvShape) -> Self {
        let spec = shape.spec();
        Self {
            top: spec.padding[0],
            left: spec.padding[2],
            inner_height: spec.in_height,
            inner_width: spec.in_width,
            height: shape.padded_height(),
            width: shape.padded_width(),
        }
    }

    fn pixels(&self) -> usize {
        self.height * self.width
    }

    /// Copies the positions of one channel's raster from `start` on.
    fn join(&self, map: &[u32], border: &[u32], start: usize, out: &mut [u32]) {
        let (mut y, mut x) = (start / self.width, start % self.width);
        let mut out = out;
        while !out.is_empty() && y < self.height {
            let above = y.saturating_sub(self.top).min(self.inner_height);
            // border pixels before this row: all above it that are not in the map
            let before = y * self.width - above * self.inner_width;
            let right = self.left + self.inner_width;
            let (source, end) = if above == y.wrapping_sub(self.top) && above < self.inner_height {
                match x {
                    x if x < self.left => (&border[before + x..], self.left),
                    x if x < right => (&map[above * self.inner_width + x - self.left..], right),
                    x => (&border[before + x - self.inner_width..], self.width),
                }
            } else {
                (&border[before + x..], self.width)
            };
            let (now, later) = out.split_at_mut((end - x).min(out.len()));
            if let [pixel] = now {
                *pixel = source[0];
            } else {
                now.copy_from_slice(&source[..now.len()]);
            }
            x += now.len();
            if x == self.width {
                (y, x) = (y + 1, 0);
            }
            out = later;
        }
        out.fill(0);
    }
}

/// Rasters of equal size that rows are read from: whole ones, or maps and borders that are joined on the way.
#[derive(Clone, Copy)]
pub(crate) enum Rasters<'a> {
    Whole { words: &'a [u32], pixels: usize },
    Parts(Parts<'a>),
}

#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    padded: Padded<'a>,
    frame: Frame,
}

impl<'a> Rasters<'a> {
    /// The inputs of a convolution.
    pub(crate) fn new(shape: &ConvShape, padded: Padded<'a>) -> Self {
        let frame = Frame::new(shape);
        if padded.border.is_empty() {
            return Self::Whole {
                words: padded.map,
                pixels: frame.pixels(),
            };
        }
        Self::Parts(Parts { padded, frame })
    }

    /// At most `scratch.len()` positions of a raster, from `start` on: fewer where it ends.
    pub(crate) fn read<'s>(&self, raster: usize, start: usize, scratch: &'s mut [u32]) -> &'s [u32]
    where
        'a: 's,
    {
        match self {
            Self::Whole { words, pixels } => {
                let raster = &words[raster * pixels..][..*pixels];
                let from = start.min(*pixels);
                &raster[from..(*pixels).min(start + scratch.len())]
            }
            Self::Parts(Parts { padded, frame }) => {
                let inner = frame.inner_height * frame.inner_width;
                let outer = frame.pixels() - inner;
                let len = scratch.len().min(frame.pixels().saturating_sub(start));
                let out = &mut scratch[..len];
                frame.join(
                    &padded.map[raster * inner..][..inner],
                    &padded.border[raster * outer..][..outer],
                    start,
                    out,
                );
                out
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::ConvSpec;

    #[test]
    fn pieces_read_from_any_position_are_those_of_the_whole() {
        for padding in [[0, 0, 0, 0], [1, 1, 1, 1], [0, 2, 3, 0], [3, 0, 0, 1]] {
            let shape = ConvShape::new(ConvSpec {
                in_channels: 2,
                in_height: 3,
                in_width: 4,
                out_channels: 1,
                kernel: [1, 1],
                stride: [1, 1],
                dilation: [1, 1],
                padding,
                groups: 1,
            })
            .unwrap();
            let whole: Vec<u32> = (1..).take(shape.padded_len()).collect();
            let (map, border) = split(&shape, &whole);
            assert_eq!((map.len(), border.len()), (24, border_len(&shape)));
            let (map, border) = (&map[..], &border[..]);
            let rasters = Rasters::new(&shape, Padded { map, border });
            let pixels = shape.padded_len() / 2;
            for (raster, whole) in whole.chunks(pixels).enumerate() {
                for start in 0..pixels + 2 {
                    for len in 0..pixels + 2 {
                        let mut scratch = vec![0; len];
                        let expected = &whole[start.min(pixels)..(start + len).min(pixels)];
                        assert_eq!(rasters.read(raster, start, &mut scratch), expected);
                    }
                }
            }
        }
    }
}
