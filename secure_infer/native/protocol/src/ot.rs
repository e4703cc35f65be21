//! The OT engines of a session and their messages.
//!
//! H is OT sender and D receiver under one pair of engines, and the other way round under a second one. Which
//! engine it is, both parties have agreed on before ([`OtEngine`]). Messages of OTs are those of the side that
//! speaks ([`OtEngine::speaker`]): corrections of the receiver or sums of the sender.

use blindread_lattice::Prg;
use blindread_ot::{
    FerretReceiver, FerretSender, OtEngine, OtError, OtReceiver, OtReceiverEngine, OtSender,
    OtSenderEngine, ReceiverSetup, Role, SenderSetup, Wire,
};

use crate::channel::{Channel, ChannelError, Kind};
use crate::error::ProtocolError;
use crate::options::SessionOptions;

/// Both engines of one party.
pub(crate) struct Engines {
    engine: OtEngine,
    sender: Box<dyn OtSenderEngine + Send>,
    receiver: Box<dyn OtReceiverEngine + Send>,
}

/// Whether there are one-of-sixteen OTs that H sends and D receives; in the other direction there are random OTs alone.
const TABLES_FROM_HOSPITAL: bool = true;
const TABLES_FROM_DEVELOPER: bool = false;

impl Engines {
    /// H's set-up: base OTs in both directions, and what `ferret` starts from.
    pub(crate) fn of_hospital(
        ch: &mut dyn Channel,
        options: &SessionOptions,
        prg: &mut Prg,
    ) -> Result<Self, ProtocolError> {
        let session_id = &options.id;
        let (setup, request) = SenderSetup::start(&label(b"hospital sends", session_id), prg);
        ch.send(Kind::BaseOt, &request)?;
        let mut body = Vec::new();
        ch.recv(Kind::BaseOt, SenderSetup::ANSWER_LEN, &mut body)?;
        let sender = setup.finish(&body).map_err(malformed)?;
        ch.recv(Kind::BaseOt, ReceiverSetup::REQUEST_LEN, &mut body)?;
        let (receiver, answer) = ReceiverSetup::new(&label(b"developer sends", session_id))
            .respond(&body, prg)
            .map_err(malformed)?;
        ch.send(Kind::BaseOt, &answer)?;
        ch.flush()?;
        let tables = [TABLES_FROM_HOSPITAL, TABLES_FROM_DEVELOPER];
        Self::start(ch, options, (sender, receiver), tables, prg)
    }

    /// D's set-up.
    pub(crate) fn of_developer(
        ch: &mut dyn Channel,
        options: &SessionOptions,
        prg: &mut Prg,
    ) -> Result<Self, ProtocolError> {
        let session_id = &options.id;
        let mut body = Vec::new();
        ch.recv(Kind::BaseOt, ReceiverSetup::REQUEST_LEN, &mut body)?;
        let (receiver, answer) = ReceiverSetup::new(&label(b"hospital sends", session_id))
            .respond(&body, prg)
            .map_err(malformed)?;
        ch.send(Kind::BaseOt, &answer)?;
        let (setup, request) = SenderSetup::start(&label(b"developer sends", session_id), prg);
        ch.send(Kind::BaseOt, &request)?;
        ch.recv(Kind::BaseOt, SenderSetup::ANSWER_LEN, &mut body)?;
        let sender = setup.finish(&body).map_err(malformed)?;
        let tables = [TABLES_FROM_DEVELOPER, TABLES_FROM_HOSPITAL];
        Self::start(ch, options, (sender, receiver), tables, prg)
    }

    /// The engines that were agreed on; `tables`: whether this party sends and receives one-of-sixteen OTs.
    fn start(
        ch: &mut dyn Channel,
        options: &SessionOptions,
        (sender, receiver): (OtSender, OtReceiver),
        tables: [bool; 2],
        prg: &mut Prg,
    ) -> Result<Self, ProtocolError> {
        let engine = options.engine;
        let sender = sender.with_workers(&options.workers);
        let receiver = receiver.with_workers(&options.workers);
        Ok(match engine {
            OtEngine::SoftSpoken => Self {
                engine,
                sender: Box::new(sender),
                receiver: Box::new(receiver),
            },
            OtEngine::Ferret => {
                let receiver = over(ch, Kind::OtCorrections, |wire| {
                    FerretReceiver::start(receiver, tables[1], wire)
                })?;
                ch.flush()?;
                let sender = over(ch, Kind::OtCorrections, |wire| {
                    FerretSender::start(sender, tables[0], wire, prg)
                })?;
                Self {
                    engine,
                    sender: Box::new(sender),
                    receiver: Box::new(receiver),
                }
            }
        })
    }
}

