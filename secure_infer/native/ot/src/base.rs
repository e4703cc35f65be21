//! 128 base OTs over ristretto255: the endemic OT of Masny and Rindal.
//!
//! Reference: D. Masny, P. Rindal, "Endemic oblivious transfer" (CCS 2019, eprint 2019/706), the
//! one-round Diffie-Hellman instantiation.
//!
//! Function: the base sender gets uniform keys (k_0, k_1), the base receiver with choice c gets k_c.
//!
//! Protocol, for instance i: the receiver draws a point r_{1-c} and a scalar b, sets
//! r_c = b*G - H(i, c, r_{1-c}) and sends (r_0, r_1). The sender draws one scalar a, sends A = a*G and has
//! k_j = KDF(transcript, i, j, a*(r_j + H(i, j, r_{1-j}))). The receiver has k_c = KDF(.., b*A).
//!
//! Why this one and not Simplest OT (Chou-Orlandi 2015): it costs one more hash-to-group and 32 more
//! bytes per instance, 4 kB in all, and in return both messages are independent, (r_0, r_1) are
//! two uniform points whatever c is, and its proof in the random oracle model stands against malicious
//! parties too, where Simplest OT's does not.
//!
//! Security: CDH and random oracle, semi-honest needed, used beyond that. Every hash carries the
//! domain, session and instance; keys hash the whole transcript. Points of the peer are decoded
//! canonically and must not be the identity.
//! Rounds: one each way; 8192 bytes from the receiver, 32 from the sender.
//! Secret-dependent selections use `subtle`; scalar multiplications are those of curve25519-dalek.

use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use rand_core::CryptoRng;
use sha2::{Digest, Sha256, Sha512};
use subtle::{Choice, ConditionallySelectable};
use zeroize::{ZeroizeOnDrop, Zeroizing};

use crate::OtError;
use crate::error::check_len;

/// Number of base OTs: one per bit of Delta.
pub(crate) const BASE_OTS: usize = 128;
/// Bytes of one encoded point.
pub(crate) const POINT_LEN: usize = 32;
/// Bytes of the base receiver's message.
pub(crate) const REQUEST_LEN: usize = BASE_OTS * 2 * POINT_LEN;

const REQUEST: &str = "base OT request";
const ANSWER: &str = "base OT answer";

/// What both parties hash of one exchange: session, request and the sender's point.
#[derive(Clone, Copy)]
pub(crate) struct Transcript([u8; 32]);

impl Transcript {
    fn new(session: &[u8; 32], request: &[u8], answer: &[u8]) -> Self {
        let hash = Sha256::new()
            .chain_update(b"blindread base OT transcript v1")
            .chain_update(session)
            .chain_update(request)
            .chain_update(answer);
        Self(hash.finalize().into())
    }

    /// A public 128-bit value bound to this transcript and `label`.
    pub(crate) fn derive(&self, label: &[u8]) -> u128 {
        let hash = Sha256::new()
            .chain_update(b"blindread OT public v1")
            .chain_update(self.0)
            .chain_update(label);
        first_block(hash.finalize().into())
    }

    fn key(&self, instance: usize, entry: u8, shared: &RistrettoPoint) -> u128 {
        let hash = Sha256::new()
            .chain_update(b"blindread base OT key v1")
            .chain_update(self.0)
            .chain_update((instance as u32).to_le_bytes())
            .chain_update([entry])
            .chain_update(shared.compress().as_bytes());
        first_block(hash.finalize().into())
    }
}

fn first_block(hash: [u8; 32]) -> u128 {
    let mut block = [0; 16];
    block.copy_from_slice(&hash[..16]);
    u128::from_le_bytes(block)
}

/// Hashes any session name (connection, direction) to the fixed length used here.
pub(crate) fn session_id(session: &[u8]) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"blindread OT session v1")
        .chain_update(session)
        .finalize()
        .into()
}

fn hash_to_group(
    session: &[u8; 32],
    instance: usize,
    entry: u8,
    other: &CompressedRistretto,
) -> RistrettoPoint {
    let hash = Sha512::new()
        .chain_update(b"blindread base OT point v1")
        .chain_update(session)
        .chain_update((instance as u32).to_le_bytes())
        .chain_update([entry])
        .chain_update(other.as_bytes());
    RistrettoPoint::from_uniform_bytes(&hash.finalize().into())
}

fn random_scalar(rng: &mut impl CryptoRng) -> Scalar {
    let mut wide = Zeroizing::new([0; 64]);
    rng.fill_bytes(&mut *wide);
    Scalar::from_bytes_mod_order_wide(&wide)
}

