//! ReLU on shares: the sign by [`crate::carry`], then the product by [`crate::mux`].
//!
//! Function: D learns z = b * y - r', b = \[y >= 0\] xor flip, for y = y_H + y_D mod 2^ell and H's r'. Where the result
//! belongs into a larger ring, [`crate::truncate`] extends it in one more round of the same lanes.
//! Requires: |y| < 2^(k-1) - 2^m for the window [m, k). Error: y or 0 for the other,
//! only where -2^(m-1) <= y < 2^(m-1).
//! Rounds: one per chunk and one. Bits online for [3, 11) and ell' = 12: 65; offline: one 1-of-16 OT
//! per chunk, two OTs, ell' bits.
//! Security: semi-honest; see the parts. Offline material is used once and erased on drop.

use std::collections::VecDeque;

use blindread_lattice::Prg;
use blindread_ot::Role;
use blindread_pool::Workers;
use blindread_ring::{Word, widened};

use crate::ahead::{Ahead, Received, Sent};
use crate::carry::{self, Chunk};
use crate::channel::{Channel, Kind};
use crate::error::ProtocolError;
use crate::lanes::Online;
use crate::mux;
use crate::ot::Engines;
use crate::program::{MaxPool, Program, Relu, ring_mask};
use crate::secret::Secret;
use crate::truncate::Truncation;
use crate::truncate_flow::{DeveloperTruncate, HospitalTruncate, Truncates};
use crate::wire;

/// Elements whose offline messages are exchanged together: large enough for the network, small enough
/// for the caches.
pub const OFFLINE_STRIPE: usize = 1 << 17;

/// Elements that a thread takes at once offline: a multiple of 8, so that their messages have whole bytes.
pub(crate) const BLOCK: usize = 1 << 14;

mod answer;
mod evaluate;

/// What a vector of ReLUs is.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    /// Bits [m, k) that are compared.
    pub window: [u32; 2],
    /// Ring in which the sign is multiplied.
    pub out_bits: u32,
    /// From there to a larger ring.
    pub extension: Option<Truncation>,
}

impl Shape {
    pub(crate) fn of_relu(step: &Relu, program: &Program) -> Self {
        Self {
            window: step.window,
            out_bits: step.product_bits(program),
            extension: step.extension(program),
        }
    }

    /// That of the comparisons of a max-pool.
    pub(crate) fn of_pool(step: &MaxPool, program: &Program) -> Self {
        Self {
            window: step.window,
            out_bits: program.value(step.input).ring_bits,
            extension: None,
        }
    }

    /// The results stay in their ring.
    pub(crate) fn unextended(self) -> Self {
        Self {
            extension: None,
            ..self
        }
    }

    /// Bits of the largest ring element that is kept.
    fn product_bits(self) -> u32 {
        let extension = self.extension.map_or(0, Truncation::ot_bits);
        self.out_bits.max(extension)
    }
}

/// What H keeps for one vector of ReLUs; the ring elements in the smallest type that holds them.
struct HospitalRelu<W: Word> {
    window: [u32; 2],
    chunks: Vec<Chunk>,
    /// Per chunk, see [`carry::codes`]; with those of the last one, H's masks of the signs.
    codes: Vec<Secret<u8>>,
    pads: Vec<Secret<u16>>,
    zero: Secret<W>,
    one: Secret<W>,
    out_bits: u32,
    extension: Option<HospitalTruncate<W>>,
}

/// What D keeps for one vector of ReLUs.
struct DeveloperRelu<W: Word> {
    chunks: Vec<Chunk>,
    top: u32,
    /// See [`carry::centre`].
    centre: u32,
    /// Per chunk, see [`carry::pick`]; with those of the last one, D's choices in the multiplexer.
    picks: Vec<Secret<u8>>,
    w: Secret<W>,
    tau: Secret<W>,
    difference: Secret<W>,
    out_bits: u32,
    extension: Option<DeveloperTruncate<W>>,
}

/// What H keeps for one vector, whatever the size of its words.
pub(crate) trait Answers: Send {
    /// Offline: takes up what is kept for H's shares `y` of the values and `target` of the results.
    ///
    /// # Errors
    /// Those of the channel, and malformed corrections.
    fn prepare(
        &mut self,
        off: &mut HospitalOffline<'_>,
        y: &[u32],
        target: &[u32],
    ) -> Result<(), ProtocolError>;

