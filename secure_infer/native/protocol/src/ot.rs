//! The OT engines of a session and their messages.
//!
//! H is OT sender and D receiver under one pair of engines, and the other way round under a second one. Which
//! engine it is, both parties have agreed on before ([`OtEngine`]). Before OTs are used, both ask whether a refill is due
//! (never with `softspoken`); then the receiver sends a request and the sender an answer. Messages that would
//! be empty are not sent.

use blindread_lattice::Prg;
use blindread_ot::{
    FerretReceiver, FerretSender, OtEngine, OtError, OtKind, OtReceiver, OtReceiverEngine,
    OtSender, OtSenderEngine, ReceiverSetup, Refill, SenderSetup,
};

use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;
use crate::options::SessionOptions;

/// Both engines of one party.
pub(crate) struct Engines {
    pub(crate) sender: Box<dyn OtSenderEngine + Send>,
    pub(crate) receiver: Box<dyn OtReceiverEngine + Send>,
}

/// The kinds of OTs that H sends and D receives; in the other direction there are random OTs alone.
const FROM_HOSPITAL: [OtKind; 2] = [OtKind::RandomOt, OtKind::OneOf16];
const FROM_DEVELOPER: [OtKind; 1] = [OtKind::RandomOt];

impl Engines {
    /// H's set-up: base OTs in both directions, and the first OTs of engines that refill.
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
        let mut engines = Self::extended(options, sender, receiver, prg);
        for kind in FROM_HOSPITAL {
            answer_refills(ch, &mut *engines.sender, kind, 1)?;
        }
        for kind in FROM_DEVELOPER {
            request_refills(ch, &mut *engines.receiver, kind, 1)?;
        }
        Ok(engines)
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
        let mut engines = Self::extended(options, sender, receiver, prg);
        for kind in FROM_HOSPITAL {
            request_refills(ch, &mut *engines.receiver, kind, 1)?;
        }
        for kind in FROM_DEVELOPER {
            answer_refills(ch, &mut *engines.sender, kind, 1)?;
        }
        ch.flush()?;
        Ok(engines)
    }

    fn extended(
        options: &SessionOptions,
        sender: OtSender,
        receiver: OtReceiver,
        prg: &mut Prg,
    ) -> Self {
        let sender = sender.with_workers(&options.workers);
        let receiver = receiver.with_workers(&options.workers);
        match options.engine {
            OtEngine::SoftSpoken => Self {
                sender: Box::new(sender),
                receiver: Box::new(receiver),
            },
            OtEngine::Ferret => Self {
                sender: Box::new(FerretSender::new(sender, prg)),
                receiver: Box::new(FerretReceiver::new(receiver, prg)),
            },
        }
    }
}

/// The name of one direction of OTs in one session.
fn label(direction: &[u8], session_id: &[u8; 32]) -> Vec<u8> {
    [b"blindread ot v1 ", direction, b" ", session_id.as_slice()].concat()
}

fn malformed(error: OtError) -> ProtocolError {
    ProtocolError::Message(error.to_string())
}

fn answer_refills(
    ch: &mut dyn Channel,
    engine: &mut dyn OtSenderEngine,
    kind: OtKind,
    n: usize,
) -> Result<(), ProtocolError> {
    while let Some(refill) = engine.refill(kind, n) {
        let (mut request, mut answer) = (Vec::new(), Vec::with_capacity(refill.answer_len));
        recv(ch, Kind::OtRefill, refill.request_len, &mut request)?;
        engine
            .answer_refill(refill, &request, &mut answer)
            .map_err(malformed)?;
        ch.send(Kind::OtRefill, &answer)?;
        ch.flush()?;
    }
    Ok(())
}

fn request_refills(
    ch: &mut dyn Channel,
    engine: &mut dyn OtReceiverEngine,
    kind: OtKind,
    n: usize,
) -> Result<(), ProtocolError> {
    while let Some(refill) = engine.refill(kind, n) {
        request_refill(ch, engine, refill)?;
        finish_refill(ch, engine, refill)?;
    }
    Ok(())
}

