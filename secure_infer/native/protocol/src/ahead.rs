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

impl Wanted {
    /// The stripes of `n` elements that want the same.
    pub(crate) fn stripes(
        step: StepId,
        tables: usize,
        bits: u32,
        n: usize,
    ) -> impl Iterator<Item = Self> {
        stripes(n).map(move |at| Self {
            step,
            tables,
            bits,
            n: at.len(),
        })
    }
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

#[cfg(test)]
mod tests {
    use blindread_ot::OtError;

    use super::*;
    use crate::channel::{ChannelError, Kind};

    /// Makes zeros, 200 OTs after each refill.
    #[derive(Default)]
    struct Engine {
        ready: usize,
        requests: usize,
        calls: Vec<(OtKind, usize)>,
    }

    impl Engine {
        fn call(&mut self, kind: OtKind, n: usize) -> Result<(), OtError> {
            assert!(self.ready >= n, "no refill before a call");
            self.ready -= n;
            self.calls.push((kind, n));
            Ok(())
        }
    }

    impl OtReceiverEngine for Engine {
        fn one_of_16_len(&self, _n: usize) -> usize {
            0
        }

        fn random_ot_len(&self, _n: usize) -> usize {
            0
        }

        fn refill(&self, kind: OtKind, n: usize) -> Option<Refill> {
            (self.ready < n).then_some(Refill {
                kind,
                request_len: 1,
                answer_len: 1,
            })
        }

        fn request_refill(&mut self, _: Refill, request: &mut Vec<u8>) -> Result<(), OtError> {
            self.requests += 1;
            request.push(0);
            Ok(())
        }

        fn finish_refill(&mut self, _answer: &[u8]) -> Result<(), OtError> {
            self.ready += 200;
            Ok(())
        }

        fn one_of_16(
            &mut self,
            n: usize,
            _corrections: &mut Vec<u8>,
            _omega: &mut [u8],
            _pads: &mut [u8],
        ) -> Result<(), OtError> {
            self.call(OtKind::OneOf16, n)
        }

        fn random_ot(
            &mut self,
            n: usize,
            _bits: u32,
            _corrections: &mut Vec<u8>,
            _choices: &mut [u8],
            _pads: &mut [u32],
        ) -> Result<(), OtError> {
            self.call(OtKind::RandomOt, n)
        }
    }

    /// Counts messages.
    #[derive(Default)]
    struct Counting {
        sent: usize,
        received: usize,
    }

    impl Channel for Counting {
        fn send(&mut self, _kind: Kind, _body: &[u8]) -> Result<(), ChannelError> {
            self.sent += 1;
            Ok(())
        }

        fn flush(&mut self) -> Result<(), ChannelError> {
            Ok(())
        }

        fn recv(&mut self, _: Kind, len: usize, body: &mut Vec<u8>) -> Result<(), ChannelError> {
            assert!(self.received < self.sent, "nobody owes an answer");
            self.received += 1;
            body.resize(len, 0);
            Ok(())
        }

        fn enter(&mut self, _phase: Phase, _step: StepId) {}
    }

    #[test]
    fn calls_are_in_order_and_no_answer_is_waited_for_ahead_of_time() {
        let wanted = (0..5).map(|step| Wanted {
            step,
            tables: step % 3,
            bits: 12,
            n: 60 + step,
        });
        let (mut engine, mut ch) = (Engine::default(), Counting::default());
        let mut ahead = Ahead::new(wanted.clone());
        let mut expected = Vec::new();
        for wanted in wanted {
            let received = ahead.next(&mut ch, &mut engine, wanted.step).unwrap();
            assert_eq!(received.picks.len(), wanted.tables);
            assert_eq!(received.pads.len(), wanted.n);
            expected.extend(vec![(OtKind::OneOf16, wanted.n); wanted.tables]);
            expected.push((OtKind::RandomOt, wanted.n));
            // of later stripes there is what needs no answer, and one request
            assert!(engine.calls.len() >= expected.len());
            assert_eq!(
                ch.sent - ch.received,
                usize::from(ahead.requested.is_some())
            );
            assert!(ahead.calls.is_empty() || ahead.requested.is_some());
        }
        assert_eq!(engine.calls, expected);
        assert_eq!((ch.sent, ch.received), (engine.requests, engine.requests));
        assert!(engine.requests > 2);
        assert!(ahead.next(&mut ch, &mut engine, 5).is_err());
    }

    #[test]
    fn a_stripe_is_made_ahead_and_no_more() {
        let wanted = (0..6).map(|step| Wanted {
            step,
            tables: 1,
            bits: 12,
            n: OFFLINE_STRIPE / 2,
        });
        let (mut ch, mut ahead) = (Counting::default(), Ahead::new(wanted));
        let mut engine = Engine {
            ready: usize::MAX,
            ..Engine::default()
        };
        ahead.next(&mut ch, &mut engine, 0).unwrap();
        assert_eq!(engine.calls.len(), 2 * (1 + 2));
        assert_eq!(stripes(2 * OFFLINE_STRIPE + 1).last().unwrap().len(), 1);
    }
}
