//! How a long vector is cut so that computing and sending overlap.
//!
//! The online rounds of a vector run as a pipeline: while one party works on one lane, the other works on
//! the next. A lane fits into the caches; the lanes of a group are under way together, which bounds what
//! the network and the peer must hold. Both parties cut in the same way, from the length alone.

use std::ops::Range;

/// Lanes under way together.
const DEPTH: usize = 16;
/// Elements of a lane, at most.
const LARGEST: usize = 1 << 15;
/// Elements of a lane, at least, so that small vectors are not cut into tiny messages.
const SMALLEST: usize = 1 << 13;

/// The groups of lanes of a vector of `n` elements.
pub(crate) fn groups(n: usize) -> impl Iterator<Item = Vec<Range<usize>>> {
    let lane = (n / 8).next_multiple_of(64).clamp(SMALLEST, LARGEST);
    (0..n).step_by(lane * DEPTH).map(move |start| {
        let end = n.min(start + lane * DEPTH);
        (start..end)
            .step_by(lane)
            .map(|start| start..end.min(start + lane))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::groups;

    #[test]
    fn lanes_cover_a_vector_in_order() {
        for n in [0, 1, 8191, 8192, 8193, 100_000, 1 << 20, (1 << 20) + 7] {
            let mut at = 0;
            for lane in groups(n).flatten() {
                assert_eq!(lane.start, at);
                assert!(!lane.is_empty());
                at = lane.end;
            }
            assert_eq!(at, n);
        }
    }
}
