//! The hospital's session with one developer.
//!
//! States (each a value that the next one consumes): handshake, open (idle, offline, online), closed. Any
//! error closes the session and drops its tickets, as protocol.md section 6 demands; the developer does
//! the same on its side when the connection ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use blindread_protocol::channel::{Channel, Kind, Phase};
use blindread_protocol::hospital::{Session, Ticket};
use blindread_protocol::{Plan, SessionOptions, Workers};

use crate::cancel::Cancel;
use crate::channel::TlsChannel;
use crate::choice::{Choice, Request, Work};
use crate::connections::Connections;
use crate::entropy;
use crate::error::LinkError;
use crate::hello::{Hello, Identity, JOIN_LEN, Joining, MAX_HELLO, Role, joining_name, session_id};
use crate::message::{COMMAND_LEN, Command, WELCOME_LEN, Welcome};
use crate::meter::Meter;
use crate::probe::{self, measure};
use crate::ticket::Pool;
use crate::timeouts::Timeouts;
use crate::tls::Credentials;

/// What a hospital knows of a model; shared between its sessions.
#[derive(Clone)]
pub struct HospitalModel {
    /// The public walk.
    pub plan: Arc<Plan>,
    /// The elements that an input has.
    pub input_len: usize,
    /// The hints of the bundle.
    pub hints: Arc<dyn AsRef<[u8]> + Send + Sync>,
    /// The seed of the public polynomials.
    pub public_seed: [u8; 32],
    /// What must be equal on both sides.
    pub identity: Identity,
}

/// Where the developer is.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// The name in the developer's certificate.
    pub name: String,
}

struct Open {
    channel: Connections,
    session: Session,
    tickets: Pool<Ticket>,
}

/// One session with the developer, of one connection or several; serves many images, one after another.
pub struct HospitalSession {
    open: Option<Open>,
    input_len: usize,
    images_left: Option<u64>,
    choice: Choice,
}

impl HospitalSession {
    /// Connects, checks that both sides mean the same, settles the OT engine, and runs the base OTs. `workers` compute
    /// for this session.
    ///
    /// # Errors
    /// Any [`LinkError`].
    pub fn connect(
        endpoint: &Endpoint,
        credentials: &Credentials,
        model: &HospitalModel,
        timeouts: Timeouts,
        workers: &Workers,
        cancel: Cancel,
    ) -> Result<Self, LinkError> {
        let cancel = cancel.part();
        let call = || {
            TlsChannel::connect(
                &endpoint.address,
                &endpoint.name,
                credentials,
                timeouts,
                cancel.clone(),
            )
        };
        let mut channel = Connections::new(call()?, cancel.clone(), workers.threads());
        match set_up(&mut channel, call, credentials, model, workers) {
            Ok((session, welcome, choice)) => Ok(Self {
                choice,
                open: Some(Open {
                    channel,
                    session,
                    tickets: Pool::new(welcome.tickets as usize),
                }),
                input_len: model.input_len,
                images_left: welcome.images_left,
            }),
            Err(error) => {
                channel.finish(Some(&error));
                Err(error)
            }
        }
    }

    /// How many tickets are ready; none once the session is closed.
    #[must_use]
    pub fn tickets_ready(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.tickets.ready())
    }

    /// How many tickets the developer keeps at once.
    #[must_use]
    pub fn ticket_limit(&self) -> usize {
        self.open.as_ref().map_or(0, |open| open.tickets.limit())
    }

    /// How many images the developer allowed at connect time, less those asked for since.
    #[must_use]
    pub fn images_left(&self) -> Option<u64> {
        self.images_left
    }

    /// The OT engine, and the link if it was chosen by that.
    #[must_use]
    pub fn choice(&self) -> Choice {
        self.choice
    }

    /// Whether the session can still be used.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Makes one ticket.
    ///
    /// # Errors
    /// [`LinkError::TicketLimit`] leaves the session open; every other error closes it.
    pub fn prepare(&mut self) -> Result<(), LinkError> {
        let open = self.open.as_mut().ok_or(LinkError::SessionClosed)?;
        let reserved = open.tickets.reserve(open.tickets.next_id())?;
        self.run(|open| {
            let command = Command::Prepare(reserved.id());
            open.command(command, Phase::Offline)?;
            let ticket = open
                .session
                .prepare(&mut open.channel, reserved.id(), *entropy()?)?;
            open.answer(command)?;
            open.tickets.add(reserved, ticket);
            Ok(())
        })
    }

    /// Spends the oldest ticket on an image; returns each output's raw values.
    ///
    /// # Errors
    /// [`LinkError::NoTicket`] and [`LinkError::Input`] leave session and tickets as they are; every
    /// other error closes the session.
    pub fn infer(&mut self, input: &[i32]) -> Result<Vec<Vec<i64>>, LinkError> {
        if input.len() != self.input_len {
            return Err(LinkError::Input {
                expected: self.input_len,
                got: input.len(),
            });
        }
        let claimed = self
            .open
            .as_mut()
            .ok_or(LinkError::SessionClosed)?
            .tickets
            .claim_next()?;
        self.images_left = self.images_left.map(|left| left.saturating_sub(1));
        self.run(|open| {
            let (ticket, spent) = claimed.spend();
            let command = Command::Infer(spent.id());
            open.command(command, Phase::Online)?;
            let outputs = open.session.infer(&mut open.channel, ticket, input)?;
            open.answer(command)?;
            Ok(outputs)
        })
    }

    /// Asks the developer for a sign of life, and keeps the connections from idling out.
    ///
    /// # Errors
    /// Any [`LinkError`] closes the session.
    pub fn ping(&mut self) -> Result<(), LinkError> {
        self.run(|open| {
            let channel = &mut open.channel;
            (channel.main).send_frame(Kind::Command, &Command::Ping.encode())?;
            channel.flush()?;
            channel.ping()?;
            open.answer(Command::Ping)
        })
    }

    /// Ends the session; its unspent tickets are wiped on both sides.
    pub fn close(&mut self) {
        if let Some(mut open) = self.open.take() {
            open.channel.main.hurry();
            // Gone is gone, whether the developer hears it or not.
            let _ = (open.channel.main)
                .send_frame(Kind::Command, &Command::Close.encode())
                .and_then(|()| open.answer(Command::Close));
            open.channel.finish(None);
        }
    }

    /// What the session has spent, if it is open.
    pub fn meter(&mut self) -> Option<&mut Meter> {
        self.open.as_mut().map(|open| open.channel.meter())
    }

    /// Runs `work` on the open session, which survives only if it succeeds.
    fn run<R>(
        &mut self,
        work: impl FnOnce(&mut Open) -> Result<R, LinkError>,
    ) -> Result<R, LinkError> {
        let mut open = self.open.take().ok_or(LinkError::SessionClosed)?;
        match work(&mut open) {
            Ok(result) => {
                open.channel.meter().leave();
                self.open = Some(open);
                Ok(result)
            }
            Err(error) => {
                let Open {
                    channel,
                    session,
                    tickets,
                } = open;
                drop((session, tickets));
                channel.finish(Some(&error));
                Err(error)
            }
        }
    }
}

