//! A channel between two threads of one process, for tests.

use std::sync::mpsc::{Receiver, Sender, channel};

use blindread_protocol::channel::{Channel, ChannelError, Kind};

/// How a cheating sender changes a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tamper {
    /// Other content of the same length.
    Change,
    /// One byte less.
    Shorten,
    /// The same message twice.
    Repeat,
    /// The message under the kind of another.
    Rename,
}

/// One end of an in-memory connection.
pub struct MemoryChannel {
    out: Sender<(u8, Vec<u8>)>,
    inbox: Receiver<(u8, Vec<u8>)>,
    /// What was sent, for tests that look at the transcript.
    pub sent: Vec<(Kind, Vec<u8>)>,
    /// What happens to messages of one kind before they are sent.
    pub tamper: Option<(Kind, Tamper)>,
    /// Message number that is not sent at all; the channel is closed instead.
    pub cut: Option<usize>,
}

/// Two connected ends.
pub fn pair() -> (MemoryChannel, MemoryChannel) {
    let (a, b) = (channel(), channel());
    let end = |out, inbox| MemoryChannel {
        out,
        inbox,
        sent: Vec::new(),
        tamper: None,
        cut: None,
    };
    (end(a.0, b.1), end(b.0, a.1))
}

impl MemoryChannel {
    /// Sends without keeping a record.
    pub fn send_uncopied(&mut self, kind: Kind, body: Vec<u8>) -> Result<(), ChannelError> {
        self.out
            .send((kind as u8, body))
            .map_err(|_| ChannelError::Closed { expected: kind })
    }
}

impl Channel for MemoryChannel {
    fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), ChannelError> {
        let (mut body, mut name, mut copies) = (body.to_vec(), kind as u8, 1);
        if self.cut == Some(self.sent.len()) {
            return Err(ChannelError::Cancelled);
        }
        if let Some((tampered, how)) = self.tamper
            && tampered == kind
        {
            match how {
                Tamper::Change => body.iter_mut().for_each(|byte| *byte ^= 0xa5),
                Tamper::Shorten => drop(body.pop()),
                Tamper::Repeat => copies = 2,
                Tamper::Rename => name = Kind::Hello as u8,
            }
        }
        self.sent.push((kind, body.clone()));
        for _ in 0..copies {
            self.out
                .send((name, body.clone()))
                .map_err(|_| ChannelError::Closed { expected: kind })?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        Ok(())
    }

    fn recv(
        &mut self,
        kind: Kind,
        expected_len: usize,
        body: &mut Vec<u8>,
    ) -> Result<(), ChannelError> {
        let (got, bytes) = self
            .inbox
            .recv()
            .map_err(|_| ChannelError::Closed { expected: kind })?;
        if got != kind as u8 {
            return Err(ChannelError::UnexpectedKind {
                expected: kind,
                got,
            });
        }
        if bytes.len() != expected_len {
            return Err(ChannelError::UnexpectedLength {
                kind,
                expected: expected_len,
                got: bytes.len(),
            });
        }
        *body = bytes;
        Ok(())
    }
}
