//! The end of a connection, and the last that is said on it.

use std::io::{self, Read};
use std::time::Instant;

use blindread_protocol::channel::{ChannelError, Kind};

use super::{INBOX, TlsChannel};
use crate::cancel::Cancel;
use crate::error::LinkError;
use crate::message::{MAX_ERROR, decode_error, encode_error};

impl TlsChannel {
    /// The peer went away while this side was sending: if it said why, that is the better error.
    pub(super) fn last_words(&mut self, error: LinkError) -> LinkError {
        let until = Instant::now() + self.timeouts.farewell;
        while self.inbox.len() - self.inbox_from < INBOX {
            if !matches!(self.take_available(), Ok(true))
                || self.socket.wait(true, false, until).is_err()
            {
                break;
            }
        }
        let mut rest = &self.inbox[self.inbox_from..];
        while let [kind, a, b, c, d, after @ ..] = rest {
            let len = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            let Some(body) = after.get(..len) else { break };
            if *kind == Kind::Error as u8 && len <= MAX_ERROR {
                let (code, message) = decode_error(body);
                return ChannelError::Peer { code, message }.into();
            }
            rest = &after[len..];
        }
        error
    }

    /// Ends the connection: tells the peer why, if it can still hear, and lets it read that.
    pub(crate) fn finish(mut self, error: Option<&LinkError>) {
        self.part(error);
        self.hang_up();
    }

    /// The last thing that the peer is told: why the connection ends, if it can still hear.
    pub(crate) fn part(&mut self, error: Option<&LinkError>) {
        self.socket.cancel = Cancel::new();
        self.hurry();
        if let Some(error) = error.filter(|error| error.worth_telling()) {
            let _ = self.send_frame(Kind::Error, &encode_error(error));
        }
        let _ = self.flush_out();
        self.say_end();
    }

    pub(super) fn farewell(&mut self) {
        self.hurry();
        self.say_end();
        self.hang_up();
    }

    /// Sends what TLS still has to say.
    fn say_end(&mut self) {
        let until = self.deadline(self.timeouts.farewell);
        self.tls.send_close_notify();
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if self.socket.wait(false, true, until).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            }
        }
        self.socket.close_write();
    }

    /// Waits for the peer to hang up, briefly: closing a socket with unread bytes in it would destroy the last words on their
    /// way.
    pub(crate) fn hang_up(&mut self) {
        let until = self.deadline(self.timeouts.farewell);
        while self.socket.wait(true, false, until).is_ok() {
            match self.socket.read(&mut self.stage.bytes) {
                Ok(0) => return,
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }
}
