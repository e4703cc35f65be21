//! Where a party's randomness comes from.
//!
//! Everything random of one ticket is derived from 32 fresh bytes of the operating system, from the
//! session (both parties' nonces and everything they agreed on) and from a nonce that the *peer* draws for
//! this ticket. So a virtual machine that is restored to an earlier state cannot repeat masks.

use blindread_lattice::Prg;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::{Zeroize, Zeroizing};

use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;

/// Bytes of a nonce.
const NONCE: usize = 32;

fn expand(
    entropy: &[u8; 32],
    session: &[u8; 32],
    parts: &[&[u8]],
) -> Result<Zeroizing<[u8; 32]>, ProtocolError> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(Some(session), entropy)
        .expand_multi_info(parts, out.as_mut())
        .map_err(|e| ProtocolError::Argument(e.to_string()))?;
    Ok(out)
}

/// A generator for the set-up of a session.
pub(crate) fn setup(
    role: &[u8],
    session: &[u8; 32],
    mut entropy: [u8; 32],
) -> Result<Prg, ProtocolError> {
    let seed = expand(&entropy, session, &[b"blindread setup v1 ", role]);
    entropy.zeroize();
    let seed = seed?;
    Ok(Prg::from_seed(&seed))
}

/// A generator for one ticket; exchanges nonces, H first.
pub(crate) fn ticket(
    ch: &mut dyn Channel,
    role: &[u8],
    session: &[u8; 32],
    ticket_id: u64,
    mut entropy: [u8; 32],
) -> Result<Prg, ProtocolError> {
    let ours = expand(&entropy, session, &[b"blindread nonce v1 ", role])?;
    ch.send(Kind::Nonce, ours.as_slice())?;
    let mut theirs = Vec::new();
    ch.recv(Kind::Nonce, NONCE, &mut theirs)?;
    let seed = expand(
        &entropy,
        session,
        &[
            b"blindread ticket v1 ",
            role,
            &ticket_id.to_le_bytes(),
            &theirs,
        ],
    );
    entropy.zeroize();
    let seed = seed?;
    Ok(Prg::from_seed(&seed))
}
