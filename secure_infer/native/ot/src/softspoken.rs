//! SoftSpokenOT with trees of 16 leaves: set-up and what both parties share.
//!
//! Reference: L. Roy, "SoftSpokenOT: quieter OT extension from small-field silent VOLE in the Minicrypt
//! model" (CRYPTO 2022, eprint 2022/192), sections 3.1 and 3.2: VOLE over a small field, here F_16, and
//! the repetition code of length 32, semi-honest.
//!
//! Function: receiver gets random u and v, sender with Delta in F_16^32 gets w = v + u*Delta, then both
//! hash. Two kinds, with separate streams and hashes on the same trees:
//! - `random_ot`: u in F_2; pads Hash(w), Hash(w + Delta) against u, Hash(v);
//! - `one_of_16`: two u in F_4, a subfield of F_16, make the four bits of a choice (M. Naor, B. Pinkas, "Oblivious
//!   transfer and polynomial evaluation", STOC 1999: one-of-N OT from log N smaller ones). Pad i is bit i of
//!   Hash(w + (i div 4)*Delta) of the first plus bit i of Hash(w + (i mod 4)*Delta) of the second: 8 hashes for
//!   16 pads. Of the 15 pads that the receiver lacks, 12 have an unknown bit of their own from the first
//!   OT's three unknown hashes, and the other 3 one from the second's.
//!
//! How: tree i gives leaf streams r_x, of bits or of elements of F_16. The receiver, who knows all, has
//! u_i = sum r_x and v_i = sum x*r_x; the sender, who misses leaf Delta_i, has sum (Delta_i + x)*r_x =
//! Delta_i*u_i + v_i. The receiver's corrections c_i = u_i + u_0 make u_0 the u of all trees. Sums over
//! the bits of x are one butterfly (`planes`), the same one for both kinds.
//!
//! Requirements: both parties make the same calls in the same order.
//! Error: none. Rounds: set-up one each way (8192 and 4128 bytes), then one message of the receiver per call.
//! Bits: 31 per random OT and 124 per one-of-sixteen OT, in chunks of 256 OTs.
//! Cost in AES blocks per OT (receiver, sender): random OT 4 + 2 and 3.75 + 4, one-of-sixteen OT 16 + 2
//! and 15 + 8 (streams + hashes, TMMO takes two). Everything else (butterfly, transposition) is a few
//! instructions per OT, and no 128-bit block leaves the cache.
//! Measured on one core of an AMD EPYC of the Zen 3 kind with VAES-256, million OTs per second (receiver,
//! sender): random OT 130 and 105, one-of-sixteen OT 48 and 21. These are 0.8 to 1.0 G AES blocks per
//! second, against 1.1 G of the counter kernel alone. `examples/speed.rs` measures it.
//! Security: semi-honest, computational (base OTs, AES as a PRF and as an ideal cipher in TMMO). The
//! receiver's corrections are masked by the leaf that the sender misses in each tree (32 of them for u and
//! 31 corrections); the sender sends nothing. No branch and no address depends on Delta, u or a leaf.
//! Secrets are zeroed on drop; what kernels leave on the stack is not.
//!
//! NOTE: the paper's consistency check against a malicious receiver is left out (semi-honest model).
//! NOTE: trees 1 to 31 are corrected to tree 0, which is the systematic repetition code of the paper.

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::OtError;
use crate::base::{self, BASE_OTS, BaseReceiver, POINT_LEN, REQUEST_LEN, Transcript};
use crate::error::check_len;
use crate::ggm::{self, DEPTH, LEAVES};

mod expand;
mod receiver;
mod sender;

pub(crate) use expand::pad_mask;
pub use expand::{one_of_16_len, random_ot_len};
pub use receiver::OtReceiver;
pub use sender::OtSender;

/// Trees: elements of F_16 in Delta.
pub(crate) const TREES: usize = BASE_OTS / DEPTH;

const ANSWER_LEN: usize = POINT_LEN + BASE_OTS * 2 * 16;
const HASH_KEY: &[u8] = b"softspoken hash key";

/// The OT sender between its request and the receiver's answer.
#[derive(ZeroizeOnDrop)]
pub struct SenderSetup {
    delta: u128,
    #[zeroize(skip)]
    base: BaseReceiver,
}

impl SenderSetup {
    /// Bytes of the answer that [`Self::finish`] accepts.
    pub const ANSWER_LEN: usize = ANSWER_LEN;

