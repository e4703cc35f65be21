//! One hospital's session, seen from the developer.

use std::net::TcpStream;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use blindread_protocol::OtEngine;
use blindread_protocol::channel::{Channel, ChannelError, Kind, Phase};
use blindread_protocol::developer::{Session, Ticket};
use blindread_protocol::{SessionOptions, Workers};

use crate::budget::Budget;
use crate::channel::TlsChannel;
use crate::choice::{Choice, REQUEST_LEN, Request};
use crate::connections::Connections;
use crate::developer::{DeveloperModel, Limits};
use crate::entropy;
use crate::error::LinkError;
use crate::event::{Event, Listener};
use crate::hello::{Hello, Joining, MAX_HELLO, Role, joining_name, session_id};
use crate::hex;
use crate::joins::Joins;
use crate::message::{COMMAND_LEN, Command, Welcome};
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
    pub(crate) joins: Joins,
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
    let cancel = shared.cancel.part();
    let channel = TlsChannel::accept(
        stream,
        shared.tls.clone(),
        shared.limits.timeouts,
        cancel.clone(),
    );
    let mut channel = match channel {
        Ok(channel) => channel,
        Err(error) => return reporter.tell("refused", Some(&error), None, begin),
    };
    let refused = |error, channel: TlsChannel, reporter: &Reporter<'_>| {
        reporter.tell("refused", Some(&error), None, begin);
        channel.finish(Some(&error));
    };
    let hello = match greeted(shared, &mut channel, &mut reporter) {
        Ok(Greeting::Joining(joining)) => {
            return match join(shared, joining, &mut channel) {
                // a session that has ended meanwhile drops it
                Ok(session) => drop(session.send((joining.number, channel))),
                Err(error) => refused(error, channel, &reporter),
            };
        }
        Ok(Greeting::Hello(hello)) => hello,
        Err(error) => return refused(error, channel, &reporter),
    };
    let mut channel = Connections::new(channel, cancel, shared.limits.threads);
    match open(shared, &mut channel, &hello) {
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

/// How a connection begins.
enum Greeting {
    /// A hospital's hello, unread.
    Hello(Vec<u8>),
    /// A further connection of a session.
    Joining(Joining),
}

fn greeted(
    shared: &Shared,
    channel: &mut TlsChannel,
    reporter: &mut Reporter<'_>,
) -> Result<Greeting, LinkError> {
    let peer = channel.peer()?;
    reporter.peer = hex(&peer);
    shared.credentials.check_pin(&peer)?;
    let mut body = Vec::new();
    channel.recv_bounded(Kind::Hello, MAX_HELLO, &mut body)?;
    let joining = Joining::decode(&body)?;
    Ok(joining.map_or(Greeting::Hello(body), Greeting::Joining))
}

/// Where a connection goes that joins a session; its hospital has been told.
fn join(
    shared: &Shared,
    joining: Joining,
    channel: &mut TlsChannel,
) -> Result<Sender<(usize, TlsChannel)>, LinkError> {
    let session = shared.joins.find(&joining, &channel.peer()?)?;
    channel.send_frame(Kind::Done, &joining.encode())?;
    channel.flush()?;
    Ok(session)
}

fn open<'a>(
    shared: &'a Shared,
    channels: &mut Connections,
    hello: &[u8],
) -> Result<(Connection<'a>, Place<'a>), LinkError> {
    let (limits, channel) = (&shared.limits, &mut channels.main);
    let peer = channel.peer()?;
    let (identity, nonce) = (&shared.model.identity, entropy()?);
    let own = Hello::new(Role::Developer, identity, limits.threads, &nonce);
    channel.send_frame(Kind::Hello, own.bytes())?;
    let theirs = own.check_peer(hello)?;
    let place = shared.hospitals.take()?;
    shared.budget.check(&peer, 0)?;
    let expected = (shared.joins).expect(joining_name(&theirs, &own), peer);
    let tickets = limits.tickets;
    let welcome = Welcome {
        images_left: shared.budget.left(&peer),
        tickets: u32::try_from(tickets).unwrap_or(u32::MAX),
    };
    channel.send_frame(Kind::Done, &welcome.encode())?;
    channel.flush()?;
    channel.opened();
    channel.meter().enter(Phase::Setup, None);
    let count = own.connections(&theirs);
    let choice = choice(channel, own.agreed_engine(&theirs)?)?;
    // the hospital was told of each before it chose
    let beside = expected.collect(count, limits.timeouts.handshake, &shared.cancel)?;
    beside.into_iter().for_each(|beside| channels.add(beside));
    let session = Session::setup(
        channels,
        shared.model.plan.clone(),
        shared.model.parameters.clone(),
        shared.model.secrets.clone(),
        SessionOptions {
            id: session_id(&theirs, &own, choice),
            engine: choice.engine,
            workers: Workers::new(limits.threads)?,
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
        channel: &mut Connections,
        reporter: &Reporter<'_>,
    ) -> Result<(), LinkError> {
        let mut body = Vec::new();
        loop {
            self.shared.absorb(channel.meter());
            (channel.main)
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
                Command::Ping => channel.answer_ping()?,
                Command::Close => {}
            }
            channel.main.send_frame(Kind::Done, &command.encode())?;
            if command == Command::Close {
                return Ok(());
            }
        }
    }

    fn prepare(&mut self, channel: &mut Connections, id: u64) -> Result<(), LinkError> {
        // Tickets that could never be spent would be work for nothing.
        self.shared.budget.check(&self.peer, self.tickets.ready())?;
        let reserved = self.tickets.reserve(id)?;
        channel.meter().enter(Phase::Offline, None);
        let ticket = self.session.prepare(channel, reserved.id(), *entropy()?)?;
        self.tickets.add(reserved, ticket);
        Ok(())
    }

    fn infer(&mut self, channel: &mut Connections, id: u64) -> Result<(), LinkError> {
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
