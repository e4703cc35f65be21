//! Max-pooling as two passes of pairwise maxima, first along rows, then along columns.
//!
//! Function: `max(a, b) = b + ReLU(a - b)`, where H chooses its share so that the result carries the
//! mask it wants. Requires: the window of the step holds for every difference. Error: up to 2^(m-1) per
//! comparison. Rounds: those of one ReLU per comparison of a window, `(width - 1) + (height - 1)`.
//! Security: that of [`crate::relu`].
//! Which elements meet which is public; this file only lists it.

use blindread_pool::Workers;

use crate::local::window;
use crate::program::MaxPool;

/// Elements of parts that a thread takes at once.
const BLOCK: usize = 1 << 14;

/// One set of comparisons that can run together.
pub struct Round {
    /// Positions of the running maximum that take part.
    kept: Vec<u32>,
    /// Positions in the source that each is compared with.
    challenger: Vec<u32>,
}

/// One pass along one axis: a pattern of positions that repeats in every part of the source.
pub struct Stage {
    parts: usize,
    /// Elements of one part of the source.
    source: usize,
    /// Source position of each first element.
    first: Vec<u32>,
    rounds: Vec<Round>,
}

/// The two passes of a max-pool over an input of the given shape; the parts are the rows, then the channels.
#[must_use]
pub fn stages([channels, height, width]: [usize; 3], step: &MaxPool) -> [Stage; 2] {
    let extent = |size: usize, axis: usize| {
        (size + step.padding[2 * axis] + step.padding[2 * axis + 1] - step.pool[axis])
            / step.stride[axis]
            + 1
    };
    let (out_height, out_width) = (extent(height, 0), extent(width, 1));
    let columns = |x| window(x, step.stride[1], step.padding[2], step.pool[1], width);
    let rows = |y| window(y, step.stride[0], step.padding[0], step.pool[0], height);
    let along_row = (0..out_width).map(|x| (columns(x).start, 1, columns(x).len()));
    let along_column = (0..out_height * out_width).map(|at| {
        let (rows, x) = (rows(at / out_width), at % out_width);
        (rows.start * out_width + x, out_width, rows.len())
    });
    [
        Stage::new(channels * height, width, along_row),
        Stage::new(channels, height * out_width, along_column),
    ]
}

impl Stage {
    /// Of every output of one part: the first source position, the distance to the next and how many there are.
    fn new(
        parts: usize,
        source: usize,
        windows: impl Iterator<Item = (usize, usize, usize)>,
    ) -> Self {
        let (mut first, mut rounds): (_, Vec<Round>) = (Vec::new(), Vec::new());
        for (start, distance, count) in windows {
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
        Self {
            parts,
            source,
            first,
            rounds,
        }
    }

    /// The comparisons, in order.
    pub fn rounds(&self) -> impl Iterator<Item = &Round> {
        self.rounds.iter()
    }

    /// Comparisons of one round in all parts.
    #[must_use]
    pub fn comparisons(&self, round: &Round) -> usize {
        self.parts * round.kept.len()
    }

    fn parts_at_once(&self) -> usize {
        (BLOCK / self.source).max(1)
    }

    /// The running maximum before the first round.
    #[must_use]
    pub fn begin(&self, workers: &Workers, source: &[u32]) -> Vec<u32> {
        let mut best = vec![0; self.parts * self.first.len()];
        let blocks = (best.chunks_mut(self.parts_at_once() * self.first.len()))
            .zip(source.chunks(self.parts_at_once() * self.source));
        workers.each(blocks, |(best, source)| {
            let parts = best.chunks_exact_mut(self.first.len());
            for (best, source) in parts.zip(source.chunks_exact(self.source)) {
                for (best, &at) in best.iter_mut().zip(&self.first) {
                    *best = source[at as usize];
                }
            }
        });
        best
    }

    /// The running maximum minus its challengers.
    #[must_use]
    pub fn differences(
        &self,
        workers: &Workers,
        round: &Round,
        source: &[u32],
        best: &[u32],
        mask: u32,
    ) -> Vec<u32> {
        let (n, at_once) = (round.kept.len(), self.parts_at_once());
        let mut differences = vec![0; self.comparisons(round)];
        let blocks = (differences.chunks_mut(at_once * n))
            .zip(source.chunks(at_once * self.source))
            .zip(best.chunks(at_once * self.first.len()));
        workers.each(blocks, |((differences, source), best)| {
            let parts = (differences.chunks_exact_mut(n))
                .zip(source.chunks_exact(self.source))
                .zip(best.chunks_exact(self.first.len()));
            for ((differences, source), best) in parts {
                let positions = round.kept.iter().zip(&round.challenger);
                for (difference, (&kept, &challenger)) in differences.iter_mut().zip(positions) {
                    *difference =
                        best[kept as usize].wrapping_sub(source[challenger as usize]) & mask;
                }
            }
        });
        differences
    }

    /// The running maximum after a round with the given results: result plus challenger.
    pub fn update(
        &self,
        workers: &Workers,
        round: &Round,
        source: &[u32],
        results: &[u32],
        mask: u32,
        best: &mut [u32],
    ) {
        let (n, at_once) = (round.kept.len(), self.parts_at_once());
        let blocks = (results.chunks(at_once * n))
            .zip(source.chunks(at_once * self.source))
            .zip(best.chunks_mut(at_once * self.first.len()));
        workers.each(blocks, |((results, source), best)| {
            let parts = (results.chunks_exact(n))
                .zip(source.chunks_exact(self.source))
                .zip(best.chunks_exact_mut(self.first.len()));
            for ((results, source), best) in parts {
                let positions = round.kept.iter().zip(&round.challenger);
                for (result, (&kept, &challenger)) in results.iter().zip(positions) {
                    best[kept as usize] = result.wrapping_add(source[challenger as usize]) & mask;
                }
            }
        });
    }
}
