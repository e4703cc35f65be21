//! The developer's server: one thread accepts, one thread serves each hospital.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blindread_protocol::{Parameters, Plan, Workers};

use crate::budget::Budget;
use crate::cancel::Cancel;
use crate::error::LinkError;
use crate::event::{Event, Listener};
use crate::hello::Identity;
use crate::joins::Joins;
use crate::meter::Meter;
use crate::serve::{Places, Shared, serve};
use crate::timeouts::Timeouts;
use crate::tls::Credentials;

/// How long the acceptor sleeps when nobody calls.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections beyond the hospitals being served: those that still have to show who they are, or are
/// told that there is no place. Any more are dropped unheard.
const STRANGERS: usize = 32;

/// What the developer knows of a model; shared between all connections.
#[derive(Clone)]
pub struct DeveloperModel {
    /// The public walk.
    pub plan: Arc<Plan>,
    /// Weights, biases, thresholds, signs.
    pub parameters: Arc<Parameters>,
    /// The secrets behind the hints.
    pub secrets: Arc<dyn AsRef<[u8]> + Send + Sync>,
    /// What must be equal on both sides.
    pub identity: Identity,
}

/// What one server allows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Hospitals served at once.
    pub hospitals: usize,
    /// Unspent tickets of one connection.
    pub tickets: usize,
    /// Standard deviation of the noise on opened values, in raw units.
    pub output_noise: f64,
    /// Limits of all waits.
    pub timeouts: Timeouts,
    /// Threads of each session, its own included: hospitals that are served at once don't wait for each other's
    /// work, and the whole server computes on at most `hospitals * threads` cores.
    pub threads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hospitals: 4,
            tickets: 4,
            output_noise: 0.0,
            timeouts: Timeouts::default(),
            threads: 1,
        }
    }
}

/// A running server.
pub struct DeveloperServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

impl DeveloperServer {
    /// Listens on `address` (port 0: any free one) and serves until [`DeveloperServer::shutdown`].
    ///
    /// # Errors
    /// [`LinkError::Listen`], [`LinkError::Credentials`], [`LinkError::Threads`].
    pub fn start(
        address: &str,
        model: DeveloperModel,
        credentials: Credentials,
        limits: Limits,
        budget: Budget,
        listener: Listener,
    ) -> Result<Self, LinkError> {
        let failed = |error: std::io::Error| LinkError::Listen {
            address: address.to_owned(),
            reason: error.to_string(),
        };
        // Each connection makes its own; a number that can't be had is found now.
        drop(Workers::new(limits.threads)?);
        let socket = TcpListener::bind(address).map_err(failed)?;
        socket.set_nonblocking(true).map_err(failed)?;
        let shared = Arc::new(Shared {
            tls: credentials.server_config()?,
            hospitals: Places::new(limits.hospitals),
            joins: Joins::default(),
            model,
            credentials,
            limits,
            budget,
            cancel: Cancel::new(),
            listener,
            spent: Mutex::default(),
        });
        let (address, acceptor) = (socket.local_addr().map_err(failed)?, shared.clone());
        let acceptor = std::thread::spawn(move || accept(&socket, &acceptor));
        Ok(Self {
            address,
            shared,
            acceptor: Mutex::new(Some(acceptor)),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many hospitals are being served.
    #[must_use]
    pub fn hospitals(&self) -> usize {
        self.shared.hospitals.taken()
    }

    /// What this side spent in all connections together, as the developer sees it, up to the last command that
    /// each of them has finished.
    #[must_use]
    pub fn spent(&self) -> Meter {
        self.shared
            .spent
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Accepts nobody any more, ends idle sessions, gives running work `grace` to finish, then stops it.
    pub fn shutdown(&self, grace: Duration) {
        let Some(acceptor) = self
            .acceptor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        else {
            return;
        };
        self.shared.cancel.cancel_when_idle();
        let until = Instant::now() + grace;
        while !acceptor.is_finished() && Instant::now() < until {
            std::thread::sleep(PAUSE.min(grace));
        }
        self.shared.cancel.cancel();
        // A panic in there is a defect, but no reason to take the caller down with it.
        let _ = acceptor.join();
    }
}

impl Drop for DeveloperServer {
    fn drop(&mut self) {
        self.shutdown(Duration::ZERO);
    }
}

/// Accepts until told to stop, then waits for the threads it started.
fn accept(socket: &TcpListener, shared: &Arc<Shared>) {
    let mut threads: Vec<JoinHandle<()>> = Vec::new();
    let mut number = 0;
    while !shared.cancel.is_stopping() {
        threads.retain(|thread| !thread.is_finished());
        match socket.accept() {
            Ok((stream, _)) => {
                number += 1;
                if threads.len() < shared.limits.hospitals + STRANGERS {
                    threads.extend(spawn(shared, number, stream));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(PAUSE)
            }
            Err(error) => {
                tell_failure(shared, number, error.to_string());
                std::thread::sleep(PAUSE);
            }
        }
    }
    for thread in threads {
        // Each thread has reported how it ended.
        let _ = thread.join();
    }
}

fn spawn(shared: &Arc<Shared>, number: u64, stream: TcpStream) -> Option<JoinHandle<()>> {
    let own = shared.clone();
    let thread = std::thread::Builder::new().name(format!("hospital-{number}"));
    match thread.spawn(move || serve(&own, number, stream)) {
        Ok(handle) => Some(handle),
        Err(error) => {
            tell_failure(shared, number, error.to_string());
            None
        }
    }
}

fn tell_failure(shared: &Shared, connection: u64, message: String) {
    (shared.listener)(Event {
        name: "accept_failed",
        connection,
        peer: String::new(),
        code: "listen".to_owned(),
        message,
        ticket: None,
        choice: None,
        seconds: 0.0,
    });
}
