//! Max-pooling as two passes of pairwise maxima, first along rows, then along columns.
//!
//! Function: `max(a, b) = b + ReLU(a - b)`, where H chooses its share so that the result carries the
//! mask it wants. Requires: the window of the step holds for every difference. Error: up to 2^(m-1) per
//! comparison. Rounds: those of one ReLU per comparison of a window, `(width - 1) + (height - 1)`.
//! Security: that of [`crate::relu`].
//! Which elements meet which is public; this file only lists it.

use crate::local::window;
use crate::program::MaxPool;

/// One set of comparisons that can run together.
pub struct Round {
    /// Positions of the running maximum that take part.
    pub kept: Vec<u32>,
    /// Positions in the source that each is compared with.
    pub challenger: Vec<u32>,
}

/// One pass along one axis.
pub struct Stage {
    /// Source position of each first element.
    pub first: Vec<u32>,
    /// The comparisons, in order.
    pub rounds: Vec<Round>,
}

/// The two passes of a max-pool over an input of the given shape.
#[must_use]
pub fn stages(shape: [usize; 3], step: &MaxPool) -> [Stage; 2] {
    let [channels, height, width] = shape;
    let extent = |size: usize, axis: usize| {
        (size + step.padding[2 * axis] + step.padding[2 * axis + 1] - step.pool[axis])
            / step.stride[axis]
            + 1
    };
    let (out_height, out_width) = (extent(height, 0), extent(width, 1));
    let rows = stage(channels * height, out_width, |line, x| {
        let columns = window(x, step.stride[1], step.padding[2], step.pool[1], width);
        (line * width + columns.start, 1, columns.len())
    });
    let columns = stage(channels * out_height, out_width, |line, x| {
        let (channel, y) = (line / out_height, line % out_height);
        let rows = window(y, step.stride[0], step.padding[0], step.pool[0], height);
        (
            (channel * height + rows.start) * out_width + x,
            out_width,
            rows.len(),
        )
    });
    [rows, columns]
}

/// `source(line, x)` gives the first source position, the distance to the next and how many there are.
fn stage(
    lines: usize,
    width: usize,
    source: impl Fn(usize, usize) -> (usize, usize, usize),
) -> Stage {
    let mut first = Vec::with_capacity(lines * width);
    let mut rounds: Vec<Round> = Vec::new();
    for line in 0..lines {
        for x in 0..width {
            let (start, distance, count) = source(line, x);
            for t in 1..count {
                if rounds.len() < t {
                    rounds.push(Round {
                        kept: Vec::new(),
                        challenger: Vec::new(),
                    });
                }
                rounds[t - 1].kept.push(first.len() as u32);
                rounds[t - 1].challenger.push((start + t * distance) as u32);
            }
            first.push(start as u32);
        }
    }
    Stage { first, rounds }
}

/// Collects `source[positions]`.
#[must_use]
pub fn gather(source: &[u32], positions: &[u32]) -> Vec<u32> {
    positions.iter().map(|&p| source[p as usize]).collect()
}
