//! The messages of a truncation or an extension; see [`crate::truncate`] for the function and its security.

use blindread_ring::{Word, prefetch_next, widened};

use crate::ahead::stripes;
use crate::channel::Kind;
use crate::error::ProtocolError;
use crate::lanes::{Lane, Lanes, Online, Room, STEP, Scratch};
use crate::mux;
use crate::program::ring_mask;
use crate::random;
use crate::relu::{Answers, BLOCK, DeveloperOffline, HospitalOffline, block_for_all};
use crate::secret::{Secret, wipe};
use crate::truncate::Truncation;
use crate::wire;

/// What H keeps for one truncation; the ring elements in the smallest type that holds them.
pub(crate) struct HospitalTruncate<W: Word> {
    pub(crate) truncation: Truncation,
    zero: Secret<W>,
    one: Secret<W>,
}

/// What D keeps for one truncation.
pub(crate) struct DeveloperTruncate<W: Word> {
    pub(crate) truncation: Truncation,
    pub(crate) choices: Secret<u8>,
    pub(crate) w: Secret<W>,
}

/// What D keeps for one truncation, whatever the size of its words.
pub(crate) trait Truncates: Send {
    /// Offline: takes up what is kept for as many values as there is room for.
    ///
    /// # Errors
    /// Those of the channel, and malformed corrections.
    fn prepare(&mut self, off: &mut DeveloperOffline<'_>) -> Result<(), ProtocolError>;

    /// Online: from D's shares `y` of the values, D's shares of the results, in place. Nothing is kept any more.
    ///
    /// # Errors
    /// Those of the channel.
    fn evaluate(&mut self, on: &mut Online<'_>, y: &mut [u32]) -> Result<(), ProtocolError>;
}

/// Offline, H: from H's shares `y`, H's `shares` of the result, and what H keeps: nothing where no OT is needed.
///
/// # Errors
/// Those of the channel, and malformed corrections.
pub(crate) fn prepare_hospital(
    off: &mut HospitalOffline<'_>,
    truncation: Truncation,
    y: &[u32],
    shares: &mut [u32],
) -> Result<Option<Box<dyn Answers>>, ProtocolError> {
    let bits = truncation.ot_bits();
    let mut rho = Secret::<u32>::default();
    if bits > 0 {
        rho.fit(y.len());
        random::words(off.prg, ring_mask(bits), &mut rho);
    }
    let blocks = y.chunks(BLOCK).zip(shares.chunks_mut(BLOCK)).enumerate();
    off.workers.each(blocks, |(block, (y, shares))| {
        let rho = rho.get(block * BLOCK..).unwrap_or_default();
        widened(
            #[inline(always)]
            || truncation.hospital_share(y, rho, shares),
        );
    });
    Ok(match bits {
        0 => None,
        _ => Some(hospital(off, truncation, y, &rho)?),
    })
}

/// Offline, H: what H keeps for an extension to H's shares `target`, whose low bits are H's shares of the values.
///
/// # Errors
/// Those of the channel, and malformed corrections.
pub(crate) fn extend_hospital(
    off: &mut HospitalOffline<'_>,
    extension: Truncation,
    target: &[u32],
) -> Result<Box<dyn Answers>, ProtocolError> {
    hospital(off, extension, target, &[])
}

/// `rho` is empty for an extension, of which `y` are H's shares of the results.
fn hospital(
    off: &mut HospitalOffline<'_>,
    truncation: Truncation,
    y: &[u32],
    rho: &[u32],
) -> Result<Box<dyn Answers>, ProtocolError> {
    let mut truncate = (off.spent.pop_front()).unwrap_or_else(|| {
        if truncation.ot_bits() <= u16::BITS {
            Box::new(HospitalTruncate::<u16>::new(truncation, y.len()))
        } else {
            Box::new(HospitalTruncate::<u32>::new(truncation, y.len()))
        }
    });
    truncate.prepare(off, y, rho)?;
    Ok(truncate)
}

/// Offline, D: for `n` values.
///
/// # Errors
/// Those of the channel, and malformed corrections.
pub(crate) fn prepare_developer(
    off: &mut DeveloperOffline<'_>,
    truncation: Truncation,
    n: usize,
) -> Result<Box<dyn Truncates>, ProtocolError> {
    let mut truncate =
        (off.spent.truncates.pop_front()).unwrap_or_else(|| match truncation.ot_bits() {
            0 => Box::new(truncation),
            1..=16 => Box::new(DeveloperTruncate::<u16>::new(truncation, n)),
            _ => Box::new(DeveloperTruncate::<u32>::new(truncation, n)),
        });
    truncate.prepare(off)?;
    Ok(truncate)
}

impl<W: Word> HospitalTruncate<W> {
    pub(crate) fn new(truncation: Truncation, n: usize) -> Self {
        Self {
            truncation,
            zero: Secret::new(n),
            one: Secret::new(n),
        }
    }

    pub(crate) fn lanes(&mut self) -> impl Iterator<Item = HospitalLane<'_, W>> + Send {
        let (truncation, lanes) = (self.truncation, Lanes::new(self.zero.len()));
        let kept = lanes
            .of_mut(&mut self.zero)
            .zip(lanes.of_mut(&mut self.one));
        kept.map(move |(zero, one)| HospitalLane {
            truncation,
            zero,
            one,
        })
    }

    pub(crate) fn is_wiped(&self) -> bool {
        self.zero.is_wiped() && self.one.is_wiped()
    }
}

/// Work space of one thread offline.
struct Block<W> {
    corrections: Vec<W>,
    y: Secret<u32>,
    rho: Secret<u32>,
}

impl<W: Word> Block<W> {
    fn new() -> Self {
        Self {
            corrections: vec![W::default(); BLOCK],
            y: Secret::new(BLOCK),
            rho: Secret::new(BLOCK),
        }
    }
}

/// What H keeps for one lane. In the second round, D reads and H has nothing to do.
pub(crate) struct HospitalLane<'a, W> {
    truncation: Truncation,
    zero: &'a mut [W],
    one: &'a mut [W],
}

