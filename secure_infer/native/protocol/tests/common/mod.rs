//! A channel between two threads of one process, for tests.

use std::sync::mpsc::{Receiver, Sender, channel};

use blindread_protocol::channel::{Channel, ChannelError, Kind};

/// One end of an in-memory connection.
pub struct MemoryChannel {
    out: Sender<(u8, Vec<u8>)>,
    inbox: Receiver<(u8, Vec<u8>)>,
    /// What was sent, for tests that look at the transcript.
    pub sent: Vec<(Kind, Vec<u8>)>,
    /// Message number whose body gets its lowest bit flipped before it is sent.
    pub corrupt: Option<usize>,
    /// Message number that is not sent at all; the channel is closed instead.
    pub cut: Option<usize>,
}

/// Two connected ends.
pub fn pair() -> (MemoryChannel, MemoryChannel) {
    let (a, b) = (channel(), channel());
    let end = |out, inbox| MemoryChannel { out, inbox, sent: Vec::new(), corrupt: None, cut: None };
    (end(a.0, b.1), end(b.0, a.1))
}

impl Channel for MemoryChannel {
    fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), ChannelError> {
        let mut body = body.to_vec();
        if self.cut == Some(self.sent.len()) {
            return Err(ChannelError::Cancelled);
        }
        if let (true, Some(byte)) = (self.corrupt == Some(self.sent.len()), body.first_mut()) {
            *byte ^= 1;
        }
        self.sent.push((kind, body.clone()));
        self.out.send((kind as u8, body)).map_err(|_| ChannelError::Closed { expected: kind })
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        Ok(())
    }

    fn recv(&mut self, kind: Kind, expected_len: usize, body: &mut Vec<u8>) -> Result<(), ChannelError> {
        let (got, bytes) = self.inbox.recv().map_err(|_| ChannelError::Closed { expected: kind })?;
        if got != kind as u8 {
            return Err(ChannelError::UnexpectedKind { expected: kind, got });
        }
        if bytes.len() != expected_len {
            return Err(ChannelError::UnexpectedLength { kind, expected: expected_len, got: bytes.len() });
        }
        *body = bytes;
        Ok(())
    }
}
