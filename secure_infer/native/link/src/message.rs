//! The messages of this crate. Bytes of the peer become types here, and nowhere else in it.
//!
//! | message | bytes |
//! |---|---|
//! | hello | magic 8, role 1, version 2, engine 1 (0: either), parameters 32, bundle 32, nonce 32 |
//! | welcome (kind `Done`) | images left 8, unspent tickets allowed 4 |
//! | command | operation 1, ticket 8 |
//! | done | operation 1, ticket 8 |
//! | error | code, colon, message: at most 240 printable ASCII characters |
//!
//! Numbers are little-endian. Magic, role and version never move, so that any two versions can tell
//! each other apart.

use blindread_protocol::OtEngine;
use sha2::{Digest, Sha256};

use crate::PROTOCOL_VERSION;
use crate::choice::{Choice, EngineOption, Request};
use crate::error::LinkError;
use crate::hex;

const MAGIC: &[u8; 8] = b"blindred";
/// Length of a hello.
pub const HELLO_LEN: usize = 108;
/// The longest hello of any version that is read at all.
pub const MAX_HELLO: usize = 4096;
/// Length of a welcome.
pub const WELCOME_LEN: usize = 12;
/// Length of a command and of the answer to it.
pub const COMMAND_LEN: usize = 9;
/// The longest error message.
pub const MAX_ERROR: usize = 240;
const MAX_CODE: usize = 32;
const MAX_TEXT: usize = 200;

/// Which side of the protocol a party plays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Role {
    /// Holds the image.
    Hospital = 1,
    /// Holds the weights.
    Developer = 2,
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

/// The first message of each side; both send it without waiting for the other's.
pub struct Hello {
    bytes: [u8; HELLO_LEN],
}

impl Hello {
    /// This side's hello.
    #[must_use]
    pub fn new(role: Role, identity: &Identity, nonce: &[u8; 32]) -> Self {
        let mut bytes = [0; HELLO_LEN];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8] = role as u8;
        bytes[9..11].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
        bytes[11] = identity.engine.byte();
        bytes[12..44].copy_from_slice(&identity.parameters);
        bytes[44..76].copy_from_slice(&identity.bundle);
        bytes[76..].copy_from_slice(nonce);
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
        let version = u16::from_le_bytes([peer[9], peer[10]]);
        if version != PROTOCOL_VERSION {
            return Err(mismatch(
                "version",
                &PROTOCOL_VERSION.to_string(),
                &version.to_string(),
            ));
        }
        let bytes: [u8; HELLO_LEN] = peer.try_into().map_err(|_| {
            mismatch(
                "hello",
                &format!("{HELLO_LEN} bytes"),
                &format!("{} bytes", peer.len()),
            )
        })?;
        EngineOption::from_byte(self.bytes[11])?.agree(EngineOption::from_byte(bytes[11])?)?;
        for (what, range) in [("parameters", 12..44), ("bundle", 44..76)] {
            if bytes[range.clone()] != self.bytes[range.clone()] {
                return Err(LinkError::Mismatch {
                    what,
                    expected: format!("digest {}", hex(&self.bytes[range.clone()])),
                    got: hex(&bytes[range]),
                });
            }
        }
        if bytes[76..] == self.bytes[76..] {
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

/// What the developer allows this hospital.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Images that are left; None if they are not limited.
    pub images_left: Option<u64>,
    /// Tickets that may be unspent at once.
    pub tickets: u32,
}

impl Welcome {
    /// The message's body.
    #[must_use]
    pub fn encode(&self) -> [u8; WELCOME_LEN] {
        let mut bytes = [0; WELCOME_LEN];
        bytes[..8].copy_from_slice(&self.images_left.unwrap_or(u64::MAX).to_le_bytes());
        bytes[8..].copy_from_slice(&self.tickets.to_le_bytes());
        bytes
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`LinkError::Message`].
    pub fn decode(bytes: &[u8]) -> Result<Self, LinkError> {
        let (Some(left), Some(tickets)) = (
            number(bytes, 0),
            bytes.get(8..12).and_then(|b| b.try_into().ok()),
        ) else {
            return Err(message("welcome", "12 bytes", bytes.len()));
        };
        Ok(Self {
            images_left: (left != u64::MAX).then_some(left),
            tickets: u32::from_le_bytes(tickets),
        })
    }
}

/// What the hospital asks for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make the ticket of this number.
    Prepare(u64),
    /// Spend the ticket of this number.
    Infer(u64),
    /// Nothing, but stay.
    Ping,
    /// The end.
    Close,
}

impl Command {
    /// The message's body, also of the `Done` that answers it.
    #[must_use]
    pub fn encode(self) -> [u8; COMMAND_LEN] {
        let (operation, ticket) = match self {
            Self::Prepare(id) => (1, id),
            Self::Infer(id) => (2, id),
            Self::Ping => (3, 0),
            Self::Close => (4, 0),
        };
        let mut bytes = [operation; COMMAND_LEN];
        bytes[1..].copy_from_slice(&ticket.to_le_bytes());
        bytes
    }