impl<W: Room> Answers for HospitalTruncate<W> {
    /// See [`hospital`].
    fn prepare(
        &mut self,
        off: &mut HospitalOffline<'_>,
        y: &[u32],
        rho: &[u32],
    ) -> Result<(), ProtocolError> {
        let (truncation, bits) = (self.truncation, self.truncation.ot_bits());
        let from = ring_mask(truncation.from_bits);
        for at in stripes(y.len()) {
            let (first, second) = (
                off.space.first.room(at.len()),
                off.space.second.room(at.len()),
            );
            off.ots
                .send_random(off.ch, bits, [&mut *first, &mut *second])?;
            let starts = at.clone().step_by(BLOCK);
            let blocks = (self.zero[at.clone()].chunks_mut(BLOCK))
                .zip(self.one[at].chunks_mut(BLOCK))
                .zip(first.chunks(BLOCK).zip(second.chunks(BLOCK)));
            let mut states: Vec<_> = (0..off.workers.threads())
                .map(|_| Block::<W>::new())
                .collect();
            off.workers.stream(
                &mut states,
                off.ch,
                starts.zip(blocks).map(|block| (block, Vec::new())),
                |_, _| Ok::<_, ProtocolError>(()),
                |block, ((start, ((zero, one), pads)), message)| {
                    let at = *start..*start + zero.len();
                    let corrections = &mut block.corrections[..zero.len()];
                    let (y, rho) = if rho.is_empty() {
                        let target = &y[at];
                        let own = (&mut block.y[..target.len()], &mut block.rho[..target.len()]);
                        widened(
                            #[inline(always)]
                            || {
                                truncation.towards(target, own.1);
                                for (y, &target) in own.0.iter_mut().zip(target) {
                                    *y = target & from;
                                }
                            },
                        );
                        (&*own.0, &*own.1)
                    } else {
                        (&y[at.clone()], &rho[at])
                    };
                    widened(
                        #[inline(always)]
                        || truncation.prepare(y, rho, *pads, corrections, zero, one),
                    );
                    wire::put_words(corrections, bits, message);
                    Ok(())
                },
                |ch, (_, message)| Ok(ch.send(Kind::CotCorrections, message)?),
            )?;
        }
        Ok(())
    }

    fn answer(&mut self, on: &mut Online<'_>) -> Result<(), ProtocolError> {
        on.exchange(self.lanes(), 2)?;
        debug_assert!(self.is_wiped());
        Ok(())
    }
}

impl<W: Word> Lane<W> for HospitalLane<'_, W> {
    fn receives(&self, round: usize) -> Option<(Kind, usize)> {
        (round == 0).then(|| (Kind::TruncateRequest, wire::bits_len(self.zero.len())))
    }

    fn work(
        &mut self,
        round: usize,
        received: &[u8],
        answer: &mut Vec<u8>,
        scratch: &mut Scratch<W>,
    ) -> Result<(), ProtocolError> {
        if round > 0 {
            return Ok(());
        }
        let truncation = self.truncation;
        let blocks = (self.zero.chunks_mut(STEP).zip(self.one.chunks_mut(STEP)))
            .zip(received.chunks(wire::bits_len(STEP)));
        for ((zero, one), request) in blocks {
            let n = zero.len();
            let (flips, words) = (&mut scratch.bytes[..n], &mut scratch.words[..n]);
            widened(
                #[inline(always)]
                || {
                    wire::get_bits(request, flips);
                    truncation.answer(zero, one, flips, words);
                },
            );
            wire::put_words(words, truncation.ot_bits(), answer);
            wipe(zero);
            wipe(one);
        }
        Ok(())
    }

    fn sends(&self, round: usize) -> Option<Kind> {
        (round == 0).then_some(Kind::TruncateAnswer)
    }
}

impl<W: Word> DeveloperTruncate<W> {
    pub(crate) fn new(truncation: Truncation, n: usize) -> Self {
        Self {
            truncation,
            choices: Secret::new(n),
            w: Secret::new(n),
        }
    }
}

