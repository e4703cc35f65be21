//! The greeting of either party, and what both must agree on before anything is computed.
//!
//! | message | bytes |
//! |---|---|
//! | hello | magic 8, role 1, version 2, engine 1 (0: either), connections wanted 1, parameters 32, bundle 32, nonce 32 |
//! | joining hello | magic 8, role 1, version 2, number of the connection 1, name 32 |
//!
//! Magic, role and version never move, so that any two versions can tell each other apart.

use std::ops::Range;

use blindread_protocol::OtEngine;
use blindread_protocol::channel::MAX_CONNECTIONS;
use sha2::{Digest, Sha256};

use crate::PROTOCOL_VERSION;
use crate::choice::{Choice, EngineOption, Request};
use crate::error::LinkError;
use crate::hex;

const MAGIC: &[u8; 8] = b"blindred";
/// Length of a hello.
pub const HELLO_LEN: usize = 109;
/// Length of the hello of a connection that joins a session.
pub const JOIN_LEN: usize = 44;
/// The longest hello of any version that is read at all.
pub const MAX_HELLO: usize = 4096;
const PARAMETERS: Range<usize> = 13..45;
const BUNDLE: Range<usize> = 45..77;
const NONCE: Range<usize> = 77..HELLO_LEN;

/// Which side of the protocol a party plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Holds the image.
    Hospital = 1,
    /// Holds the weights.
    Developer = 2,
    /// A further connection of a hospital's session.
    Joining = 3,
}

/// What both parties must agree on before anything is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// SHA-256 of the hospital half's manifest.
    pub bundle: [u8; 32],
    /// SHA-256 of the cryptographic parameters.
    pub parameters: [u8; 32],
    /// The OT engine, if this side names one; where both sides do, it must be the same.
    pub engine: EngineOption,
}

impl Identity {
    /// Of this bundle, with the parameters that this program was built with.
    #[must_use]
    pub fn of_bundle(bundle: [u8; 32], engine: EngineOption) -> Self {
        Self {
            bundle,
            parameters: parameters_digest(),
            engine,
        }
    }
}

/// SHA-256 over every number that both parties must have built in.
fn parameters_digest() -> [u8; 32] {
    use blindread_lattice::params as p;
    let text = format!(
        "n={} q={} hint_bits={} error_pairs={} drowning={} kappa={} lambda={} f={} lpn={}",
        p::N,
        p::Q,
        p::HINT_BITS,
        p::ERROR_PAIRS,
        p::DROWNING_STD,
        p::KAPPA,
        p::LAMBDA,
        p::SOFTSPOKEN_F,
        blindread_protocol::FERRET_PARAMETERS
    );
    Sha256::digest(text).into()
}

/// The first message of each side; the hospital sends it without waiting.
pub struct Hello {
    bytes: [u8; HELLO_LEN],
}

