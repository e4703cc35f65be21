//! How a further connection of a hospital finds its session.
//!
//! It names the session by a hash of both hellos, which carry a nonce each and were encrypted, and it shows the same
//! certificate. The developer's thread that accepted it hands it over to the session's.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blindread_protocol::channel::{ChannelError, Kind};

use crate::cancel::Cancel;
use crate::channel::TlsChannel;
use crate::error::LinkError;
use crate::hello::Joining;
use crate::tls::Fingerprint;

/// How often a wait looks at the cancellation flag.
const SLICE: Duration = Duration::from_millis(100);

/// Where the connections that a session waits for are handed over.
struct Session {
    peer: Fingerprint,
    thread: Sender<(usize, TlsChannel)>,
}

/// The sessions that wait for connections, by name.
#[derive(Default)]
pub(crate) struct Joins {
    sessions: Mutex<HashMap<[u8; 32], Session>>,
}

/// A session's wait, which ends with it.
pub(crate) struct Expected<'a> {
    joins: &'a Joins,
    name: [u8; 32],
    arrivals: Receiver<(usize, TlsChannel)>,
}

impl Joins {
    fn sessions(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on connections of `peer` may join the session of this name.
    pub(crate) fn expect(&self, name: [u8; 32], peer: Fingerprint) -> Expected<'_> {
        let (thread, arrivals) = channel();
        self.sessions().insert(name, Session { peer, thread });
        Expected {
            joins: self,
            name,
            arrivals,
        }
    }

    /// Where a connection is handed over that `peer` would like to join to a session, with its number.
    ///
    /// # Errors
    /// [`LinkError::Mismatch`] with code `hello` if no session of that name waits for this peer.
    pub(crate) fn find(
        &self,
        joining: &Joining,
        peer: &Fingerprint,
    ) -> Result<Sender<(usize, TlsChannel)>, LinkError> {
        (self.sessions().get(&joining.name))
            .filter(|session| session.peer == *peer)
            .map(|session| session.thread.clone())
            .ok_or_else(|| LinkError::Mismatch {
                what: "hello",
                expected: "the name of a session that waits for connections of this hospital"
                    .to_owned(),
                got: "another name".to_owned(),
            })
    }
}

impl Expected<'_> {
    /// Connections 1 to `count` - 1 in their order, within `patience`.
    ///
    /// # Errors
    /// [`LinkError::Message`] for a number that is out of range or comes twice, a time-out, [`LinkError::Shutdown`].
    pub(crate) fn collect(
        self,
        count: usize,
        patience: Duration,
        cancel: &Cancel,
    ) -> Result<Vec<TlsChannel>, LinkError> {
        let until = Instant::now() + patience;
        let mut beside: Vec<Option<TlsChannel>> = (1..count).map(|_| None).collect();
        while beside.iter().any(Option::is_none) {
            if cancel.is_stopping() {
                return Err(LinkError::Shutdown);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let expected = Kind::Hello;
                return Err(ChannelError::Timeout { expected }.into());
            }
            if let Ok((number, connection)) = self.arrivals.recv_timeout(left.min(SLICE)) {
                let place = beside.get_mut(number.wrapping_sub(1));
                let Some(place) = place.filter(|place| place.is_none()) else {
                    return Err(LinkError::Message {
                        what: "number of a connection",
                        expected: format!("1 to {}, each once", count - 1),
                        got: number.to_string(),
                    });
                };
                *place = Some(connection);
            }
        }
        Ok(beside.into_iter().flatten().collect())
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        self.joins.sessions().remove(&self.name);
    }
}
