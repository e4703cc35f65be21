//! D's part of the OTs for which it speaks, made a stripe before they are wanted.
//!
//! What D says depends on nothing of H. Said ahead, it lies ready when H comes to a stripe, and D computes while H does; in
//! turns, each would wait for the other once per stripe. Offline D says nothing else, so that its messages have the
//! order of the stripes, and it never waits ahead of time.

use std::collections::VecDeque;
use std::ops::Range;

use blindread_ot::Role;

use crate::channel::{Channel, Phase};
use crate::error::ProtocolError;
use crate::ot::Engines;
use crate::program::StepId;
use crate::relu::OFFLINE_STRIPE;
use crate::secret::Secret;

/// OTs of one stripe: for each of `n` elements `tables` one-of-sixteen OTs and a random OT from H to D with pads of
/// `bits` bits, and another one from D to H where `back`.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    pub step: StepId,
    pub tables: usize,
    pub bits: u32,
    pub back: bool,
    pub n: usize,
}

/// What D has of them as the receiver.
#[derive(Default)]
pub(crate) struct Received {
    /// Per table: the entries, and their pads.
    pub tables: Vec<[Secret<u8>; 2]>,
    pub choices: Secret<u8>,
    pub pads: Secret<u32>,
}

/// What D has of them as the sender: both pads.
#[derive(Default)]
pub(crate) struct Sent(pub [Secret<u32>; 2]);

/// The OTs of one ticket, in the order in which they are wanted.
pub(crate) struct Ahead {
    wanted: VecDeque<Wanted>,
    made: VecDeque<(Wanted, Made)>,
    /// Of stripes that are done, for the memory.
    received: Vec<Received>,
    sent: Vec<Sent>,
}

/// The side of a stripe's OTs for which D speaks.
enum Made {
    Received(Received),
    Sent(Sent),
}

/// The stripes of `n` elements.
pub(crate) fn stripes(n: usize) -> impl Iterator<Item = Range<usize>> {
    (0..n)
        .step_by(OFFLINE_STRIPE)
        .map(move |start| start..n.min(start + OFFLINE_STRIPE))
}

impl Wanted {
    /// The stripes of these elements.
    pub(crate) fn stripes(self) -> impl Iterator<Item = Self> {
        stripes(self.n).map(move |at| Self {
            n: at.len(),
            ..self
        })
    }

    fn receive(
        self,
        ch: &mut dyn Channel,
        ots: &mut Engines,
        mut room: Received,
    ) -> Result<Received, ProtocolError> {
        room.tables.resize_with(self.tables, Default::default);
        for [entries, pads] in &mut room.tables {
            entries.fit(self.n);
            pads.fit(self.n);
            ots.recv_tables(ch, entries, pads)?;
        }
        room.choices.fit(self.n);
        room.pads.fit(self.n);
        ots.recv_random(ch, self.bits, &mut room.choices, &mut room.pads)?;
        Ok(room)
    }

    fn send(
        self,
        ch: &mut dyn Channel,
        ots: &mut Engines,
        mut room: Sent,
    ) -> Result<Sent, ProtocolError> {
        let n = if self.back { self.n } else { 0 };
        let Sent([first, second]) = &mut room;
        first.fit(n);
        second.fit(n);
        ots.send_random(ch, self.bits, [first, second])?;
        Ok(room)
    }
}