    /// Online: answers D's requests. Nothing is kept any more.
    ///
    /// # Errors
    /// Those of the channel.
    fn answer(&mut self, on: &mut Online<'_>) -> Result<(), ProtocolError>;
}

/// What D keeps for one vector of ReLUs, whatever the size of its words.
pub(crate) trait Compares: Send {
    /// Offline: takes up what is kept for as many values as there is room for.
    ///
    /// # Errors
    /// Those of the channel, and malformed corrections.
    fn prepare(&mut self, off: &mut DeveloperOffline<'_>) -> Result<(), ProtocolError>;

    /// Online: from D's shares `input` of the values, or without it those in `out`, D's shares `out` of the results.
    /// Nothing is kept any more.
    ///
    /// # Errors
    /// Those of the channel.
    fn evaluate(
        &mut self,
        on: &mut Online<'_>,
        input: Option<&[u32]>,
        out: &mut [u32],
        channels: &Channels<'_>,
    ) -> Result<(), ProtocolError>;
}

/// D's private parameters of a vector that consists of channels of equal size.
pub(crate) struct Channels<'a> {
    /// Elements of a channel.
    pub plane: usize,
    /// For each channel, what is added before the comparison.
    pub threshold: &'a [u32],
    /// For each channel, 1 where what is negative is kept.
    pub flip: &'a [u8],
}

/// H's OT engines and randomness for one ticket.
pub struct HospitalOffline<'a> {
    /// The connection.
    pub ch: &'a mut dyn Channel,
    /// H's OTs.
    pub ots: &'a mut Engines,
    /// H's threads.
    pub workers: &'a Workers,
    /// H's randomness for this ticket.
    pub prg: &'a mut Prg,
    /// H's work space for this ticket.
    pub(crate) space: &'a mut Space,
    /// What is left of a ticket that was spent: the room for this one, in the same order.
    pub(crate) spent: &'a mut VecDeque<Box<dyn Answers>>,
}

/// What H needs for one stripe of OTs, used again by the next one and erased on drop.
#[derive(Default)]
pub(crate) struct Space {
    pub(crate) first: Secret<u32>,
    pub(crate) second: Secret<u32>,
    pad: Secret<u32>,
    pi: Secret<u8>,
    carries: Secret<u8>,
}

/// D's OT engines for one ticket.
pub struct DeveloperOffline<'a> {
    /// The connection.
    pub ch: &'a mut dyn Channel,
    /// D's OTs.
    pub ots: &'a mut Engines,
    /// D's threads.
    pub workers: &'a Workers,
    /// Those of this ticket.
    pub ahead: &'a mut Ahead,
    /// What is left of a ticket that was spent: the room for this one, in the same order.
    pub(crate) spent: &'a mut Spent,
}

/// What is left of D's ticket.
#[derive(Default)]
pub(crate) struct Spent {
    pub(crate) relus: VecDeque<Box<dyn Compares>>,
    pub(crate) truncates: VecDeque<Box<dyn Truncates>>,
}

impl DeveloperOffline<'_> {
    /// The OTs of the next stripe.
    pub(crate) fn next(&mut self) -> Result<(Received, Sent), ProtocolError> {
        self.ahead.next(self.ch, self.ots)
    }
}

/// Offline, H: `y` are H's shares of the values, `target` H's shares of the results: of those before the extension, where
/// there is one, their low `out_bits` bits.
///
/// # Errors
/// Those of the channel, and malformed corrections.
pub(crate) fn prepare_hospital(
    off: &mut HospitalOffline<'_>,
    shape: Shape,
    y: &[u32],
    target: &[u32],
) -> Result<Box<dyn Answers>, ProtocolError> {
    let mut relu = (off.spent.pop_front()).unwrap_or_else(|| {
        if shape.product_bits() <= u16::BITS {
            Box::new(HospitalRelu::<u16>::new(shape, y.len()))
        } else {
            Box::new(HospitalRelu::<u32>::new(shape, y.len()))
        }
    });
    relu.prepare(off, y, target)?;
    Ok(relu)
}

