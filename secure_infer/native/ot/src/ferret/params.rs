//! Parameters of `ferret`, with where they come from.
//!
//! Regular-noise primal LPN: n = [`TREES`] * [`BIN`] samples of a secret of [`K`] elements under a public
//! [`LOCALITY`]-local code, with exactly one error in every bin. The same numbers serve F_2 and F_16.
//! Every estimate below is our own evaluation (the tests of this file compute them); for F_16 the attacks
//! are those of F_2 with costlier arithmetic, so that the smaller number counts for both.
//!
//! | attack | source of the formula | log2 of operations |
//! |---|---|---|
//! | pooled Gauss, regular noise, k^2.8 per trial | Liu, Wang, Yang, Yu, eprint 2022/712 | 240 |
//! | the same on columns that close early, 30 s^2 per trial | own, below | 155 |
//! | statistical decoding | 2022/712 | above 380 |
//! | information sets with two lists (SD-ISD) | 2022/712 | above 220 |
//! | algebraic (AGB) with guesses, over the n unknowns | Briaud, Oygard, eprint 2023/176 | above 200 |
//! | the same in k unknowns with sparse equations | own, below | 181 |
//!
//! The third column is rounded down. *Columns that close early*: rows of the code have only ten entries, so there
//! are sets S of columns that contain as many whole rows as columns; then |S| clean samples instead of k are enough. A
//! random set does for |S| = k (n/k)^(-1/9), and taking away columns of lowest degree first gives 0.63 k at
//! n/k = 16 (measured in the tests). It costs 0.63 in the exponent, and the system is sparse (Wiedemann, 3 * 10 *
//! s^2). For this reason the sets that are usual for random codes are *not* taken here: k = 2^19, t = 1900, bins of
//! 2^13 give 147 by pooled Gauss, but 0.58 k columns and 2^98 this way. We know of no publication of it; k / bin =
//! 128 leaves a margin for better ways to find S.
//! *Sparse algebra*: e_i e_j = 0 within a bin is a quadratic equation in the k unknowns with about 100 terms. At
//! degree d there are k^d / d! monomials and Wiedemann costs 3 * (10^d terms) * monomials^2; positions guessed
//! to be clean lower k until the Hilbert series of 2023/176 ends at d. k = 2^19, t = 1900, 2^13: 2^110.
//! Not covered: AGB 2.0 (eprint 2025/1476), which improves the algebraic attack; the margin of 50 bits is meant
//! for such things.
//!
//! Why k = 2^18 and bins of 2^11, not twice both: traffic doubles (0.74 bits per random OT instead of 0.40), but the
//! table is 4 MB instead of 8 MB and random reads take less than half the time.

/// log2 of [`K`].
pub(crate) const LOG_K: u32 = 18;
/// Elements of the LPN secret.
pub(crate) const K: usize = 1 << LOG_K;
/// log2 of [`BIN`]: levels of a tree.
pub(crate) const LOG_BIN: usize = 11;
/// Samples with one error among them: leaves of a tree.
pub(crate) const BIN: usize = 1 << LOG_BIN;
/// Errors: trees of a round.
pub(crate) const TREES: usize = 1 << 11;
/// Entries in a row of the code.
pub(crate) const LOCALITY: usize = 10;

/// The parameters as text, for both parties to compare.
pub const PARAMETERS: &str = "primal k=2^18 t=2^11 bin=2^11 d=10";
