//! Frames over TLS: the protocol's [`Channel`] on a real connection.
//!
//! A frame is kind (1 byte), length (4 bytes, little-endian), body. Small frames are gathered into full
//! TLS records; large bodies go to TLS from where they lie. What the peer announces is compared
//! with what the protocol expects before a byte of memory is set aside for it.
//!
//! Both parties may send at the same time without a deadlock: a write that would block reads meanwhile,
//! into an inbox of bounded size.

mod farewell;

use std::io::{self, BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use blindread_protocol::channel::{Channel, ChannelError, Kind, MAX_BODY, Phase};
use blindread_protocol::program::StepId;

use crate::cancel::Cancel;
use crate::error::{LinkError, closed, from_tls};
use crate::message::{MAX_ERROR, decode_error};
use crate::meter::Meter;
use crate::socket::{Interrupted, Socket};
use crate::timeouts::Timeouts;
use crate::tls::{self, Credentials, Fingerprint};

const HEADER: usize = 5;
/// Plaintext of a full record.
const RECORD: usize = 1 << 14;
/// Plaintext encrypted before the socket is offered it.
const OFFER: usize = 1 << 16;
/// Plaintext encrypted at once; bounds the copy that TLS keeps.
const PIECE: usize = 1 << 18;
/// Ciphertext taken from the socket at once.
const STAGE: usize = 1 << 18;
/// Plaintext kept while a write waits; more stays with the peer.
const INBOX: usize = 2 * MAX_BODY;

/// Ciphertext between the socket and TLS, which takes only 4 kB at a time.
struct Stage {
    bytes: Vec<u8>,
    from: usize,
    to: usize,
}

impl Read for Stage {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = (self.to - self.from).min(buffer.len());
        buffer[..taken].copy_from_slice(&self.bytes[self.from..self.from + taken]);
        self.from += taken;
        Ok(taken)
    }
}

/// An encrypted, authenticated connection to the other party.
pub struct TlsChannel {
    tls: rustls::Connection,
    socket: Socket,
    timeouts: Timeouts,
    /// While opening or closing: the end of everything's patience.
    until: Option<Instant>,
    stage: Stage,
    /// Less than a record.
    gathered: Vec<u8>,
    /// Plaintext that TLS has encrypted since the socket was offered some.
    encrypted: usize,
    inbox: Vec<u8>,
    inbox_from: usize,
    /// What this side waits for, for the words of an error.
    expected: Kind,
    meter: Meter,
}

impl TlsChannel {
    /// Calls the developer at `address` (`host:port`), whose certificate must carry `name`.
    ///
    /// # Errors
    /// [`LinkError::Connect`], a certificate's error, a time-out.
    pub fn connect(
        address: &str,
        name: &str,
        credentials: &Credentials,
        timeouts: Timeouts,
        cancel: Cancel,
    ) -> Result<Self, LinkError> {
        let tls = credentials.connect(name)?;
        let socket = Socket::connect(address, &timeouts, cancel)?;
        Self::open(tls, socket, timeouts)
    }

    /// Answers a hospital's call.
    ///
    /// # Errors
    /// A certificate's error, a time-out.
    pub fn accept(
        stream: TcpStream,
        config: Arc<rustls::ServerConfig>,
        timeouts: Timeouts,
        cancel: Cancel,
    ) -> Result<Self, LinkError> {
        let tls = tls::accept(config)?;
        let socket = Socket::new(stream, cancel).map_err(|error| io_error(&error, Kind::Hello))?;
        Self::open(tls, socket, timeouts)
    }

    /// Answers one call outside of a server.
    ///
    /// # Errors
    /// As [`TlsChannel::accept`].
    pub fn accept_with(
        stream: TcpStream,
        credentials: &Credentials,
        timeouts: Timeouts,
        cancel: Cancel,
    ) -> Result<Self, LinkError> {
        Self::accept(stream, credentials.server_config()?, timeouts, cancel)
    }

