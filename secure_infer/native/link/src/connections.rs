//! The connections of one session: one for everything but lanes, and beside it so many that one of the parties has a
//! thread for each.

use std::iter::once;

use blindread_protocol::channel::{Channel, ChannelError, Kind, Phase};
use blindread_protocol::program::StepId;

use crate::cancel::Cancel;
use crate::channel::TlsChannel;
use crate::error::LinkError;
use crate::message::{COMMAND_LEN, Command};
use crate::meter::Meter;

/// All connections of a session, in the order of their numbers.
pub(crate) struct Connections {
    pub(crate) main: TlsChannel,
    beside: Vec<TlsChannel>,
    /// What stops this session alone.
    cancel: Cancel,
    /// How many threads this party has.
    threads: usize,
}

impl Connections {
    /// A session that has no others yet; `cancel` stops `main` and nothing else.
    pub(crate) fn new(main: TlsChannel, cancel: Cancel, threads: usize) -> Self {
        Self {
            main,
            beside: Vec::new(),
            cancel,
            threads,
        }
    }

    /// One more.
    pub(crate) fn add(&mut self, mut channel: TlsChannel) {
        channel.adopt(self.cancel.clone());
        channel.opened();
        self.beside.push(channel);
    }

    /// What was spent so far, on all of them.
    pub(crate) fn meter(&mut self) -> &mut Meter {
        let meter = self.main.meter();
        let threads = self.threads.min(1 + self.beside.len());
        for (number, beside) in (1..).zip(&mut self.beside) {
            meter.collect(beside.meter(), number % threads == 0);
        }
        meter
    }

    /// Hospital: exchanges signs of life on those beside the first one.
    pub(crate) fn ping(&mut self) -> Result<(), LinkError> {
        self.each_sends(Kind::Command)?;
        self.each_receives(Kind::Done)
    }

    /// Developer: answers them.
    pub(crate) fn answer_ping(&mut self) -> Result<(), LinkError> {
        self.each_receives(Kind::Command)?;
        self.each_sends(Kind::Done)
    }

    fn each_sends(&mut self, kind: Kind) -> Result<(), LinkError> {
        self.beside.iter_mut().try_for_each(|channel| {
            channel.send_frame(kind, &Command::Ping.encode())?;
            Ok(channel.flush()?)
        })
    }

    fn each_receives(&mut self, kind: Kind) -> Result<(), LinkError> {
        let mut body = Vec::new();
        for channel in &mut self.beside {
            channel.recv_exact(kind, COMMAND_LEN, &mut body)?;
            if body != Command::Ping.encode() {
                return Err(LinkError::Message {
                    what: "ping",
                    expected: "a sign of life".to_owned(),
                    got: "another command".to_owned(),
                });
            }
        }
        Ok(())
    }

    /// Ends the session, see [`TlsChannel::finish`].
    pub(crate) fn finish(mut self, error: Option<&LinkError>) {
        self.all().for_each(|channel| channel.part(error));
        self.all().for_each(TlsChannel::hang_up);
    }

    fn all(&mut self) -> impl Iterator<Item = &mut TlsChannel> {
        once(&mut self.main).chain(&mut self.beside)
    }
}

impl Channel for Connections {
    fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), ChannelError> {
        self.main.send(kind, body)
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        self.main.flush()
    }

    fn recv(&mut self, kind: Kind, len: usize, body: &mut Vec<u8>) -> Result<(), ChannelError> {
        self.main.recv(kind, len, body)
    }

    fn enter(&mut self, phase: Phase, step: StepId) {
        self.meter().enter(phase, Some(step));
    }

    fn connections(&mut self) -> Vec<&mut dyn Channel> {
        self.all().map(|channel| channel as _).collect()
    }

    fn give_up(&mut self) {
        self.cancel.cancel();
    }
}