    /// Reads the body.
    ///
    /// # Errors
    /// [`LinkError::Message`].
    pub fn decode(bytes: &[u8]) -> Result<Self, LinkError> {
        match (bytes.len(), bytes.first(), number(bytes, 1)) {
            (COMMAND_LEN, Some(1), Some(id)) => Ok(Self::Prepare(id)),
            (COMMAND_LEN, Some(2), Some(id)) => Ok(Self::Infer(id)),
            (COMMAND_LEN, Some(3), Some(0)) => Ok(Self::Ping),
            (COMMAND_LEN, Some(4), Some(0)) => Ok(Self::Close),
            _ => Err(message(
                "command",
                "prepare, infer, ping or close",
                bytes.len(),
            )),
        }
    }
}

/// The body of an error message.
#[must_use]
pub fn encode_error(error: &LinkError) -> Vec<u8> {
    let words = if error.is_private() {
        "a failure of its own".to_owned()
    } else {
        error.to_string()
    };
    let text = printable(words.as_bytes(), MAX_TEXT);
    format!("{}:{text}", printable(error.code().as_bytes(), MAX_CODE)).into_bytes()
}

/// Reads an error message: code and text. What isn't printable is replaced, what is too long cut.
#[must_use]
pub fn decode_error(bytes: &[u8]) -> (String, String) {
    let mut parts = bytes.splitn(2, |&byte| byte == b':');
    let code: String = printable(parts.next().unwrap_or_default(), MAX_CODE)
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '.' {
                c
            } else {
                '_'
            }
        })
        .collect();
    let text = printable(parts.next().unwrap_or_default(), MAX_TEXT);
    (
        if code.is_empty() {
            "unnamed".to_owned()
        } else {
            code
        },
        text,
    )
}

fn printable(bytes: &[u8], limit: usize) -> String {
    let mend = |&byte: &u8| {
        if (b' '..=b'~').contains(&byte) {
            char::from(byte)
        } else {
            '?'
        }
    };
    bytes.iter().take(limit).map(mend).collect()
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn mismatch(what: &'static str, expected: &str, got: &str) -> LinkError {
    LinkError::Mismatch {
        what,
        expected: expected.to_owned(),
        got: got.to_owned(),
    }
}

fn message(what: &'static str, expected: &str, len: usize) -> LinkError {
    LinkError::Message {
        what,
        expected: expected.to_owned(),
        got: format!("{len} other bytes"),
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
            Hello::new(Role::Hospital, &IDENTITY, &[3; 32]),
            Hello::new(Role::Developer, &IDENTITY, &[4; 32]),
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
        let other = Hello::new(Role::Hospital, &IDENTITY, &[5; 32]);
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
    fn hello_every_changed_field_is_named() {
        let (hospital, developer) = peers();
        for (at, code) in [
            (0, "hello"),
            (8, "role"),
            (9, "version"),
            (11, "engine"),
            (12, "parameters"),
            (75, "bundle"),
        ] {
            let mut bytes = developer.bytes().to_vec();
            bytes[at] ^= 3;
            assert_eq!(hospital.check_peer(&bytes).err().unwrap().code(), code);
        }
        for len in [0, 10, 11, 107] {
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

    #[test]
    fn command_round_trips_and_unknown_ones_are_refused() {
        for command in [
            Command::Prepare(7),
            Command::Infer(u64::MAX),
            Command::Ping,
            Command::Close,
        ] {
            assert_eq!(Command::decode(&command.encode()).unwrap(), command);
        }
        for bytes in [
            &[][..],
            &[1; 8],
            &[0; 9],
            &[5; 9],
            &[3, 1, 0, 0, 0, 0, 0, 0, 0],
            &[1; 10],
        ] {
            assert_eq!(Command::decode(bytes).err().unwrap().code(), "message");
        }
        for welcome in [
            Welcome {
                images_left: None,
                tickets: 3,
            },
            Welcome {
                images_left: Some(9),
                tickets: 0,
            },
        ] {
            assert_eq!(Welcome::decode(&welcome.encode()).unwrap(), welcome);
        }
        assert!(Welcome::decode(&[0; 11]).is_err());
    }

    #[test]
    fn error_of_a_hostile_peer_is_short_and_printable() {
        let (code, text) = decode_error(&[0x1b; 4000]);
        assert_eq!((code, text), ("_".repeat(32), String::new()));
        let (code, text) = decode_error("budget:näh\n".as_bytes());
        assert_eq!((code.as_str(), text.as_str()), ("budget", "n??h?"));
        assert_eq!(decode_error(b""), ("unnamed".to_owned(), String::new()));
        let told = encode_error(&LinkError::Budget { limit: 3 });
        let (code, text) = decode_error(&told);
        assert_eq!(
            (code.as_str(), text),
            ("budget", LinkError::Budget { limit: 3 }.to_string())
        );
        assert!(told.len() <= MAX_ERROR);
    }

    #[test]
    fn error_about_this_machine_is_not_described_to_the_peer() {
        let error = LinkError::BudgetStore {
            reason: "No space left on /srv/secret".to_owned(),
        };
        assert_eq!(encode_error(&error), b"budget_store:a failure of its own");
    }

    #[test]
    fn error_of_a_peer_can_not_pass_for_one_of_ours() {
        use blindread_protocol::channel::ChannelError;
        for (code, seen) in [
            ("budget", "budget"),
            ("input", "peer_error"),
            ("no_ticket", "peer_error"),
        ] {
            let error: LinkError = ChannelError::Peer {
                code: code.to_owned(),
                message: String::new(),
            }
            .into();
            assert_eq!(error.code(), seen);
        }
    }
}