/// The first half of a refill; no OTs before the second one.
pub(crate) fn request_refill(
    ch: &mut dyn Channel,
    engine: &mut dyn OtReceiverEngine,
    refill: Refill,
) -> Result<(), ProtocolError> {
    let mut body = Vec::with_capacity(refill.request_len);
    engine
        .request_refill(refill, &mut body)
        .map_err(malformed)?;
    send(ch, Kind::OtRefill, &body)
}

pub(crate) fn finish_refill(
    ch: &mut dyn Channel,
    engine: &mut dyn OtReceiverEngine,
    refill: Refill,
) -> Result<(), ProtocolError> {
    let mut body = Vec::new();
    ch.recv(Kind::OtRefill, refill.answer_len, &mut body)?;
    engine.finish_refill(&body).map_err(malformed)
}

fn send(ch: &mut dyn Channel, kind: Kind, body: &[u8]) -> Result<(), ProtocolError> {
    if !body.is_empty() {
        ch.send(kind, body)?;
    }
    Ok(())
}

fn recv(
    ch: &mut dyn Channel,
    kind: Kind,
    expected_len: usize,
    body: &mut Vec<u8>,
) -> Result<(), ProtocolError> {
    body.clear();
    if expected_len > 0 {
        ch.recv(kind, expected_len, body)?;
    }
    Ok(())
}

/// Random OTs with the peer as the receiver: both pads of each.
pub(crate) fn send_random_ots(
    ch: &mut dyn Channel,
    engine: &mut dyn OtSenderEngine,
    bits: u32,
    first: &mut [u32],
    second: &mut [u32],
) -> Result<(), ProtocolError> {
    let n = first.len();
    answer_refills(ch, engine, OtKind::RandomOt, n)?;
    let mut body = Vec::new();
    recv(ch, Kind::OtCorrections, engine.random_ot_len(n), &mut body)?;
    engine
        .random_ot(n, bits, &body, first, second)
        .map_err(malformed)
}

/// Random OTs with this party as the receiver: its choices and pads.
pub(crate) fn recv_random_ots(
    ch: &mut dyn Channel,
    engine: &mut dyn OtReceiverEngine,
    bits: u32,
    choices: &mut [u8],
    pads: &mut [u32],
) -> Result<(), ProtocolError> {
    let n = pads.len();
    request_refills(ch, engine, OtKind::RandomOt, n)?;
    let mut body = Vec::new();
    engine
        .random_ot(n, bits, &mut body, choices, pads)
        .map_err(malformed)?;
    send(ch, Kind::OtCorrections, &body)
}

/// One-of-sixteen OTs with the peer as the receiver: the pads of all entries of each.
pub(crate) fn send_tables(
    ch: &mut dyn Channel,
    engine: &mut dyn OtSenderEngine,
    pads: &mut [u16],
) -> Result<(), ProtocolError> {
    let n = pads.len();
    answer_refills(ch, engine, OtKind::OneOf16, n)?;
    let mut body = Vec::new();
    recv(ch, Kind::OtCorrections, engine.one_of_16_len(n), &mut body)?;
    engine.one_of_16(n, &body, pads).map_err(malformed)
}

/// One-of-sixteen OTs with this party as the receiver: its entries and their pads.
pub(crate) fn recv_tables(
    ch: &mut dyn Channel,
    engine: &mut dyn OtReceiverEngine,
    omega: &mut [u8],
    pads: &mut [u8],
) -> Result<(), ProtocolError> {
    let n = pads.len();
    request_refills(ch, engine, OtKind::OneOf16, n)?;
    let mut body = Vec::new();
    engine
        .one_of_16(n, &mut body, omega, pads)
        .map_err(malformed)?;
    send(ch, Kind::OtCorrections, &body)
}
