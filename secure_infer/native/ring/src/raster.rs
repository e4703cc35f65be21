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

    /// The positions of one channel's raster from `start` on, at most `len`.
    fn pieces(&self, start: usize, len: usize) -> Vec<Piece> {
        let (mut y, mut x) = (start / self.width, start % self.width);
        let mut left = len.min(self.pixels().saturating_sub(start));
        let mut pieces: Vec<Piece> = Vec::new();
        while left > 0 {
            let above = y.saturating_sub(self.top).min(self.inner_height);
            // border pixels before this row: all above it that are not in the map
            let before = y * self.width - above * self.inner_width;
            let right = self.left + self.inner_width;
            let inside = above == y.wrapping_sub(self.top) && above < self.inner_height;
            let (border, from, end) = match x {
                x if inside && x < self.left => (true, before + x, self.left),
                x if inside && x < right => {
                    (false, above * self.inner_width + x - self.left, right)
                }
                x if inside => (true, before + x - self.inner_width, self.width),
                x => (true, before + x, self.width),
            };
            let len = (end - x).min(left);
            left -= len;
            x += len;
            if x == self.width {
                (y, x) = (y + 1, 0);
            }
            match pieces.last_mut() {
                Some(last) if last.border == border && last.from + last.len == from => {
                    last.len += len;
                }
                _ => pieces.push(Piece { border, from, len }),
            }
        }
        pieces
    }
}

/// Positions of a raster that lie together in its map, or in its border.
#[derive(Clone, Copy)]
pub(crate) struct Piece {
    border: bool,
    from: usize,
    len: usize,
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

    /// The positions of a raster from `start` on, at most `len` and fewer where it ends: the same pieces for all.
    pub(crate) fn pieces(&self, start: usize, len: usize) -> Vec<Piece> {
        match self {
            Self::Whole { pixels, .. } => {
                let from = start.min(*pixels);
                let len = len.min(pixels - from);
                let border = false;
                vec![Piece { border, from, len }]
            }
            Self::Parts(Parts { frame, .. }) => frame.pieces(start, len),
        }
    }

    /// A piece of a raster.
    #[inline(always)]
    pub(crate) fn piece(&self, raster: usize, piece: Piece) -> &'a [u32] {
        let Piece { border, from, len } = piece;
        let (words, pixels) = match self {
            Self::Whole { words, pixels } => (*words, *pixels),
            Self::Parts(Parts { padded, frame }) => {
                let inner = frame.inner_height * frame.inner_width;
                if border {
                    (padded.border, frame.pixels() - inner)
                } else {
                    (padded.map, inner)
                }
            }
        };
        &words[raster * pixels + from..][..len]
    }

    /// Copies pieces of a raster; what is behind them is 0.
    #[inline(always)]
    pub(crate) fn copy(&self, raster: usize, pieces: &[Piece], mut out: &mut [u32]) {
        for &piece in pieces {
            let words = self.piece(raster, piece);
            let (now, later) = out.split_at_mut(words.len());
            now.copy_from_slice(words);
            out = later;
        }
        out.fill(0);
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
                        let expected = &whole[start.min(pixels)..(start + len).min(pixels)];
                        let mut copy = vec![7; expected.len() + 1];
                        rasters.copy(raster, &rasters.pieces(start, len), &mut copy);
                        assert_eq!(copy, [expected, &[0]].concat());
                    }
                }
            }
        }
    }
}
