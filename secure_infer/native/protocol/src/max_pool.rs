//! Max-pooling as two passes of pairwise maxima, first along rows, then along columns.
//!
//! Function: `max(a, b) = b + ReLU(a - b)`, where H chooses its share so that the result carries the
//! mask it wants. Requires: the window of the step holds for every difference. Error: up to 2^(m-1) per
//! comparison. Rounds: those of one ReLU per comparison of a window, `(width - 1) + (height - 1)`.
//! Security: that of [`crate::relu`].
//! Which elements meet which is public; this file only lists it.

use blindread_pool::Workers;
use blindread_ring::widened;

use crate::local::window;
use crate::program::MaxPool;

/// Elements of parts that a thread takes at once.
const BLOCK: usize = 1 << 14;

/// Neighbours in the running maximum, and the source positions that they meet, at equal distances.
struct Run {
    /// Comparisons of the round before these.
    index: usize,
    kept: usize,
    challenger: usize,
    distance: usize,
    count: usize,
}

/// One set of comparisons that can run together, in the order of the running maximum.
#[derive(Default)]
pub struct Round {
    runs: Vec<Run>,
    count: usize,
}

/// One pass along one axis: a pattern of positions that repeats in every part of the source.
pub struct Stage {
    parts: usize,
    /// Elements of one part of the source.
    source: usize,
    /// Where each element of the running maximum comes from: the first position of its window.
    first: Round,
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
        let (mut first, mut rounds) = (Round::default(), Vec::<Round>::new());
        for (kept, (start, distance, count)) in windows.enumerate() {
            first.push(kept, start);
            rounds.resize_with(rounds.len().max(count - 1), Round::default);
            for (t, round) in rounds[..count - 1].iter_mut().enumerate() {
                round.push(kept, start + (t + 1) * distance);
            }
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
        self.parts * round.count
    }

    /// Elements of the running maximum.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.comparisons(&self.first)
    }

    fn parts_at_once(&self) -> usize {
        (BLOCK / self.source).max(1)
    }

    /// The running maximum before the first round.
    pub fn begin(&self, workers: &Workers, source: &[u32], best: &mut [u32]) {
        let (n, at_once) = (self.first.count, self.parts_at_once());
        let blocks = (best.chunks_mut(at_once * n)).zip(source.chunks(at_once * self.source));
        workers.each(blocks, |(best, source)| {
            let parts = best
                .chunks_exact_mut(n)
                .zip(source.chunks_exact(self.source));
            widened(
                #[inline(always)]
                || {
                    for (best, source) in parts {
                        for run in &self.first.runs {
                            let best = &mut best[run.kept..][..run.count];
                            run.meet(source, |i, challenger| best[i] = challenger);
                        }
                    }
                },
            );
        });
    }

    /// The running maximum minus its challengers.
    pub fn differences(
        &self,
        workers: &Workers,
        round: &Round,
        (source, best): (&[u32], &[u32]),
        mask: u32,
        differences: &mut [u32],
    ) {
        let at_once = self.parts_at_once();
        let blocks = (differences.chunks_mut(at_once * round.count))
            .zip(source.chunks(at_once * self.source))
            .zip(best.chunks(at_once * self.first.count));
        workers.each(blocks, |((differences, source), best)| {
            let parts = (differences.chunks_exact_mut(round.count))
                .zip(source.chunks_exact(self.source))
                .zip(best.chunks_exact(self.first.count));
            widened(
                #[inline(always)]
                || {
                    for ((differences, source), best) in parts {
                        for run in &round.runs {
                            let differences = &mut differences[run.index..][..run.count];
                            let best = &best[run.kept..][..run.count];
                            run.meet(source, |i, challenger| {
                                differences[i] = best[i].wrapping_sub(challenger) & mask;
                            });
                        }
                    }
                },
            );
        });
    }

    /// The running maximum after a round with the given results: result plus challenger.
    pub fn update(
        &self,
        workers: &Workers,
        round: &Round,
        (source, results): (&[u32], &[u32]),
        mask: u32,
        best: &mut [u32],
    ) {
        let at_once = self.parts_at_once();
        let blocks = (results.chunks(at_once * round.count))
            .zip(source.chunks(at_once * self.source))
            .zip(best.chunks_mut(at_once * self.first.count));
        workers.each(blocks, |((results, source), best)| {
            let parts = (results.chunks_exact(round.count))
                .zip(source.chunks_exact(self.source))
                .zip(best.chunks_exact_mut(self.first.count));
            widened(
                #[inline(always)]
                || {
                    for ((results, source), best) in parts {
                        for run in &round.runs {
                            let results = &results[run.index..][..run.count];
                            let best = &mut best[run.kept..][..run.count];
                            run.meet(source, |i, challenger| {
                                best[i] = results[i].wrapping_add(challenger) & mask;
                            });
                        }
                    }
                },
            );
        });
    }
}