    fn open(
        mut tls: rustls::Connection,
        socket: Socket,
        timeouts: Timeouts,
    ) -> Result<Self, LinkError> {
        tls.set_buffer_limit(None);
        let mut channel = Self {
            tls,
            socket,
            timeouts,
            until: Some(Instant::now() + timeouts.handshake),
            stage: Stage {
                bytes: vec![0; STAGE],
                from: 0,
                to: 0,
            },
            gathered: Vec::with_capacity(RECORD + HEADER),
            encrypted: 0,
            inbox: Vec::new(),
            inbox_from: 0,
            expected: Kind::Hello,
            meter: Meter::default(),
        };
        match channel.handshake() {
            Ok(()) => Ok(channel),
            Err(error) => {
                channel.farewell();
                Err(error)
            }
        }
    }

    fn handshake(&mut self) -> Result<(), LinkError> {
        while self.tls.is_handshaking() {
            self.push()?;
            if self.tls.is_handshaking() {
                let deadline = self.deadline(self.timeouts.handshake);
                self.pull(deadline)?;
            }
        }
        self.push()
    }

    /// From here on a session's wish to stop counts.
    pub(crate) fn adopt(&mut self, cancel: Cancel) {
        self.socket.cancel = cancel;
    }

    /// The fingerprint of the peer's certificate.
    pub(crate) fn peer(&self) -> Result<Fingerprint, LinkError> {
        tls::peer_fingerprint(&self.tls)
    }

    /// Hello and welcome are over; from here on each wait has its own limit.
    pub(crate) fn opened(&mut self) {
        self.until = None;
    }

    /// From here on everything together must be over within the time of a farewell.
    pub(crate) fn hurry(&mut self) {
        self.until = Some(Instant::now() + self.timeouts.farewell);
    }