/// The name of one direction of OTs in one session.
fn label(direction: &[u8], session_id: &[u8; 32]) -> Vec<u8> {
    [b"blindread ot v1 ", direction, b" ", session_id.as_slice()].concat()
}

fn malformed(error: OtError) -> ProtocolError {
    ProtocolError::Message(error.to_string())
}

/// Messages of OTs on the session's connection.
struct Messages<'a> {
    ch: &'a mut dyn Channel,
    kind: Kind,
    failed: Option<ChannelError>,
}

impl Messages<'_> {
    fn passed(&mut self, result: Result<(), ChannelError>) -> Result<(), OtError> {
        result.map_err(|error| {
            self.failed = Some(error);
            OtError::Connection
        })
    }
}

impl Wire for Messages<'_> {
    fn send(&mut self, message: &[u8]) -> Result<(), OtError> {
        let result = self.ch.send(self.kind, message);
        self.passed(result)
    }

    fn recv(&mut self, len: usize, message: &mut Vec<u8>) -> Result<(), OtError> {
        let result = self.ch.recv(self.kind, len, message);
        self.passed(result)
    }
}

/// What `work` makes of messages of one kind.
fn over<R>(
    ch: &mut dyn Channel,
    kind: Kind,
    work: impl FnOnce(&mut dyn Wire) -> Result<R, OtError>,
) -> Result<R, ProtocolError> {
    let mut messages = Messages {
        ch,
        kind,
        failed: None,
    };
    let result = work(&mut messages);
    result.map_err(|error| match messages.failed {
        Some(failed) => failed.into(),
        None => malformed(error),
    })
}

impl Engines {
    /// Whether this party speaks for OTs of which it has this side. Who speaks waits for nothing.
    pub(crate) fn speaks(&self, role: Role) -> bool {
        self.engine.speaker() == role
    }

    /// Both sides, first the one for which this party speaks.
    pub(crate) fn speaking_first(&self) -> [Role; 2] {
        match self.engine.speaker() {
            Role::Sender => [Role::Sender, Role::Receiver],
            Role::Receiver => [Role::Receiver, Role::Sender],
        }
    }

    /// What the side that speaks sends.
    fn kind(&self) -> Kind {
        match self.engine.speaker() {
            Role::Sender => Kind::OtSums,
            Role::Receiver => Kind::OtCorrections,
        }
    }

    /// Random OTs with the peer as the receiver: both pads of each.
    pub(crate) fn send_random(
        &mut self,
        ch: &mut dyn Channel,
        bits: u32,
        pads: [&mut [u32]; 2],
    ) -> Result<(), ProtocolError> {
        let n = pads[0].len();
        over(ch, self.kind(), |wire| {
            self.sender.random_ot(n, bits, wire, pads)
        })
    }

    /// Random OTs with this party as the receiver: its choices and pads.
    pub(crate) fn recv_random(
        &mut self,
        ch: &mut dyn Channel,
        bits: u32,
        choices: &mut [u8],
        pads: &mut [u32],
    ) -> Result<(), ProtocolError> {
        over(ch, self.kind(), |wire| {
            (self.receiver).random_ot(pads.len(), bits, wire, choices, pads)
        })
    }

    /// One-of-sixteen OTs with the peer as the receiver: the pads of all entries of each.
    pub(crate) fn send_tables(
        &mut self,
        ch: &mut dyn Channel,
        pads: &mut [u16],
    ) -> Result<(), ProtocolError> {
        over(ch, self.kind(), |wire| {
            self.sender.one_of_16(pads.len(), wire, pads)
        })
    }

    /// One-of-sixteen OTs with this party as the receiver: its entries and their pads.
    pub(crate) fn recv_tables(
        &mut self,
        ch: &mut dyn Channel,
        omega: &mut [u8],
        pads: &mut [u8],
    ) -> Result<(), ProtocolError> {
        over(ch, self.kind(), |wire| {
            self.receiver.one_of_16(pads.len(), wire, omega, pads)
        })
    }
}

#[cfg(test)]
impl Engines {
    pub(crate) fn of(
        engine: OtEngine,
        sender: Box<dyn OtSenderEngine + Send>,
        receiver: Box<dyn OtReceiverEngine + Send>,
    ) -> Self {
        Self {
            engine,
            sender,
            receiver,
        }
    }
}
