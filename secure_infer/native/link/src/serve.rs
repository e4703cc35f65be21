//! One hospital's connection, seen from the developer.

use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use blindread_protocol::OtEngine;
use blindread_protocol::channel::{ChannelError, Kind, Phase};
use blindread_protocol::developer::{Session, Ticket};
use blindread_protocol::{SessionOptions, Workers};

use crate::budget::Budget;
use crate::channel::TlsChannel;
use crate::choice::{Choice, REQUEST_LEN, Request};
use crate::developer::{DeveloperModel, Limits};
use crate::entropy;
use crate::error::LinkError;
use crate::event::{Event, Listener};
use crate::hex;
use crate::message::{COMMAND_LEN, Command, Hello, MAX_HELLO, Role, Welcome, session_id};
use crate::meter::Meter;
use crate::probe::Allowance;
use crate::ticket::Pool;
use crate::tls::{Credentials, Fingerprint};

/// What all connections of a server share.
pub(crate) struct Shared {
    pub(crate) model: DeveloperModel,
    pub(crate) credentials: Credentials,
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) limits: Limits,
    pub(crate) budget: Budget,
    pub(crate) cancel: crate::Cancel,
    pub(crate) listener: Listener,
    pub(crate) hospitals: Places,
    /// What all connections spent so far, up to the last command that each of them has finished.
    pub(crate) spent: Mutex<Meter>,
}

impl Shared {
    /// Moves what a connection spent since the last time to the sum over all of them.
    fn absorb(&self, meter: &mut Meter) {
        meter.leave();
        self.spent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .absorb(meter);
        meter.reset();
    }
}

/// Counted places; one is given back when it is dropped.
pub(crate) struct Places {
    taken: std::sync::atomic::AtomicUsize,
    limit: usize,
}

pub(crate) struct Place<'a>(&'a Places);

impl Places {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            taken: 0.into(),
            limit,
        }
    }

    pub(crate) fn take(&self) -> Result<Place<'_>, LinkError> {
        use std::sync::atomic::Ordering::AcqRel;
        if self.taken.fetch_add(1, AcqRel) < self.limit {
            return Ok(Place(self));
        }
        self.taken.fetch_sub(1, AcqRel);
        Err(LinkError::Busy { limit: self.limit })
    }

    pub(crate) fn taken(&self) -> usize {
        self.taken.load(std::sync::atomic::Ordering::Acquire)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0
            .taken
            .fetch_sub(1, std::sync::atomic::Ordering::AcqRel);
    }
}

/// Serves one connection to its end, and reports it.
pub(crate) fn serve(shared: &Shared, number: u64, stream: TcpStream) {
    let mut reporter = Reporter {
        shared,
        number,
        peer: String::new(),
    };
    let begin = Instant::now();
    let channel = TlsChannel::accept(
        stream,
        shared.tls.clone(),
        shared.limits.timeouts,
        shared.cancel.clone(),
    );
    let mut channel = match channel {
        Ok(channel) => channel,
        Err(error) => return reporter.tell("refused", Some(&error), None, begin),
    };
    match open(shared, &mut channel, &mut reporter) {
        Ok((mut connection, _place)) => {
            reporter.connected(connection.choice, begin);
            let end = connection.commands(&mut channel, &reporter);
            drop(connection);
            reporter.tell("closed", end.as_ref().err(), None, begin);
            channel.finish(end.as_ref().err());
        }
        Err(error) => {
            reporter.tell("refused", Some(&error), None, begin);
            channel.finish(Some(&error));
        }
    }
}

struct Connection<'a> {
    shared: &'a Shared,
    peer: Fingerprint,
    session: Session,
    choice: Choice,
    tickets: Pool<Ticket>,
}

fn open<'a>(
    shared: &'a Shared,
    channel: &mut TlsChannel,
    reporter: &mut Reporter<'_>,
) -> Result<(Connection<'a>, Place<'a>), LinkError> {
    let peer = channel.peer()?;
    reporter.peer = hex(&peer);
    shared.credentials.check_pin(&peer)?;
    let own = Hello::new(Role::Developer, &shared.model.identity, &*entropy()?);
    channel.send_frame(Kind::Hello, own.bytes())?;
    let mut body = Vec::new();
    channel.recv_bounded(Kind::Hello, MAX_HELLO, &mut body)?;
    let theirs = own.check_peer(&body)?;
    let place = shared.hospitals.take()?;
    shared.budget.check(&peer, 0)?;
    let tickets = shared.limits.tickets;
    let welcome = Welcome {
        images_left: shared.budget.left(&peer),
        tickets: u32::try_from(tickets).unwrap_or(u32::MAX),
    };
    channel.send_frame(Kind::Done, &welcome.encode())?;
    channel.opened();
    channel.meter().enter(Phase::Setup, None);
    let choice = choice(channel, own.agreed_engine(&theirs)?)?;
    let session = Session::setup(
        channel,
        shared.model.plan.clone(),
        shared.model.parameters.clone(),
        shared.model.secrets.clone(),
        SessionOptions {
            id: session_id(&theirs, &own, choice),
            engine: choice.engine,
            workers: Workers::new(shared.limits.threads)?,
        },
        *entropy()?,
    )?;
    Ok((
        Connection {
            shared,
            peer,
            session,
            choice,
            tickets: Pool::new(tickets),
        },
        place,
    ))
}