impl Hello {
    /// This side's hello; it would like as many connections as it has `threads`.
    #[must_use]
    pub fn new(role: Role, identity: &Identity, threads: usize, nonce: &[u8; 32]) -> Self {
        let mut bytes = [0; HELLO_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = role as u8;
        bytes[9..11].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        bytes[11] = identity.engine.byte();
        bytes[12] = threads.clamp(1, MAX_CONNECTIONS) as u8;
        bytes[PARAMETERS].copy_from_slice(&identity.parameters);
        bytes[BUNDLE].copy_from_slice(&identity.bundle);
        bytes[NONCE].copy_from_slice(nonce);
        Self { bytes }
    }

    /// The message's body.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the peer's hello and compares it with this side's.
    ///
    /// # Errors
    /// [`LinkError::Mismatch`] that names the first difference.
    pub fn check_peer(&self, peer: &[u8]) -> Result<Self, LinkError> {
        if peer.len() < 11 || &peer[..8] != MAGIC {
            return Err(mismatch("hello", "blindread's greeting", "something else"));
        }
        let peer_role = if self.bytes[8] == Role::Hospital as u8 {
            Role::Developer
        } else {
            Role::Hospital
        };
        if peer[8] != peer_role as u8 {
            return Err(mismatch("role", &format!("{peer_role:?}"), "the same side"));
        }
        check_version(peer)?;
        let bytes: [u8; HELLO_LEN] =
            (peer.try_into()).map_err(|_| wrong_length(HELLO_LEN, peer))?;
        EngineOption::from_byte(self.bytes[11])?.agree(EngineOption::from_byte(bytes[11])?)?;
        if !(1..=MAX_CONNECTIONS).contains(&usize::from(bytes[12])) {
            let expected = format!("1 to {MAX_CONNECTIONS} connections");
            return Err(mismatch("hello", &expected, &bytes[12].to_string()));
        }
        for (what, range) in [("parameters", PARAMETERS), ("bundle", BUNDLE)] {
            if bytes[range.clone()] != self.bytes[range.clone()] {
                return Err(LinkError::Mismatch {
                    what,
                    expected: format!("digest {}", hex(&self.bytes[range.clone()])),
                    got: hex(&bytes[range]),
                });
            }
        }
        if bytes[NONCE] == self.bytes[NONCE] {
            return Err(mismatch("hello", "a fresh nonce", "our own"));
        }
        Ok(Self { bytes })
    }

    /// The engine that this hello and the peer's checked one leave; none if neither names one.
    ///
    /// # Errors
    /// [`LinkError::Mismatch`] with code `engine`.
    pub fn agreed_engine(&self, peer: &Self) -> Result<Option<OtEngine>, LinkError> {
        EngineOption::from_byte(self.bytes[11])?.agree(EngineOption::from_byte(peer.bytes[11])?)
    }

    /// How many connections the session has: as many as the party with more threads has.
    #[must_use]
    pub fn connections(&self, peer: &Self) -> usize {
        self.bytes[12].max(peer.bytes[12]).into()
    }
}

/// The hello of a connection that joins a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joining {
    /// The session's connections are numbered; the one that was opened first is 0.
    pub number: usize,
    /// See [`joining_name`].
    pub name: [u8; 32],
}

impl Joining {
    /// The message's body.
    #[must_use]
    pub fn encode(&self) -> [u8; JOIN_LEN] {
        let mut bytes = [0; JOIN_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = Role::Joining as u8;
        bytes[9..11].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        bytes[11] = self.number as u8;
        bytes[12..].copy_from_slice(&self.name);
        bytes
    }

    /// Reads the body, if it is one.
    ///
    /// # Errors
    /// [`LinkError::Mismatch`] for another version or length.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, LinkError> {
        if bytes.len() < 11 || &bytes[..8] != MAGIC || bytes[8] != Role::Joining as u8 {
            return Ok(None);
        }
        check_version(bytes)?;
        let bytes: &[u8; JOIN_LEN] = bytes
            .try_into()
            .map_err(|_| wrong_length(JOIN_LEN, bytes))?;
        let mut name = [0; 32];
        name.copy_from_slice(&bytes[12..]);
        Ok(Some(Self {
            number: bytes[11].into(),
            name,
        }))
    }
}

/// The name of a session: both hellos under SHA-256, the hospital's first, and its choice.
#[must_use]
pub fn session_id(hospital: &Hello, developer: &Hello, choice: Choice) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"blindread session");
    hash.update(hospital.bytes);
    hash.update(developer.bytes);
    hash.update(Request::Choose(choice).encode());
    hash.finalize().into()
}

/// The name under which connections join a session: both hellos under SHA-256, the hospital's first.
#[must_use]
pub fn joining_name(hospital: &Hello, developer: &Hello) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"blindread joining");
    hash.update(hospital.bytes);
    hash.update(developer.bytes);
    hash.finalize().into()
}

/// `hello` has a version.
fn check_version(hello: &[u8]) -> Result<(), LinkError> {
    let version = u16::from_le_bytes([hello[9], hello[10]]);
    if version == PROTOCOL_VERSION {
        return Ok(());
    }
    let (expected, got) = (PROTOCOL_VERSION.to_string(), version.to_string());
    Err(mismatch("version", &expected, &got))
}

fn wrong_length(expected: usize, got: &[u8]) -> LinkError {
    let [expected, got] = [expected, got.len()].map(|len| format!("{len} bytes"));
    mismatch("hello", &expected, &got)
}

