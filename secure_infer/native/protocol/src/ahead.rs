//! D's part of the OTs that it receives, made a stripe before it is wanted.
//!
//! H is the sender of nearly all OTs, and D's part depends on nothing of H. Made ahead, D's corrections lie ready when H
//! comes to a stripe, and D computes while H does; in turns, each would wait for the other once per stripe.
//! What is sent, and its order in each direction, is the same: D sends nothing else offline.
//! NOTE: a refill (`ferret`) is an exchange, so OTs that need one are made when they are wanted. Ahead of its time D would
//! wait for H, while H may wait for D's answer to a refill of its own.

use std::collections::VecDeque;

use blindread_ot::{OtKind, OtReceiverEngine};

use crate::channel::{Channel, Phase};
use crate::error::ProtocolError;
use crate::ot;
use crate::program::StepId;
use crate::relu::OFFLINE_STRIPE;
use crate::secret::Secret;

/// Engines use up OTs in groups, which divide this number.
const GROUP: usize = 1 << 10;

/// The OTs of one stripe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub step: StepId,
    /// One-of-sixteen OTs per element.
    pub tables: usize,
    /// Bits of the pads of one random OT per element.
    pub bits: u32,
    pub n: usize,
}

/// What D has of them.
pub(crate) struct Received {
    /// Per table: the entry in four bits, its pad above.
    pub picks: Vec<Secret<u8>>,
    pub choices: Secret<u8>,
    pub pads: Secret<u32>,
}

/// The OTs of one ticket, in the order in which they are wanted.
pub(crate) struct Ahead {
    wanted: VecDeque<Wanted>,
    made: VecDeque<Received>,
}

/// The stripes of `n` elements.
pub(crate) fn stripes(n: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    (0..n)
        .step_by(OFFLINE_STRIPE)
        .map(move |start| start..n.min(start + OFFLINE_STRIPE))
}

impl Ahead {
    pub(crate) fn new(wanted: impl IntoIterator<Item = Wanted>) -> Self {
        Self {
            wanted: wanted.into_iter().collect(),
            made: VecDeque::new(),
        }
    }

    /// The OTs of the next stripe; then makes later ones, as many as a stripe has elements.
    ///
    /// # Errors
    /// Those of the channel, and malformed answers to refills.
    pub(crate) fn next(
        &mut self,
        ch: &mut dyn Channel,
        engine: &mut dyn OtReceiverEngine,
        step: StepId,
    ) -> Result<Received, ProtocolError> {
        if self.made.is_empty() {
            self.make(ch, engine)?;
        }
        let received = self.made.pop_front().ok_or_else(missing)?;
        let mut elements: usize = self.made.iter().map(|made| made.pads.len()).sum();
        while let Some(wanted) = self.wanted.front()
            && elements < OFFLINE_STRIPE
            && !wanted.needs_refill(engine)
        {
            elements += wanted.n;
            self.make(ch, engine)?;
        }
        ch.enter(Phase::Offline, step);
        Ok(received)
    }

    fn make(
        &mut self,
        ch: &mut dyn Channel,
        engine: &mut dyn OtReceiverEngine,
    ) -> Result<(), ProtocolError> {
        let wanted = self.wanted.pop_front().ok_or_else(missing)?;
        ch.enter(Phase::Offline, wanted.step);
        self.made.push_back(wanted.receive(ch, engine)?);
        Ok(())
    }
}

impl Wanted {
    /// Whether H must answer before D has them.
    fn needs_refill(&self, engine: &dyn OtReceiverEngine) -> bool {
        let each = self.n.next_multiple_of(GROUP);
        (self.tables > 0 && engine.refill(OtKind::OneOf16, self.tables * each).is_some())
            || engine.refill(OtKind::RandomOt, each).is_some()
    }

    fn receive(
        &self,
        ch: &mut dyn Channel,
        engine: &mut dyn OtReceiverEngine,
    ) -> Result<Received, ProtocolError> {
        let mut entries = Secret::<u8>::new(self.n);
        let mut picks = Vec::with_capacity(self.tables);
        for _ in 0..self.tables {
            let mut table = Secret::<u8>::new(self.n);
            ot::recv_tables(ch, engine, &mut table, &mut entries)?;
            for (pick, &pad) in table.iter_mut().zip(entries.iter()) {
                *pick |= pad << 4;
            }
            picks.push(table);
        }
        let (mut choices, mut pads) = (Secret::new(self.n), Secret::new(self.n));
        ot::recv_random_ots(ch, engine, self.bits, &mut choices, &mut pads)?;
        Ok(Received {
            picks,
            choices,
            pads,
        })
    }
}

fn missing() -> ProtocolError {
    ProtocolError::Argument("expected OTs of another stripe, the ticket has no more".into())
}