    /// What was spent so far.
    pub fn meter(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// Receives a message whose length isn't known beforehand, of at most `limit` bytes.
    pub(crate) fn recv_bounded(
        &mut self,
        kind: Kind,
        limit: usize,
        body: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        let (len, until) = self.recv_header(kind, self.timeouts.silence)?;
        if len > limit {
            return Err(ChannelError::UnexpectedLength {
                kind,
                expected: limit,
                got: len,
            }
            .into());
        }
        self.recv_body(len, until, body)
    }

    /// Receives a message of exactly `len` bytes.
    pub(crate) fn recv_exact(
        &mut self,
        kind: Kind,
        len: usize,
        body: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        self.recv_within(kind, len, self.timeouts.silence, body)
    }

    /// Waits for a command, patiently; a request to stop ends the wait.
    pub(crate) fn recv_idle(
        &mut self,
        kind: Kind,
        len: usize,
        body: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        self.socket.idle = true;
        let result = self.recv_within(kind, len, self.timeouts.idle, body);
        self.socket.idle = false;
        result
    }

    fn recv_within(
        &mut self,
        kind: Kind,
        len: usize,
        patience: Duration,
        body: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        let (got, until) = self.recv_header(kind, patience)?;
        if got != len {
            return Err(ChannelError::UnexpectedLength {
                kind,
                expected: len,
                got,
            }
            .into());
        }
        self.recv_body(len, until, body)
    }

    /// Reads a frame's header, and the whole frame if it is an error. Returns the body's length and
    /// until when it must be here.
    fn recv_header(
        &mut self,
        kind: Kind,
        patience: Duration,
    ) -> Result<(usize, Instant), LinkError> {
        self.expected = kind;
        self.flush_out()?;
        let mut header = [0; HEADER];
        let first = self.deadline(patience);
        self.fill(&mut header[..1], first, patience)?;
        let until = self.deadline(self.timeouts.message);
        self.fill(&mut header[1..], until, self.timeouts.silence)?;
        let len = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
        match header[0] {
            got if got == kind as u8 => Ok((len, until)),
            got if got == Kind::Error as u8 && len <= MAX_ERROR => {
                let mut body = Vec::new();
                self.recv_body(len, until, &mut body)?;
                let (code, message) = decode_error(&body);
                Err(ChannelError::Peer { code, message }.into())
            }
            got => Err(ChannelError::UnexpectedKind {
                expected: kind,
                got,
            }
            .into()),
        }
    }

    fn recv_body(
        &mut self,
        len: usize,
        until: Instant,
        body: &mut Vec<u8>,
    ) -> Result<(), LinkError> {
        body.clear();
        body.reserve(len);
        self.take(len, until, self.timeouts.silence, |plaintext| {
            body.extend_from_slice(plaintext);
        })?;
        self.meter.received(HEADER + len);
        Ok(())
    }

    /// Fills `target` with plaintext, as [`Self::take`] takes it.
    fn fill(
        &mut self,
        target: &mut [u8],
        until: Instant,
        patience: Duration,
    ) -> Result<(), LinkError> {
        let mut filled = 0;
        self.take(target.len(), until, patience, |plaintext| {
            target[filled..filled + plaintext.len()].copy_from_slice(plaintext);
            filled += plaintext.len();
        })
    }

    /// Gives `sink` plaintext of `len` bytes, piece by piece; every read may take `patience`, all together until `until`.
    fn take(
        &mut self,
        len: usize,
        until: Instant,
        patience: Duration,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<(), LinkError> {
        let stashed = len.min(self.inbox.len() - self.inbox_from);
        sink(&self.inbox[self.inbox_from..self.inbox_from + stashed]);
        self.inbox_from += stashed;
        if self.inbox_from == self.inbox.len() {
            self.inbox.clear();
            self.inbox_from = 0;
        }
        let mut left = len - stashed;
        while left > 0 {
            let mut reader = self.tls.reader();
            match reader.fill_buf() {
                Ok([]) => return Err(closed(self.expected)),
                Ok(plaintext) => {
                    let taken = plaintext.len().min(left);
                    sink(&plaintext[..taken]);
                    reader.consume(taken);
                    left -= taken;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let deadline = self.deadline(patience).min(until);
                    self.pull(deadline)?;
                }
                Err(error) => return Err(io_error(&error, self.expected)),
            }
        }
        Ok(())
    }

    /// Takes ciphertext from the socket, waiting for it if need be, and lets TLS decrypt some.
    fn pull(&mut self, deadline: Instant) -> Result<(), LinkError> {
        while self.stage.from == self.stage.to {
            match self.socket.read(&mut self.stage.bytes) {
                Ok(0) => return Err(closed(self.expected)),
                Ok(count) => (self.stage.from, self.stage.to) = (0, count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(true, false, deadline)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error(&error, self.expected)),
            }
        }
        self.decrypt()
    }

    fn decrypt(&mut self) -> Result<(), LinkError> {
        self.tls
            .read_tls(&mut self.stage)
            .map_err(|error| io_error(&error, self.expected))?;
        self.tls
            .process_new_packets()
            .map_err(|error| from_tls(&error))?;
        Ok(())
    }

    /// Hands everything that TLS has encrypted to the socket.
    fn push(&mut self) -> Result<(), LinkError> {
        let mut deadline = self.deadline(self.timeouts.silence);
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut self.socket) {
                Ok(_) => deadline = self.deadline(self.timeouts.silence),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let room =
                        self.inbox.len() - self.inbox_from < INBOX && !self.tls.is_handshaking();
                    if self.wait(room, true, deadline)? {
                        self.stash()?;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.last_words(io_error(&error, self.expected))),
            }
        }
        Ok(())
    }