fn mismatch(what: &'static str, expected: &str, got: &str) -> LinkError {
    LinkError::Mismatch {
        what,
        expected: expected.to_owned(),
        got: got.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        bundle: [1; 32],
        parameters: [2; 32],
        engine: EngineOption::Only(OtEngine::SoftSpoken),
    };
    const CHOICE: Choice = Choice {
        engine: OtEngine::SoftSpoken,
        measured: None,
    };

    fn peers() -> (Hello, Hello) {
        (
            Hello::new(Role::Hospital, &IDENTITY, 1, &[3; 32]),
            Hello::new(Role::Developer, &IDENTITY, 1, &[4; 32]),
        )
    }

    #[test]
    fn hello_equal_identities_give_both_sides_the_same_session_id() {
        let (hospital, developer) = peers();
        let seen_by_hospital = hospital.check_peer(developer.bytes()).unwrap();
        let seen_by_developer = developer.check_peer(hospital.bytes()).unwrap();
        assert_eq!(
            session_id(&hospital, &seen_by_hospital, CHOICE),
            session_id(&seen_by_developer, &developer, CHOICE)
        );
        let other = Hello::new(Role::Hospital, &IDENTITY, 1, &[5; 32]);
        assert_ne!(
            session_id(&other, &developer, CHOICE),
            session_id(&hospital, &developer, CHOICE)
        );
        let another = Choice {
            engine: OtEngine::Ferret,
            ..CHOICE
        };
        assert_ne!(
            session_id(&hospital, &developer, another),
            session_id(&hospital, &developer, CHOICE)
        );
    }

    #[test]
    fn session_has_as_many_connections_as_the_party_with_more_threads() {
        let hello = |role, threads| Hello::new(role, &IDENTITY, threads, &[role as u8; 32]);
        for (ours, theirs, expected) in [(1, 1, 1), (1, 3, 3), (5, 2, 5), (256, 1, 8), (0, 0, 1)] {
            let (hospital, developer) =
                (hello(Role::Hospital, ours), hello(Role::Developer, theirs));
            let seen_by_hospital = hospital.check_peer(developer.bytes()).unwrap();
            let seen_by_developer = developer.check_peer(hospital.bytes()).unwrap();
            assert_eq!(hospital.connections(&seen_by_hospital), expected);
            assert_eq!(developer.connections(&seen_by_developer), expected);
            assert_eq!(
                joining_name(&hospital, &seen_by_hospital),
                joining_name(&seen_by_developer, &developer)
            );
        }
    }

    #[test]
    fn joining_hello_round_trips_and_is_told_from_a_hospitals() {
        let joining = Joining {
            number: 7,
            name: [0xa5; 32],
        };
        let bytes = joining.encode();
        assert_eq!(Joining::decode(&bytes).unwrap(), Some(joining));
        for other in [peers().0.bytes(), peers().1.bytes(), &bytes[..10], &[]] {
            assert_eq!(Joining::decode(other).unwrap(), None);
        }
        let short = Joining::decode(&bytes[..43]).err().unwrap();
        assert_eq!(short.to_string(), "hello: expected 44 bytes, got 43 bytes");
        let mut older = bytes;
        older[9] ^= 1;
        assert_eq!(Joining::decode(&older).err().unwrap().code(), "version");
        assert_eq!(peers().0.check_peer(&bytes).err().unwrap().code(), "role");
    }

    #[test]
    fn hello_every_changed_field_is_named() {
        let (hospital, developer) = peers();
        for (at, code) in [
            (0, "hello"),
            (8, "role"),
            (9, "version"),
            (11, "engine"),
            (12, "hello"),
            (13, "parameters"),
            (76, "bundle"),
        ] {
            let mut bytes = developer.bytes().to_vec();
            bytes[at] ^= if at == 12 { 8 } else { 3 };
            assert_eq!(hospital.check_peer(&bytes).err().unwrap().code(), code);
        }
        for len in [0, 10, 11, 108] {
            assert_eq!(
                hospital
                    .check_peer(&developer.bytes()[..len])
                    .err()
                    .unwrap()
                    .code(),
                "hello"
            );
        }
        let text = hospital.check_peer(
            Hello::new(
                Role::Developer,
                &Identity {
                    bundle: [9; 32],
                    ..IDENTITY
                },
                1,
                &[4; 32],
            )
            .bytes(),
        );
        let expected = format!(
            "bundle: expected digest {}, got {}",
            "01".repeat(32),
            "09".repeat(32)
        );
        assert_eq!(text.err().unwrap().to_string(), expected);
    }

    #[test]
    fn hello_reflected_to_its_sender_is_refused() {
        let (hospital, _) = peers();
        let mut bytes = hospital.bytes().to_vec();
        assert_eq!(hospital.check_peer(&bytes).err().unwrap().code(), "role");
        bytes[8] = Role::Developer as u8;
        assert_eq!(hospital.check_peer(&bytes).err().unwrap().code(), "hello");
    }
}