/// Offline, D: for `n` values.
///
/// # Errors
/// Those of the channel, and malformed corrections.
pub(crate) fn prepare_developer(
    off: &mut DeveloperOffline<'_>,
    shape: Shape,
    n: usize,
) -> Result<Box<dyn Compares>, ProtocolError> {
    let mut relu = (off.spent.relus.pop_front()).unwrap_or_else(|| {
        // the values are kept in the same type
        if shape.product_bits().max(shape.window[1]) <= u16::BITS {
            Box::new(DeveloperRelu::<u16>::new(shape, n))
        } else {
            Box::new(DeveloperRelu::<u32>::new(shape, n))
        }
    });
    relu.prepare(off)?;
    Ok(relu)
}

impl<W: Word> HospitalRelu<W> {
    fn new(shape: Shape, n: usize) -> Self {
        let chunks = carry::chunks(shape.window);
        Self {
            window: shape.window,
            codes: chunks.iter().map(|_| Secret::new(n)).collect(),
            pads: chunks.iter().map(|_| Secret::new(n)).collect(),
            chunks,
            zero: Secret::new(n),
            one: Secret::new(n),
            out_bits: shape.out_bits,
            extension: shape.extension.map(|to| HospitalTruncate::new(to, n)),
        }
    }

    fn prepare_stripe(
        &mut self,
        off: &mut HospitalOffline<'_>,
        at: std::ops::Range<usize>,
        y: &[u32],
        target: &[u32],
    ) -> Result<(), ProtocolError> {
        let (n, mask) = (y.len(), ring_mask(self.out_bits));
        let space = &mut *off.space;
        let [first, second, pad] =
            [&mut space.first, &mut space.second, &mut space.pad].map(|words| words.room(n));
        let pi = space.pi.room(n);
        for role in off.ots.speaking_first() {
            match role {
                Role::Sender => {
                    for pads in &mut self.pads {
                        off.ots.send_tables(off.ch, &mut pads[at.clone()])?;
                        off.ch.flush()?;
                    }
                    let pads = [&mut *first, &mut *second];
                    off.ots.send_random(off.ch, self.out_bits, pads)?;
                }
                Role::Receiver => off.ots.recv_random(off.ch, self.out_bits, pi, pad)?,
            }
            off.ch.flush()?;
        }

        // every chunk's carries are masked; the last chunk's carry is the sign, whose mask is the choice in D's OT
        let carries = space.carries.room((self.chunks.len() - 1) * n);
        off.prg.fill(carries);
        let mut codes: Vec<_> = (self.codes.iter_mut())
            .map(|codes| codes[at.clone()].chunks_mut(BLOCK))
            .collect();
        let blocks = (self.zero[at.clone()].chunks_mut(BLOCK))
            .zip(self.one[at].chunks_mut(BLOCK))
            .enumerate()
            .map(|(block, rest)| {
                let codes: Vec<_> = codes.iter_mut().filter_map(Iterator::next).collect();
                (block * BLOCK, codes, rest, Vec::new())
            });
        let (chunks, sign, pi, carries) = (&self.chunks, self.window[1] - 1, &*pi, &*carries);
        let mut states: Vec<_> = (0..off.workers.threads())
            .map(|_| Block::<W>::new())
            .collect();
        off.workers.stream(
            &mut states,
            off.ch,
            blocks,
            |_, _| Ok(()),
            |own, (start, codes, (zero, one), message)| {
                let at = *start..*start + zero.len();
                let [mut pi_in, mut pi_out] =
                    [&mut own.pi_in, &mut own.pi_out].map(|bits| &mut bits[..at.len()]);
                pi_in.fill(0);
                for (j, (&chunk, codes)) in chunks.iter().zip(codes).enumerate() {
                    let last = j + 1 == chunks.len();
                    widened(
                        #[inline(always)]
                        || {
                            if last {
                                carry::bits(&y[at.clone()], sign, pi_out);
                                for (out, &pi) in pi_out.iter_mut().zip(&pi[at.clone()]) {
                                    *out ^= pi;
                                }
                            } else {
                                let carries = &carries[j * n..][at.clone()];
                                for (out, &carry) in pi_out.iter_mut().zip(carries) {
                                    *out = carry & 1;
                                }
                            }
                            carry::codes(chunk, &y[at.clone()], pi_in, pi_out, codes);
                            if last {
                                carry::keep_choices(&pi[at.clone()], codes);
                            }
                        },
                    );
                    std::mem::swap(&mut pi_in, &mut pi_out);
                }
                let corrections = &mut own.corrections[..at.len()];
                let inputs = mux::HospitalInputs {
                    y: &y[at.clone()],
                    pi: &pi[at.clone()],
                    pad: &pad[at.clone()],
                    first: &first[at.clone()],
                    second: &second[at.clone()],
                    target: &target[at],
                };
                widened(
                    #[inline(always)]
                    || mux::prepare(&inputs, mask, corrections, zero, one),
                );
                wire::put_words(corrections, self.out_bits, message);
                Ok(())
            },
            |ch, (_, _, _, message)| Ok(ch.send(Kind::CotCorrections, message)?),
        )
    }
}