impl Ahead {
    pub(crate) fn new(wanted: impl IntoIterator<Item = Wanted>) -> Self {
        Self {
            wanted: wanted.into_iter().collect(),
            made: VecDeque::new(),
            received: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Keeps the memory of a stripe that is done, for another one.
    pub(crate) fn done(&mut self, received: Received, sent: Sent) {
        self.received.push(received);
        self.sent.push(sent);
    }

    /// The OTs of the next stripe. Speaks for later ones before, as many as a stripe has elements.
    ///
    /// # Errors
    /// Those of the channel, and malformed messages.
    pub(crate) fn next(
        &mut self,
        ch: &mut dyn Channel,
        ots: &mut Engines,
    ) -> Result<(Received, Sent), ProtocolError> {
        while self.made.is_empty() || self.later() < OFFLINE_STRIPE {
            let Some(wanted) = self.wanted.pop_front() else {
                break;
            };
            ch.enter(Phase::Offline, wanted.step);
            let made = if ots.speaks(Role::Receiver) {
                let room = self.received.pop().unwrap_or_default();
                Made::Received(wanted.receive(ch, ots, room)?)
            } else {
                let room = self.sent.pop().unwrap_or_default();
                Made::Sent(wanted.send(ch, ots, room)?)
            };
            ch.flush()?;
            self.made.push_back((wanted, made));
        }
        let (wanted, made) = self.made.pop_front().ok_or_else(|| {
            ProtocolError::Argument("expected OTs of a stripe, the ticket has no more".into())
        })?;
        ch.enter(Phase::Offline, wanted.step);
        Ok(match made {
            Made::Received(received) => {
                let room = self.sent.pop().unwrap_or_default();
                (received, wanted.send(ch, ots, room)?)
            }
            Made::Sent(sent) => {
                let room = self.received.pop().unwrap_or_default();
                (wanted.receive(ch, ots, room)?, sent)
            }
        })
    }

    /// Elements of the stripes after the next one for which D has spoken.
    fn later(&self) -> usize {
        self.made.iter().skip(1).map(|(wanted, _)| wanted.n).sum()
    }
}

#[cfg(test)]
mod tests {
    use blindread_ot::{OtEngine, OtError, OtReceiverEngine, OtSenderEngine, Wire};

    use super::*;
    use crate::channel::{ChannelError, Kind};

    /// Makes zeros and messages of a byte per OT.
    struct Zeros(OtEngine);

    impl Zeros {
        fn message(&self, role: Role, n: usize, wire: &mut dyn Wire) -> Result<(), OtError> {
            if n == 0 {
                Ok(())
            } else if self.0.speaker() == role {
                wire.send(&vec![0; n])
            } else {
                wire.recv(n, &mut Vec::new())
            }
        }
    }

    impl OtReceiverEngine for Zeros {
        fn one_of_16(
            &mut self,
            n: usize,
            wire: &mut dyn Wire,
            _omega: &mut [u8],
            _pads: &mut [u8],
        ) -> Result<(), OtError> {
            self.message(Role::Receiver, n, wire)
        }

        fn random_ot(
            &mut self,
            n: usize,
            _bits: u32,
            wire: &mut dyn Wire,
            _choices: &mut [u8],
            _pads: &mut [u32],
        ) -> Result<(), OtError> {
            self.message(Role::Receiver, n, wire)
        }
    }

    impl OtSenderEngine for Zeros {
        fn one_of_16(
            &mut self,
            n: usize,
            wire: &mut dyn Wire,
            _pads: &mut [u16],
        ) -> Result<(), OtError> {
            self.message(Role::Sender, n, wire)
        }

        fn random_ot(
            &mut self,
            n: usize,
            _bits: u32,
            wire: &mut dyn Wire,
            _pads: [&mut [u32]; 2],
        ) -> Result<(), OtError> {
            self.message(Role::Sender, n, wire)
        }
    }

    /// Lengths of messages, in order.
    #[derive(Default)]
    struct Lengths {
        sent: Vec<usize>,
        received: Vec<usize>,
        /// Messages sent before the first one was received since this was last emptied.
        sent_before: Option<usize>,
    }

    impl Channel for Lengths {
        fn send(&mut self, _kind: Kind, body: &[u8]) -> Result<(), ChannelError> {
            self.sent.push(body.len());
            Ok(())
        }

        fn flush(&mut self) -> Result<(), ChannelError> {
            Ok(())
        }

        fn recv(&mut self, _: Kind, len: usize, body: &mut Vec<u8>) -> Result<(), ChannelError> {
            self.received.push(len);
            self.sent_before.get_or_insert(self.sent.len());
            body.resize(len, 0);
            Ok(())
        }

        fn enter(&mut self, _phase: Phase, _step: StepId) {}

        fn connections(&mut self) -> Vec<&mut dyn Channel> {
            vec![self]
        }
    }

    /// Stripes of every size and kind, together several stripes of the largest size.
    fn wanted() -> Vec<Wanted> {
        let sizes = [60, 61, OFFLINE_STRIPE, 62, 2 * OFFLINE_STRIPE + 1, 63];
        (sizes.into_iter().enumerate())
            .flat_map(|(step, n)| {
                let of = |tables, back| Wanted {
                    step,
                    tables,
                    bits: 12,
                    back,
                    n,
                };
                of(step % 3, true).stripes().chain(of(0, false).stripes())
            })
            .collect()
    }

    /// Lengths of the messages for which D speaks, and of the others.
    fn messages(engine: OtEngine, wanted: &Wanted) -> [Vec<usize>; 2] {
        let received = vec![wanted.n; wanted.tables + 1];
        let sent = vec![wanted.n; usize::from(wanted.back)];
        match engine.speaker() {
            Role::Receiver => [received, sent],
            Role::Sender => [sent, received],
        }
    }

    #[test]
    fn messages_are_in_the_order_of_the_stripes_and_said_a_stripe_ahead() {
        for engine in OtEngine::ALL {
            let all = wanted();
            let mut ots = Engines::of(engine, Box::new(Zeros(engine)), Box::new(Zeros(engine)));
            let (mut ch, mut ahead) = (Lengths::default(), Ahead::new(all.clone()));
            let said = |stripes: &[Wanted]| -> Vec<usize> {
                let messages = stripes.iter().map(|wanted| messages(engine, wanted));
                messages.flat_map(|[ours, _]| ours).collect()
            };
            for (at, wanted) in all.iter().enumerate() {
                (ch.received, ch.sent_before) = (Vec::new(), None);
                let (received, Sent([first, second])) = ahead.next(&mut ch, &mut ots).unwrap();
                assert_eq!(received.tables.len(), wanted.tables);
                assert_eq!(received.pads.len(), wanted.n);
                let back = if wanted.back { wanted.n } else { 0 };
                assert_eq!([first.len(), second.len()], [back; 2]);
                if at.is_multiple_of(2) {
                    ahead.done(received, Sent([first, second]));
                }
                assert_eq!(ch.received, messages(engine, wanted)[1]);
                // Said: this stripe, and later ones until they have as many elements as the largest stripe.
                let mut end = at + 1;
                while end < all.len()
                    && all[at + 1..end]
                        .iter()
                        .map(|wanted| wanted.n)
                        .sum::<usize>()
                        < OFFLINE_STRIPE
                {
                    end += 1;
                }
                assert_eq!(ch.sent, said(&all[..end]));
                assert!(ch.sent_before.is_none_or(|sent| sent == ch.sent.len()));
            }
            assert!(ahead.next(&mut ch, &mut ots).is_err());
        }
    }

    #[test]
    fn stripes_cover_a_vector_once() {
        assert_eq!(stripes(2 * OFFLINE_STRIPE + 1).last().unwrap().len(), 1);
        assert_eq!(stripes(2 * OFFLINE_STRIPE).count(), 2);
        assert_eq!(stripes(0).count(), 0);
    }
}