impl Round {
    fn push(&mut self, kept: usize, challenger: usize) {
        let index = self.count;
        self.count += 1;
        if let Some(run) = self.runs.last_mut()
            && run.kept + run.count == kept
            && let Some(distance) = challenger.checked_sub(run.last())
            && (run.count == 1 || run.distance == distance)
        {
            (run.distance, run.count) = (distance, run.count + 1);
            return;
        }
        self.runs.push(Run {
            index,
            kept,
            challenger,
            distance: 0,
            count: 1,
        });
    }
}

impl Run {
    /// The last source position.
    fn last(&self) -> usize {
        self.challenger + (self.count - 1) * self.distance
    }

    /// Calls `visit` with every challenger in one part of the source, and how many came before it.
    #[inline(always)]
    fn meet(&self, source: &[u32], mut visit: impl FnMut(usize, u32)) {
        let source = &source[self.challenger..=self.last()];
        match self.distance {
            1 => {
                for (i, &challenger) in source.iter().enumerate() {
                    visit(i, challenger);
                }
            }
            2 => {
                for (i, pair) in source.as_chunks::<2>().0.iter().enumerate() {
                    visit(i, pair[0]);
                }
                visit(self.count - 1, source[source.len() - 1]);
            }
            distance => {
                for i in 0..self.count {
                    visit(i, source[i * distance]);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest element of every window, by comparing positions one by one.
    fn by_windows([channels, height, width]: [usize; 3], step: &MaxPool, map: &[u32]) -> Vec<u32> {
        let extents = [height, width];
        let covered = |axis: usize, at| {
            let (before, pool) = (step.padding[2 * axis], step.pool[axis]);
            window(at, step.stride[axis], before, pool, extents[axis])
        };
        let outputs = |axis: usize| {
            let padded = extents[axis] + step.padding[2 * axis] + step.padding[2 * axis + 1];
            (padded - step.pool[axis]) / step.stride[axis] + 1
        };
        let mut largest = Vec::new();
        for channel in 0..channels {
            for y in 0..outputs(0) {
                for x in 0..outputs(1) {
                    let pixels = covered(0, y).flat_map(|y| covered(1, x).map(move |x| (y, x)));
                    let pixels = pixels.map(|(y, x)| map[(channel * height + y) * width + x]);
                    largest.push(pixels.max().unwrap());
                }
            }
        }
        largest
    }

    #[test]
    fn two_passes_of_pairwise_maxima_give_the_largest_of_every_window() {
        let workers = Workers::new(2).unwrap();
        let cases = [
            ([2, 2], [2, 2], [0, 0, 0, 0]),
            ([3, 3], [2, 2], [1, 1, 1, 1]),
            ([3, 3], [2, 2], [0, 1, 0, 1]),
            ([3, 3], [1, 1], [1, 1, 1, 1]),
            ([3, 4], [1, 3], [2, 0, 1, 2]),
            ([5, 2], [3, 1], [2, 2, 0, 1]),
            ([1, 3], [1, 1], [0, 0, 2, 2]),
            ([1, 1], [1, 1], [0, 0, 0, 0]),
        ];
        for (pool, stride, padding) in cases {
            for shape in [[1, 6, 7], [3, 9, 5], [40, 24, 22]] {
                let step = MaxPool {
                    name: String::new(),
                    input: 0,
                    out: 1,
                    window: [0, 31],
                    pool,
                    stride,
                    padding,
                };
                let n: usize = shape.iter().product();
                let map: Vec<u32> = (0..n as u32)
                    .map(|i| i.wrapping_mul(0x9e37_79b9) >> 2)
                    .collect();
                let mut source = map.clone();
                for stage in stages(shape, &step) {
                    let mut best = vec![0; stage.outputs()];
                    stage.begin(&workers, &source, &mut best);
                    for round in stage.rounds() {
                        let mut y = vec![0; stage.comparisons(round)];
                        let mask = u32::MAX;
                        stage.differences(&workers, round, (&source, &best), mask, &mut y);
                        for y in &mut y {
                            *y = (*y as i32).max(0) as u32;
                        }
                        stage.update(&workers, round, (&source, &y), mask, &mut best);
                    }
                    source = best;
                }
                assert_eq!(
                    source,
                    by_windows(shape, &step, &map),
                    "{pool:?} {stride:?} {padding:?} {shape:?}"
                );
            }
        }
    }
}
