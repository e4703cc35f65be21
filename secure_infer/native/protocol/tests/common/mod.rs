//! A channel between two threads of one process, and sessions of several, for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use blindread_protocol::channel::{Channel, ChannelError, Kind, Phase};
use blindread_protocol::program::StepId;

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
    /// The kind of message on which the receiver panics.
    pub panics: Option<Kind>,
    /// What is sent when the party flushes or waits.
    queued: Vec<(u8, Vec<u8>)>,
    /// Where there are several connections: whether the party has given up, in any of them.
    given_up: Option<Arc<AtomicBool>>,
}

/// The connections of a session, one or more.
pub struct Several<C>(pub Vec<C>);

/// Two connected ends.
pub fn pair() -> (MemoryChannel, MemoryChannel) {
    let (a, b) = (channel(), channel());
    let end = |out, inbox| MemoryChannel {
        out,
        inbox,
        sent: Vec::new(),
        tamper: None,
        cut: None,
        panics: None,
        queued: Vec::new(),
        given_up: None,
    };
    (end(a.0, b.1), end(b.0, a.1))
}

/// Two ends of a session with so many connections.
pub fn several(count: usize) -> (Several<MemoryChannel>, Several<MemoryChannel>) {
    let (ours, theirs): (Vec<_>, Vec<_>) = (0..count).map(|_| pair()).unzip();
    let session = |mut ends: Vec<MemoryChannel>| {
        let given_up = Arc::default();
        for end in &mut ends {
            end.given_up = Some(Arc::clone(&given_up));
        }
        Several(ends)
    };
    (session(ours), session(theirs))
}

impl MemoryChannel {
    /// Sends without keeping a record.
    pub fn send_uncopied(&mut self, kind: Kind, body: Vec<u8>) -> Result<(), ChannelError> {
        self.out
            .send((kind as u8, body))
            .map_err(|_| ChannelError::Closed { expected: kind })
    }

    fn send_queued(&mut self, expected: Kind) -> Result<(), ChannelError> {
        let mut queued = self.queued.drain(..);
        let closed = |_| ChannelError::Closed { expected };
        queued.try_for_each(|message| self.out.send(message).map_err(closed))
    }

    fn next(&self, expected: Kind) -> Result<(u8, Vec<u8>), ChannelError> {
        let Some(given_up) = &self.given_up else {
            let next = self.inbox.recv();
            return next.map_err(|_| ChannelError::Closed { expected });
        };
        loop {
            match self.inbox.recv_timeout(Duration::from_millis(20)) {
                Ok(message) => return Ok(message),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ChannelError::Closed { expected });
                }
                Err(RecvTimeoutError::Timeout) if given_up.load(Ordering::Relaxed) => {
                    return Err(ChannelError::Cancelled);
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
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
            self.queued.push((name, body.clone()));
        }
        match self.given_up {
            // or nobody would notice what is never flushed
            Some(_) => Ok(()),
            None => self.send_queued(kind),
        }
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        self.send_queued(Kind::Done)
    }

    fn recv(
        &mut self,
        kind: Kind,
        expected_len: usize,
        body: &mut Vec<u8>,
    ) -> Result<(), ChannelError> {
        self.send_queued(kind)?;
        let (got, bytes) = self.next(kind)?;
        let (panics, expected) = (self.panics == Some(kind), (kind as u8, expected_len));
        if self.given_up.is_some() && (panics || (got, bytes.len()) != expected) {
            // until the party's other threads wait for their peer
            thread::sleep(Duration::from_millis(50));
        }
        assert!(!panics, "as planned");
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

    fn connections(&mut self) -> Vec<&mut dyn Channel> {
        vec![self]
    }

    fn give_up(&mut self) {
        if let Some(given_up) = &self.given_up {
            given_up.store(true, Ordering::Relaxed);
        }
    }
}

impl<C: Channel> Channel for Several<C> {
    fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), ChannelError> {
        self.0[0].send(kind, body)
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        self.0[0].flush()
    }

    fn recv(
        &mut self,
        kind: Kind,
        expected_len: usize,
        body: &mut Vec<u8>,
    ) -> Result<(), ChannelError> {
        self.0[0].recv(kind, expected_len, body)
    }

    fn enter(&mut self, phase: Phase, step: StepId) {
        self.0[0].enter(phase, step);
    }

    fn connections(&mut self) -> Vec<&mut dyn Channel> {
        let all = self.0.iter_mut();
        all.map(|end| end as &mut dyn Channel).collect()
    }

    fn give_up(&mut self) {
        self.0[0].give_up();
    }
}