/// H's work space of one thread.
struct Block<W> {
    pi_in: Secret<u8>,
    pi_out: Secret<u8>,
    corrections: Vec<W>,
}

impl<W: Word> Block<W> {
    fn new() -> Self {
        Self {
            pi_in: Secret::new(BLOCK),
            pi_out: Secret::new(BLOCK),
            corrections: vec![W::default(); BLOCK],
        }
    }
}

/// One block of words for each thread.
pub(crate) fn block_for_all<W: Word>(workers: &Workers) -> Vec<Vec<W>> {
    vec![vec![W::default(); BLOCK]; workers.threads()]
}

impl<W: Word> DeveloperRelu<W> {
    fn new(shape: Shape, n: usize) -> Self {
        let chunks = carry::chunks(shape.window);
        Self {
            picks: chunks.iter().map(|_| Secret::new(n)).collect(),
            chunks,
            top: shape.window[1] - 1,
            centre: carry::centre(shape.window),
            w: Secret::new(n),
            tau: Secret::new(n),
            difference: Secret::new(n),
            out_bits: shape.out_bits,
            extension: shape.extension.map(|to| DeveloperTruncate::new(to, n)),
        }
    }

    fn prepare_stripe(
        &mut self,
        off: &mut DeveloperOffline<'_>,
        at: std::ops::Range<usize>,
    ) -> Result<(), ProtocolError> {
        let mask = ring_mask(self.out_bits);
        let (received, sent) = off.next()?;
        let (bits, Sent([first, second])) = (self.out_bits, &sent);
        let mut picks: Vec<_> = (self.picks.iter_mut().zip(&received.tables))
            .map(|(picks, [entries, pads])| {
                let room = picks[at.clone()].chunks_mut(BLOCK);
                room.zip(entries.chunks(BLOCK).zip(pads.chunks(BLOCK)))
            })
            .collect();
        let of_choices = (received.choices.chunks(BLOCK)).zip(received.pads.chunks(BLOCK));
        let of_product = (self.w[at.clone()].chunks_mut(BLOCK))
            .zip(self.tau[at.clone()].chunks_mut(BLOCK))
            .zip(self.difference[at].chunks_mut(BLOCK))
            .zip(first.chunks(BLOCK).zip(second.chunks(BLOCK)));
        let blocks = of_choices.zip(of_product).map(|block| {
            let picks: Vec<_> = picks.iter_mut().filter_map(Iterator::next).collect();
            (picks, block, Vec::new())
        });
        off.workers.stream(
            &mut block_for_all(off.workers),
            off.ch,
            blocks,
            |ch, (_, ((choices, _), _), message)| {
                let len = wire::words_len(choices.len(), bits);
                Ok::<_, ProtocolError>(ch.recv(Kind::CotCorrections, len, message)?)
            },
            |corrections, (picks, (of_choices, of_product), message)| {
                let (choices, pads) = *of_choices;
                let (((w, tau), difference), (first, second)) = of_product;
                let corrections = &mut corrections[..choices.len()];
                wire::get_words(message, bits, corrections)?;
                widened(
                    #[inline(always)]
                    || {
                        for (picks, (entries, pads)) in &mut *picks {
                            let table = entries.iter().zip(*pads);
                            for (pick, (&entry, &pad)) in picks.iter_mut().zip(table) {
                                *pick = entry | pad << 4;
                            }
                        }
                        if let Some((last, _)) = picks.last_mut() {
                            carry::keep_choices(choices, last);
                        }
                        mux::receive(choices, corrections, mask, pads, w);
                        let results = tau.iter_mut().zip(difference.iter_mut());
                        for ((tau, difference), (&first, &second)) in
                            results.zip(first.iter().zip(*second))
                        {
                            *tau = W::of(first);
                            *difference = W::of(first.wrapping_sub(second) & mask);
                        }
                    },
                );
                Ok(())
            },
            |_, _| Ok(()),
        )?;
        off.ahead.done(received, sent);
        Ok(())
    }
}