/// Answers probes until the hospital has made its choice, which must be `agreed` if that is known.
fn choice(channel: &mut TlsChannel, agreed: Option<OtEngine>) -> Result<Choice, LinkError> {
    let mut allowance = Allowance::new(agreed.is_none());
    let mut body = Vec::new();
    loop {
        channel.recv_exact(Kind::Opening, REQUEST_LEN, &mut body)?;
        match Request::decode(&body)? {
            Request::Probe(len) => channel.send_frame(Kind::Probe, allowance.take(len)?)?,
            Request::Choose(choice) => {
                choice.check(agreed)?;
                return Ok(choice);
            }
        }
    }
}

impl Connection<'_> {
    fn commands(
        &mut self,
        channel: &mut TlsChannel,
        reporter: &Reporter<'_>,
    ) -> Result<(), LinkError> {
        let mut body = Vec::new();
        loop {
            self.shared.absorb(channel.meter());
            channel
                .recv_idle(Kind::Command, COMMAND_LEN, &mut body)
                .map_err(|error| match error {
                    LinkError::Channel(ChannelError::Cancelled) => LinkError::Shutdown,
                    LinkError::Channel(ChannelError::Timeout { .. }) => LinkError::Idle {
                        limit_s: self.shared.limits.timeouts.idle.as_secs(),
                    },
                    other => other,
                })?;
            let command = Command::decode(&body)?;
            let begin = Instant::now();
            match command {
                Command::Prepare(id) => {
                    self.prepare(channel, id)?;
                    reporter.tell("prepared", None, Some(id), begin);
                }
                Command::Infer(id) => {
                    self.infer(channel, id)?;
                    reporter.tell("inferred", None, Some(id), begin);
                }
                Command::Ping | Command::Close => {}
            }
            channel.send_frame(Kind::Done, &command.encode())?;
            if command == Command::Close {
                return Ok(());
            }
        }
    }

    fn prepare(&mut self, channel: &mut TlsChannel, id: u64) -> Result<(), LinkError> {
        // Tickets that could never be spent would be work for nothing.
        self.shared.budget.check(&self.peer, self.tickets.ready())?;
        let reserved = self.tickets.reserve(id)?;
        channel.meter().enter(Phase::Offline, None);
        let ticket = self.session.prepare(channel, reserved.id(), *entropy()?)?;
        self.tickets.add(reserved, ticket);
        Ok(())
    }

    fn infer(&mut self, channel: &mut TlsChannel, id: u64) -> Result<(), LinkError> {
        let claimed = self.tickets.claim(id)?;
        self.shared.budget.charge(&self.peer)?;
        channel.meter().enter(Phase::Online, None);
        let (ticket, _spent) = claimed.spend();
        self.session.infer(
            channel,
            ticket,
            self.shared.limits.output_noise,
            *entropy()?,
        )?;
        Ok(())
    }
}

struct Reporter<'a> {
    shared: &'a Shared,
    number: u64,
    peer: String,
}

impl Reporter<'_> {
    fn connected(&self, choice: Choice, begin: Instant) {
        (self.shared.listener)(Event {
            choice: Some(choice),
            ..self.event("connected", None, None, begin)
        });
    }

    fn tell(
        &self,
        name: &'static str,
        error: Option<&LinkError>,
        ticket: Option<u64>,
        begin: Instant,
    ) {
        (self.shared.listener)(self.event(name, error, ticket, begin));
    }

    fn event(
        &self,
        name: &'static str,
        error: Option<&LinkError>,
        ticket: Option<u64>,
        begin: Instant,
    ) -> Event {
        Event {
            name,
            connection: self.number,
            peer: self.peer.clone(),
            code: error.map_or_else(String::new, |error| error.code().to_owned()),
            message: error.map_or_else(String::new, ToString::to_string),
            ticket,
            choice: None,
            seconds: begin.elapsed().as_secs_f64(),
        }
    }
}
