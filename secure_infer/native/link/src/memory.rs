//! Two channels in one process, for tests and for the conformance suite. Nothing is encrypted.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use blindread_protocol::channel::{Channel, ChannelError, Kind, Phase};
use blindread_protocol::program::StepId;

use crate::cancel::Cancel;
use crate::meter::Meter;

const SLICE: Duration = Duration::from_millis(50);

/// One end of a connection in memory.
pub struct MemoryChannel {
    to_peer: Sender<(Kind, Vec<u8>)>,
    from_peer: Receiver<(Kind, Vec<u8>)>,
    cancel: Cancel,
    patience: Duration,
    meter: Meter,
}

/// Both ends; a wait longer than `patience` fails.
#[must_use]
pub fn pair(patience: Duration, cancel: &Cancel) -> (MemoryChannel, MemoryChannel) {
    let (to_b, from_a) = channel();
    let (to_a, from_b) = channel();
    let end = |to_peer, from_peer| MemoryChannel {
        to_peer,
        from_peer,
        cancel: cancel.clone(),
        patience,
        meter: Meter::default(),
    };
    (end(to_b, from_b), end(to_a, from_a))
}

impl MemoryChannel {
    /// What was spent so far.
    pub fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }
}

impl Channel for MemoryChannel {
    fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), ChannelError> {
        self.meter.sent(5 + body.len());
        self.to_peer
            .send((kind, body.to_vec()))
            .map_err(|_| ChannelError::Closed { expected: kind })
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
        let begin = Instant::now();
        let (got, bytes) = loop {
            if self.cancel.is_cancelled() {
                return Err(ChannelError::Cancelled);
            }
            match self.from_peer.recv_timeout(SLICE) {
                Ok(message) => break message,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ChannelError::Closed { expected: kind });
                }
                Err(RecvTimeoutError::Timeout) if begin.elapsed() > self.patience => {
                    return Err(ChannelError::Timeout { expected: kind });
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        };
        self.meter.waited(begin.elapsed());
        self.meter.received(5 + bytes.len());
        if got != kind {
            return Err(ChannelError::UnexpectedKind {
                expected: kind,
                got: got as u8,
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

    fn enter(&mut self, phase: Phase, step: StepId) {
        self.meter.enter(phase, Some(step));
    }

    fn connections(&mut self) -> Vec<&mut dyn Channel> {
        vec![self]
    }
}