fn decode(
    what: &'static str,
    index: usize,
    bytes: &[u8],
) -> Result<(CompressedRistretto, RistrettoPoint), OtError> {
    let invalid = OtError::InvalidPoint { what, index };
    let encoded = CompressedRistretto::from_slice(bytes).map_err(|_| invalid.clone())?;
    match encoded.decompress() {
        Some(point) if point != RistrettoPoint::identity() => Ok((encoded, point)),
        _ => Err(invalid),
    }
}

/// The base receiver between its request and the answer.
#[derive(ZeroizeOnDrop)]
pub(crate) struct BaseReceiver {
    scalars: Vec<Scalar>,
    choices: u128,
    #[zeroize(skip)]
    session: [u8; 32],
    #[zeroize(skip)]
    request: Vec<u8>,
}

impl BaseReceiver {
    /// Bit i of `choices` selects the key of instance i. Returns the request to send.
    pub(crate) fn new(
        session: [u8; 32],
        choices: u128,
        rng: &mut impl CryptoRng,
    ) -> (Self, Vec<u8>) {
        let mut scalars = Vec::with_capacity(BASE_OTS);
        let mut request = Vec::with_capacity(REQUEST_LEN);
        for instance in 0..BASE_OTS {
            let choice = (choices >> instance) as u8 & 1;
            let mut wide = Zeroizing::new([0; 64]);
            rng.fill_bytes(&mut *wide);
            let other = RistrettoPoint::from_uniform_bytes(&wide);
            let scalar = random_scalar(rng);
            let own = RistrettoPoint::mul_base(&scalar)
                - hash_to_group(&session, instance, choice, &other.compress());
            let choice = Choice::from(choice);
            request.extend(
                RistrettoPoint::conditional_select(&own, &other, choice)
                    .compress()
                    .as_bytes(),
            );
            request.extend(
                RistrettoPoint::conditional_select(&other, &own, choice)
                    .compress()
                    .as_bytes(),
            );
            scalars.push(scalar);
        }
        (
            Self {
                scalars,
                choices,
                session,
                request: request.clone(),
            },
            request,
        )
    }

    /// Reads the sender's point; returns the chosen keys.
    pub(crate) fn finish(&self, answer: &[u8]) -> Result<(Vec<u128>, Transcript), OtError> {
        check_len(ANSWER, POINT_LEN, answer.len())?;
        let (_, point) = decode(ANSWER, 0, answer)?;
        let transcript = Transcript::new(&self.session, &self.request, answer);
        let key = |(instance, scalar): (usize, &Scalar)| {
            let choice = (self.choices >> instance) as u8 & 1;
            transcript.key(instance, choice, &(scalar * point))
        };
        let keys = self.scalars.iter().enumerate().map(key).collect();
        Ok((keys, transcript))
    }
}

/// What the base sender has after its only message.
#[derive(ZeroizeOnDrop)]
pub(crate) struct BaseSent {
    /// Both keys of every instance.
    pub(crate) keys: Vec<[u128; 2]>,
    /// The point to send.
    #[zeroize(skip)]
    pub(crate) answer: [u8; POINT_LEN],
    #[zeroize(skip)]
    pub(crate) transcript: Transcript,
}

/// The base sender's whole part.
pub(crate) fn base_send(
    session: &[u8; 32],
    request: &[u8],
    rng: &mut impl CryptoRng,
) -> Result<BaseSent, OtError> {
    check_len(REQUEST, REQUEST_LEN, request.len())?;
    let mut points = Vec::with_capacity(2 * BASE_OTS);
    for (index, bytes) in request.chunks_exact(POINT_LEN).enumerate() {
        points.push(decode(REQUEST, index, bytes)?);
    }
    let scalar = Zeroizing::new(random_scalar(rng));
    let answer = RistrettoPoint::mul_base(&scalar).compress().to_bytes();
    let transcript = Transcript::new(session, request, &answer);
    let mut keys = Vec::with_capacity(BASE_OTS);
    for (instance, pair) in points.chunks_exact(2).enumerate() {
        keys.push([0, 1].map(|entry: u8| {
            let (own, other) = (&pair[usize::from(entry)], &pair[usize::from(1 - entry)]);
            let masked = own.1 + hash_to_group(session, instance, entry, &other.0);
            transcript.key(instance, entry, &(*scalar * masked))
        }));
    }
    Ok(BaseSent {
        keys,
        answer,
        transcript,
    })
}

#[cfg(test)]
mod tests;