impl Truncates for Truncation {
    fn prepare(&mut self, _off: &mut DeveloperOffline<'_>) -> Result<(), ProtocolError> {
        Ok(())
    }

    fn evaluate(&mut self, on: &mut Online<'_>, y: &mut [u32]) -> Result<(), ProtocolError> {
        on.workers.each(y.chunks_mut(BLOCK), |y| {
            widened(
                #[inline(always)]
                || {
                    self.offset(y);
                    self.finish_alone(y);
                },
            );
        });
        Ok(())
    }
}

/// What D keeps for one lane; the choices become the bits that H gets.
struct DeveloperLane<'a, W> {
    truncation: Truncation,
    y: &'a mut [u32],
    choices: &'a mut [u8],
    w: &'a mut [W],
}

impl<W: Room> Truncates for DeveloperTruncate<W> {
    fn prepare(&mut self, off: &mut DeveloperOffline<'_>) -> Result<(), ProtocolError> {
        let bits = self.truncation.ot_bits();
        for at in stripes(self.w.len()) {
            let (choices, w) = (&mut self.choices[at.clone()], &mut self.w[at]);
            let (received, sent) = off.next()?;
            let made = (received.choices.chunks(BLOCK)).zip(received.pads.chunks(BLOCK));
            let blocks = (choices.chunks_mut(BLOCK).zip(w.chunks_mut(BLOCK)))
                .zip(made)
                .map(|block| (block, Vec::new()));
            off.workers.stream(
                &mut block_for_all::<W>(off.workers),
                off.ch,
                blocks,
                |ch, (((choices, _), _), message)| {
                    let len = wire::words_len(choices.len(), bits);
                    Ok::<_, ProtocolError>(ch.recv(Kind::CotCorrections, len, message)?)
                },
                |corrections, (((choices, w), (chosen, pads)), message)| {
                    let corrections = &mut corrections[..choices.len()];
                    wire::get_words(message, bits, corrections)?;
                    choices.copy_from_slice(chosen);
                    widened(
                        #[inline(always)]
                        || mux::receive(chosen, corrections, ring_mask(bits), pads, w),
                    );
                    Ok(())
                },
                |_, _| Ok(()),
            )?;
            off.ahead.done(received, sent);
        }
        Ok(())
    }

    fn evaluate(&mut self, on: &mut Online<'_>, y: &mut [u32]) -> Result<(), ProtocolError> {
        let (truncation, lanes) = (self.truncation, Lanes::new(y.len()));
        let kept = (lanes.of_mut(y).zip(lanes.of_mut(&mut self.choices)))
            .zip(lanes.of_mut(&mut self.w))
            .map(|((y, choices), w)| DeveloperLane {
                truncation,
                y,
                choices,
                w,
            });
        on.exchange(kept, 2)?;
        debug_assert!(self.choices.is_wiped() && self.w.is_wiped());
        Ok(())
    }
}

impl<W: Word> Lane<W> for DeveloperLane<'_, W> {
    fn receives(&self, round: usize) -> Option<(Kind, usize)> {
        let len = || wire::words_len(self.y.len(), self.truncation.ot_bits());
        (round > 0).then(|| (Kind::TruncateAnswer, len()))
    }

    fn work(
        &mut self,
        round: usize,
        received: &[u8],
        answer: &mut Vec<u8>,
        scratch: &mut Scratch<W>,
    ) -> Result<(), ProtocolError> {
        if round > 0 {
            return self.finish(received, scratch);
        }
        self.request(answer);
        Ok(())
    }

    fn sends(&self, round: usize) -> Option<Kind> {
        (round == 0).then_some(Kind::TruncateRequest)
    }
}

impl<W: Word> DeveloperLane<'_, W> {
    /// The request for H.
    fn request(&mut self, answer: &mut Vec<u8>) {
        let truncation = self.truncation;
        for (y, choices) in self.y.chunks_mut(STEP).zip(self.choices.chunks_mut(STEP)) {
            prefetch_next(choices);
            widened(
                #[inline(always)]
                || {
                    truncation.offset(y);
                    truncation.request(y, choices);
                    wire::put_bits(choices, answer);
                },
            );
        }
    }

    /// H's answers; `y` becomes D's shares of the results.
    fn finish(&mut self, received: &[u8], scratch: &mut Scratch<W>) -> Result<(), ProtocolError> {
        let (truncation, bits) = (self.truncation, self.truncation.ot_bits());
        let blocks = (self.y.chunks_mut(STEP).zip(self.choices.chunks_mut(STEP)))
            .zip(self.w.chunks_mut(STEP))
            .zip(received.chunks(wire::words_len(STEP, bits)));
        for (((y, flips), w), answers) in blocks {
            prefetch_next(w);
            let words = &mut scratch.words[..y.len()];
            wire::get_words(answers, bits, words)?;
            widened(
                #[inline(always)]
                || truncation.finish(y, flips, w, words),
            );
            wipe(flips);
            wipe(w);
        }
        Ok(())
    }
}