    /// Draws a fresh Delta. `session` names connection and direction; both parties must use the same.
    ///
    /// Returns the request for [`ReceiverSetup::respond`].
    pub fn start(session: &[u8], rng: &mut impl CryptoRng) -> (Self, Vec<u8>) {
        let mut bytes = Zeroizing::new([0; 16]);
        rng.fill_bytes(&mut *bytes);
        let delta = u128::from_le_bytes(*bytes);
        let (base, request) =
            BaseReceiver::new(base::session_id(session), base_choices(delta), rng);
        (Self { delta, base }, request)
    }

    /// Reads the answer and reconstructs all leaves but those of Delta.
    ///
    /// # Errors
    /// [`OtError::Length`] and [`OtError::InvalidPoint`] about the answer.
    pub fn finish(self, answer: &[u8]) -> Result<OtSender, OtError> {
        check_len("OT set-up answer", ANSWER_LEN, answer.len())?;
        let delta = self.delta;
        let (point, sums) = answer.split_at(POINT_LEN);
        let choices = base_choices(delta);
        let (keys, transcript) = self.base.finish(point)?;
        let mut keys = Zeroizing::new(keys);
        for ((instance, key), pair) in keys.iter_mut().enumerate().zip(sums.chunks_exact(32)) {
            let [left, right] = [0, 16].map(|at| block_at(pair, at));
            let choose_right = (choices >> instance & 1).wrapping_neg();
            *key ^= left ^ ((left ^ right) & choose_right);
        }
        let mut leaves = Zeroizing::new(Vec::with_capacity(TREES * LEAVES));
        for (tree, sums) in keys.as_chunks::<DEPTH>().0.iter().enumerate() {
            let digit = digit(delta, tree);
            let mut punctured = ggm::punctured_tree(digit, sums);
            ggm::reindex(&mut punctured, digit);
            leaves.extend_from_slice(&punctured);
            punctured.zeroize();
        }
        Ok(OtSender::new(
            delta,
            &leaves,
            hash_keys(&transcript, answer),
        ))
    }
}

/// The OT receiver before the sender's request.
pub struct ReceiverSetup {
    session: [u8; 32],
}

impl ReceiverSetup {
    /// Bytes of the request that [`Self::respond`] accepts.
    pub const REQUEST_LEN: usize = REQUEST_LEN;

    /// `session` names connection and direction; both parties must use the same.
    #[must_use]
    pub fn new(session: &[u8]) -> Self {
        Self {
            session: base::session_id(session),
        }
    }

    /// Grows the trees; returns the engine and the answer for [`SenderSetup::finish`].
    ///
    /// # Errors
    /// [`OtError::Length`] and [`OtError::InvalidPoint`] about the request.
    pub fn respond(
        self,
        request: &[u8],
        rng: &mut impl CryptoRng,
    ) -> Result<(OtReceiver, Vec<u8>), OtError> {
        let base = base::base_send(&self.session, request, rng)?;
        let mut answer = Vec::with_capacity(ANSWER_LEN);
        answer.extend_from_slice(&base.answer);
        let mut leaves = Zeroizing::new(Vec::with_capacity(TREES * LEAVES));
        for keys in base.keys.as_chunks::<DEPTH>().0 {
            let mut root = Zeroizing::new([0; 16]);
            rng.fill_bytes(&mut *root);
            let (mut tree, mut sums) = ggm::full_tree(u128::from_le_bytes(*root));
            for (sum, key) in sums.as_flattened().iter().zip(keys.as_flattened()) {
                answer.extend_from_slice(&(sum ^ key).to_le_bytes());
            }
            leaves.extend_from_slice(&tree);
            tree.zeroize();
            sums.as_flattened_mut().zeroize();
        }
        let receiver = OtReceiver::new(&leaves, hash_keys(&base.transcript, &answer));
        Ok((receiver, answer))
    }
}

/// The side that Delta does not take, level by level: base OT 4 i + l is level l of tree i.
fn base_choices(delta: u128) -> u128 {
    let mut choices = 0;
    for instance in 0..BASE_OTS {
        let bit = instance / DEPTH * DEPTH + (DEPTH - 1 - instance % DEPTH);
        choices |= (!delta >> bit & 1) << instance;
    }
    choices
}

fn digit(delta: u128, tree: usize) -> u8 {
    (delta >> (DEPTH * tree)) as u8 & 15
}

fn block_at(bytes: &[u8], at: usize) -> u128 {
    let mut block = [0; 16];
    block.copy_from_slice(&bytes[at..at + 16]);
    u128::from_le_bytes(block)
}

/// The public keys of pi for one-of-two and one-of-sixteen OTs, bound to everything that both parties have sent.
fn hash_keys(transcript: &Transcript, answer: &[u8]) -> [u128; 2] {
    [b"2", b"F"].map(|kind| transcript.derive(&[HASH_KEY, kind, answer].concat()))
}

#[cfg(test)]
mod tests;
