//! The messages of a session that is open. Bytes of the peer become types here, in `hello` and in `choice`.
//!
//! | message | bytes |
//! |---|---|
//! | welcome (kind `Done`) | images left 8, unspent tickets allowed 4 |
//! | command | operation 1, ticket 8 |
//! | done | operation 1, ticket 8 |
//! | error | code, colon, message: at most 240 printable ASCII characters |
//!
//! Numbers are little-endian. How parties greet each other is in [`crate::hello`].

use crate::error::LinkError;

/// Length of a welcome.
pub const WELCOME_LEN: usize = 12;
/// Length of a command and of the answer to it.
pub const COMMAND_LEN: usize = 9;
/// The longest error message.
pub const MAX_ERROR: usize = 240;
const MAX_CODE: usize = 32;
const MAX_TEXT: usize = 200;

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