    /// Takes what is there without waiting, and keeps its plaintext in the inbox.
    fn stash(&mut self) -> Result<(), LinkError> {
        match self.take_available() {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.last_words(closed(self.expected))),
            Err(error) => Err(self.last_words(error)),
        }
    }

    /// One read of the socket into the inbox; false at the end of the connection.
    fn take_available(&mut self) -> Result<bool, LinkError> {
        if self.stage.from == self.stage.to {
            match self.socket.read(&mut self.stage.bytes) {
                Ok(0) => return Ok(false),
                Ok(count) => (self.stage.from, self.stage.to) = (0, count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(io_error(&error, self.expected)),
            }
        }
        while self.stage.from < self.stage.to {
            self.decrypt()?;
            let mut piece = [0; 1 << 14];
            loop {
                match self.tls.reader().read(&mut piece) {
                    Ok(0) => return Ok(false),
                    Ok(count) => self.inbox.extend_from_slice(&piece[..count]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(io_error(&error, self.expected)),
                }
            }
        }
        Ok(true)
    }

    fn flush_out(&mut self) -> Result<(), LinkError> {
        self.encrypt_gathered()?;
        self.encrypted = 0;
        self.push()
    }

    fn encrypt_gathered(&mut self) -> Result<(), LinkError> {
        let mut gathered = std::mem::take(&mut self.gathered);
        self.encrypt(&gathered)?;
        gathered.clear();
        self.gathered = gathered;
        Ok(())
    }

    fn encrypt(&mut self, plaintext: &[u8]) -> Result<(), LinkError> {
        let written = self.tls.writer().write_all(plaintext);
        written.map_err(|error| io_error(&error, self.expected))?;
        self.encrypted += plaintext.len();
        if self.encrypted >= OFFER {
            self.encrypted = 0;
            self.push()?;
        }
        Ok(())
    }

    pub(crate) fn send_frame(&mut self, kind: Kind, body: &[u8]) -> Result<(), LinkError> {
        if self.socket.cancel.is_cancelled() {
            return Err(ChannelError::Cancelled.into());
        }
        let len = u32::try_from(body.len())
            .ok()
            .filter(|_| body.len() <= MAX_BODY);
        let Some(len) = len else {
            return Err(ChannelError::UnexpectedLength {
                kind,
                expected: MAX_BODY,
                got: body.len(),
            }
            .into());
        };
        self.expected = kind;
        self.gathered.push(kind as u8);
        self.gathered.extend_from_slice(&len.to_le_bytes());
        // Fills the record that is begun, sends full ones from where they lie, keeps the rest.
        let (head, rest) =
            body.split_at(body.len().min(RECORD.saturating_sub(self.gathered.len())));
        self.gathered.extend_from_slice(head);
        if self.gathered.len() >= RECORD {
            self.encrypt_gathered()?;
            let (whole, rest) = rest.split_at(rest.len() - rest.len() % RECORD);
            for piece in whole.chunks(PIECE) {
                self.encrypt(piece)?;
            }
            self.gathered.extend_from_slice(rest);
        }
        self.meter.sent(HEADER + body.len());
        Ok(())
    }

    fn wait(&mut self, read: bool, write: bool, deadline: Instant) -> Result<bool, LinkError> {
        let since = Instant::now();
        let ready = self.socket.wait(read, write, deadline);
        self.meter.waited(since.elapsed());
        ready.map_err(|interrupted| match interrupted {
            Interrupted::Timeout => ChannelError::Timeout {
                expected: self.expected,
            }
            .into(),
            Interrupted::Cancelled => ChannelError::Cancelled.into(),
            Interrupted::Io(error) => io_error(&error, self.expected),
        })
    }

    fn deadline(&self, patience: Duration) -> Instant {
        let own = Instant::now() + patience;
        self.until.map_or(own, |until| until.min(own))
    }
}

impl Channel for TlsChannel {
    fn send(&mut self, kind: Kind, body: &[u8]) -> Result<(), ChannelError> {
        self.send_frame(kind, body).map_err(for_protocol)
    }

    fn flush(&mut self) -> Result<(), ChannelError> {
        self.flush_out().map_err(for_protocol)
    }

    fn recv(
        &mut self,
        kind: Kind,
        expected_len: usize,
        body: &mut Vec<u8>,
    ) -> Result<(), ChannelError> {
        self.recv_exact(kind, expected_len, body)
            .map_err(for_protocol)
    }

    fn enter(&mut self, phase: Phase, step: StepId) {
        self.meter.enter(phase, Some(step));
    }

    fn connections(&mut self) -> Vec<&mut dyn Channel> {
        vec![self]
    }

    fn give_up(&mut self) {
        self.socket.cancel.cancel();
    }
}

fn for_protocol(error: LinkError) -> ChannelError {
    match error {
        LinkError::Channel(error) => error,
        other => ChannelError::Io(other.to_string()),
    }
}

fn io_error(error: &io::Error, expected: Kind) -> LinkError {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => closed(expected),
        _ => ChannelError::Io(error.to_string()).into(),
    }
}
