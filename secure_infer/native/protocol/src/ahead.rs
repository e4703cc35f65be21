//! D's part of the OTs that it receives, made a stripe before it is wanted.
//!
//! H is the sender of nearly all OTs, and D's part depends on nothing of H. Made ahead, D's corrections lie ready when H
//! comes to a stripe, and D computes while H does; in turns, each would wait for the other once per stripe.
//! What is sent, and its order in each direction, is the same: D sends nothing else offline but answers to H's own
//! refills, which H waits for.
//! NOTE: a refill (`ferret`) is an exchange. Its request is made ahead, too, but D never waits for the answer before
//! it wants the OTs: H may be waiting for D's answer to a refill of its own.

use std::collections::VecDeque;
use std::ops::Range;

use blindread_ot::{OtKind, OtReceiverEngine, Refill};

use crate::channel::{Channel, Phase};
use crate::error::ProtocolError;
use crate::ot;
use crate::program::StepId;
use crate::relu::OFFLINE_STRIPE;
use crate::secret::Secret;

/// The OTs of one stripe: for each of `n` elements `tables` one-of-sixteen OTs, and a random OT with pads of `bits` bits.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub step: StepId,
    pub tables: usize,
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
    calls: VecDeque<Call>,
    made: VecDeque<Made>,
    /// The refill that is under way for the first of `calls`.
    requested: Option<Refill>,
}

/// One call of the engine.
struct Call {
    step: StepId,
    /// Bits of a random OT's pads.
    bits: Option<u32>,
    n: usize,
}

enum Made {
    Picks(Secret<u8>),
    Random(Secret<u8>, Secret<u32>),
}

/// The stripes of `n` elements.
pub(crate) fn stripes(n: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n)
        .step_by(OFFLINE_STRIPE)
        .map(move |start| start..n.min(start + OFFLINE_STRIPE))
}

impl Ahead {
    pub(crate) fn new(wanted: impl IntoIterator<Item = Wanted>) -> Self {
        let calls = wanted.into_iter().flat_map(|wanted| {
            let Wanted {
                step,
                tables,
                bits,
                n,
            } = wanted;
            let call = move |bits| Call { step, bits, n };
            (0..tables)
                .map(move |_| call(None))
                .chain([call(Some(bits))])
        });
        Self {
            calls: calls.collect(),
            made: VecDeque::new(),
            requested: None,
        }
    }

    /// The OTs of the next stripe, which belongs to `step`; then makes later ones, as many as a stripe has elements.
    ///
    /// # Errors
    /// Those of the channel, and malformed answers to refills.
    pub(crate) fn next(
        &mut self,
        ch: &mut dyn Channel,
        engine: &mut dyn OtReceiverEngine,
        step: StepId,
    ) -> Result<Received, ProtocolError> {
        let mut picks = Vec::new();
        let (choices, pads) = loop {
            if self.made.is_empty() {
                self.make(ch, engine)?;
            }
            match self.made.pop_front() {
                Some(Made::Picks(table)) => picks.push(table),
                Some(Made::Random(choices, pads)) => break (choices, pads),
                None => {}
            }
        };
        self.hurry(ch, engine)?;
        ch.enter(Phase::Offline, step);
        Ok(Received {
            picks,
            choices,
            pads,
        })
    }

    /// Makes what is wanted later, up to an answer that H owes.
    fn hurry(
        &mut self,
        ch: &mut dyn Channel,
        engine: &mut dyn OtReceiverEngine,
    ) -> Result<(), ProtocolError> {
        let random = |made: &Made| match made {
            Made::Picks(_) => 0,
            Made::Random(_, pads) => pads.len(),
        };
        while let Some(call) = self.calls.front()
            && self.made.iter().map(random).sum::<usize>() < OFFLINE_STRIPE
            && self.requested.is_none()
        {
            match engine.refill(call.kind(), call.n) {
                None => self.make(ch, engine)?,
                Some(refill) => {
                    ch.enter(Phase::Offline, call.step);
                    ot::request_refill(ch, engine, refill)?;
                    ch.flush()?;
                    self.requested = Some(refill);
                }
            }
        }
        Ok(())
    }

    fn make(
        &mut self,
        ch: &mut dyn Channel,
        engine: &mut dyn OtReceiverEngine,
    ) -> Result<(), ProtocolError> {
        let call = self.calls.pop_front().ok_or_else(|| {
            ProtocolError::Argument("expected OTs of a stripe, the ticket has no more".into())
        })?;
        ch.enter(Phase::Offline, call.step);
        if let Some(refill) = self.requested.take() {
            ot::finish_refill(ch, engine, refill)?;
        }
        self.made.push_back(call.make(ch, engine)?);
        Ok(())
    }
}

impl Call {
    fn kind(&self) -> OtKind {
        match self.bits {
            None => OtKind::OneOf16,
            Some(_) => OtKind::RandomOt,
        }
    }

    fn make(
        &self,
        ch: &mut dyn Channel,
        engine: &mut dyn OtReceiverEngine,
    ) -> Result<Made, ProtocolError> {
        let mut choices = Secret::<u8>::new(self.n);
        Ok(match self.bits {
            None => {
                let mut entries = Secret::<u8>::new(self.n);
                ot::recv_tables(ch, engine, &mut choices, &mut entries)?;
                for (pick, &pad) in choices.iter_mut().zip(entries.iter()) {
                    *pick |= pad << 4;
                }
                Made::Picks(choices)
            }
            Some(bits) => {
                let mut pads = Secret::new(self.n);
                ot::recv_random_ots(ch, engine, bits, &mut choices, &mut pads)?;
                Made::Random(choices, pads)
            }
        })
    }
}