impl Drop for HospitalSession {
    fn drop(&mut self) {
        self.close();
    }
}

impl Open {
    fn command(&mut self, command: Command, phase: Phase) -> Result<(), LinkError> {
        self.channel.meter().enter(phase, None);
        (self.channel.main).send_frame(Kind::Command, &command.encode())
    }

    fn answer(&mut self, command: Command) -> Result<(), LinkError> {
        let mut body = Vec::new();
        (self.channel.main).recv_exact(Kind::Done, COMMAND_LEN, &mut body)?;
        if body == command.encode() {
            return Ok(());
        }
        Err(LinkError::Message {
            what: "done",
            expected: "the answer to the last command".to_owned(),
            got: "another one".to_owned(),
        })
    }
}

fn set_up(
    channels: &mut Connections,
    call: impl Fn() -> Result<TlsChannel, LinkError>,
    credentials: &Credentials,
    model: &HospitalModel,
    workers: &Workers,
) -> Result<(Session, Welcome, Choice), LinkError> {
    let channel = &mut channels.main;
    credentials.check_pin(&channel.peer()?)?;
    channel.meter().enter(Phase::Setup, None);
    let (identity, nonce) = (&model.identity, entropy()?);
    let own = Hello::new(Role::Hospital, identity, workers.threads(), &nonce);
    channel.send_frame(Kind::Hello, own.bytes())?;
    let mut body = Vec::new();
    channel.recv_bounded(Kind::Hello, MAX_HELLO, &mut body)?;
    let peer = own.check_peer(&body)?;
    channel.recv_exact(Kind::Done, WELCOME_LEN, &mut body)?;
    let welcome = Welcome::decode(&body)?;
    channel.opened();
    let name = joining_name(&own, &peer);
    for number in 1..own.connections(&peer) {
        channels.add(join(call()?, &channels.main, Joining { number, name })?);
    }
    let channel = &mut channels.main;
    let choice = match own.agreed_engine(&peer)? {
        Some(engine) => Choice {
            engine,
            measured: None,
        },
        None => Choice::by_link(
            Work::of(model.plan.program()),
            workers.threads(),
            measure(|len| exchange(channel, len))?,
        ),
    };
    channel.send_frame(Kind::Opening, &Request::Choose(choice).encode())?;
    let session = Session::setup(
        channels,
        model.plan.clone(),
        model.hints.clone(),
        model.public_seed,
        SessionOptions {
            id: session_id(&own, &peer, choice),
            engine: choice.engine,
            workers: workers.clone(),
        },
        *entropy()?,
    )?;
    channels.meter().leave();
    Ok((session, welcome, choice))
}

/// Makes a connection one of the session that has `first`.
fn join(
    mut channel: TlsChannel,
    first: &TlsChannel,
    joining: Joining,
) -> Result<TlsChannel, LinkError> {
    let mut joined = || {
        if channel.peer()? != first.peer()? {
            return Err(LinkError::Certificate {
                code: "certificate_fingerprint",
                expected: "that of the session's first connection".to_owned(),
                got: "another one".to_owned(),
            });
        }
        channel.send_frame(Kind::Hello, &joining.encode())?;
        channel.recv_exact(Kind::Done, JOIN_LEN, &mut Vec::new())
    };
    match joined() {
        Ok(()) => Ok(channel),
        Err(error) => {
            channel.finish(Some(&error));
            Err(error)
        }
    }
}

/// Asks for a probe of so many bytes; how long it took.
fn exchange(channel: &mut TlsChannel, len: u64) -> Result<Duration, LinkError> {
    let mut body = Vec::new();
    let begin = Instant::now();
    channel.send_frame(Kind::Opening, &Request::Probe(len).encode())?;
    channel.recv_exact(Kind::Probe, len as usize, &mut body)?;
    let took = begin.elapsed();
    probe::check(&body)?;
    Ok(took)
}
