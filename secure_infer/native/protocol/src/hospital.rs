//! The hospital's side of a session: masks first, then look-ups.
//!
//! H's share of every value is fixed offline; [`Session::prepare`] walks the program on masks alone.
//! Online, [`Session::infer`] sends the masked X-ray and answers look-ups in the same order.
//! A [`Ticket`] is moved into the walk that spends it and cannot be cloned, stored or spent twice.

use std::collections::VecDeque;
use std::sync::Arc;

use blindread_lattice::{HospitalSecret, Prg};
use blindread_pool::Workers;
use blindread_ring::raster;

use crate::channel::{Channel, Kind, Phase};
use crate::error::ProtocolError;
use crate::lanes::{Kept, Online};
use crate::max_pool;
use crate::options::SessionOptions;
use crate::ot::Engines;
use crate::plan::Plan;
use crate::program::{MaxPool, Relu, Step, StepId, Truncate, ValueId, ring_mask};
use crate::relu::{Answers, HospitalOffline, Space};
use crate::secret::Secret;
use crate::shares::{Share, Shares};
use crate::truncate::Truncation;
use crate::{random, relu, seed, truncate_flow, wire};

/// The hospital's state of one connection.
pub struct Session {
    plan: Arc<Plan>,
    hints: Arc<dyn AsRef<[u8]> + Send + Sync>,
    public_seed: [u8; 32],
    session_id: [u8; 32],
    workers: Workers,
    engines: Engines,
    /// Memory of erased shares, for the next walk.
    spare: Vec<Vec<u32>>,
    /// What is left of the last ticket that was spent, for the next one.
    spent: VecDeque<Box<dyn Answers>>,
    kept: Kept,
}

enum Prepared {
    /// The vectors that D asks for, one after the other; none in a local step.
    Answers(Vec<Box<dyn Answers>>),
    Output(Share),
}

/// What the hospital keeps to answer one inference. In memory only; erased on drop.
pub struct Ticket {
    input_mask: Share,
    steps: Vec<Prepared>,
}

impl Session {
    /// Sets up OTs in both directions.
    ///
    /// `entropy` is fresh from the operating system.
    ///
    /// # Errors
    /// [`ProtocolError`]: the channel's, a malformed message, hints of a wrong length.
    pub fn setup(
        ch: &mut dyn Channel,
        plan: Arc<Plan>,
        hints: Arc<dyn AsRef<[u8]> + Send + Sync>,
        public_seed: [u8; 32],
        options: SessionOptions,
        entropy: [u8; 32],
    ) -> Result<Self, ProtocolError> {
        let got = (*hints).as_ref().len();
        if got != plan.hints_len() {
            return Err(ProtocolError::Argument(format!(
                "hints: expected {} bytes, got {got}",
                plan.hints_len()
            )));
        }
        ch.enter(Phase::Setup, 0);
        let mut prg = seed::setup(b"hospital", &options.id, entropy)?;
        let engines = Engines::of_hospital(ch, &options, &mut prg)?;
        Ok(Self {
            plan,
            hints,
            public_seed,
            session_id: options.id,
            workers: options.workers,
            engines,
            spare: Vec::new(),
            spent: VecDeque::new(),
            kept: Kept::default(),
        })
    }

    /// Makes one ticket.
    ///
    /// # Errors
    /// [`ProtocolError`]; the session must then be dropped with all its tickets.
    pub fn prepare(
        &mut self,
        ch: &mut dyn Channel,
        ticket_id: u64,
        entropy: [u8; 32],
    ) -> Result<Ticket, ProtocolError> {
        ch.enter(Phase::Offline, 0);
        let mut prg = seed::ticket(ch, b"hospital", &self.session_id, ticket_id, entropy)?;
        let (secret, sample) = HospitalSecret::new(&self.public_seed, &mut prg);
        ch.send(Kind::RingLwe, &sample)?;
        let plan = self.plan.clone();
        let mut walk = Walk {
            shares: Shares::new(&plan, &self.workers, std::mem::take(&mut self.spare)),
            masks: (0..plan.program().steps().len()).map(|_| None).collect(),
            secret: secret.with_workers(&self.workers),
            public_seed: &self.public_seed,
            plan: &plan,
        };
        let mut space = Space::default();
        let mut ticket = Ticket {
            input_mask: Secret::new(0),
            steps: Vec::new(),
        };
        for (id, step) in plan.program().steps().iter().enumerate() {
            if let Some(linear) = step.output().and_then(|out| plan.target(out)) {
                // Masks for a linear step, made where its input is made, but that step's work.
                ch.enter(Phase::Offline, linear);
                walk.masks[linear] = Some(walk.draw(linear, &mut prg)?);
            }
            ch.enter(Phase::Offline, id);
            let mut offline = HospitalOffline {
                ch: &mut *ch,
                ots: &mut self.engines,
                workers: &self.workers,
                prg: &mut prg,
                space: &mut space,
                spent: &mut self.spent,
            };
            let prepared = match step {
                Step::Input(s) => {
                    let mask = walk.choose(s.out, offline.prg)?;
                    ticket.input_mask = Secret::copy(&mask);
                    walk.shares.set(s.out, mask);
                    Prepared::Answers(Vec::new())
                }
                Step::Linear(_) => {
                    walk.linear(&mut offline, id, (*self.hints).as_ref())?;
                    Prepared::Answers(Vec::new())
                }
                Step::Truncate(s) => Prepared::Answers(walk.truncate(&mut offline, s)?),
                Step::Relu(s) => Prepared::Answers(walk.relu(&mut offline, s, false)?),
                Step::ReluClipped(s) => Prepared::Answers(walk.relu(&mut offline, s, true)?),
                Step::MaxPool(s) => Prepared::Answers(walk.max_pool(&mut offline, s)?),
                Step::Output(s) => Prepared::Output(Secret::copy(walk.shares.get(s.input)?)),
                Step::Add(_) | Step::Concat(_) | Step::SumPool(_) | Step::Subsample(_) => {
                    walk.shares.apply_local(id)?;
                    Prepared::Answers(Vec::new())
                }
            };
            ticket.steps.push(prepared);
            walk.shares.retire(id);
        }
        self.spare = walk.shares.into_spare();
        ch.recv(Kind::Done, 0, &mut Vec::new())?;
        Ok(ticket)
    }

    /// Spends a ticket on an input `x` (channels, height, width), and returns the signed values of every
    /// output.
    ///
    /// # Errors
    /// [`ProtocolError::Argument`] before anything is sent when `x` has a wrong size (the ticket is gone
    /// all the same); any other [`ProtocolError`] ends the session.
    pub fn infer(
        &mut self,
        ch: &mut dyn Channel,
        ticket: Ticket,
        x: &[i32],
    ) -> Result<Vec<Vec<i64>>, ProtocolError> {
        let program = self.plan.program();
        self.spent.clear();
        if x.len() != ticket.input_mask.len() {
            return Err(ProtocolError::Argument(format!(
                "input: expected shape {:?}, got {} elements",
                program.input_shape(),
                x.len()
            )));
        }
        let mut outputs = Vec::new();
        for (id, (step, prepared)) in program.steps().iter().zip(ticket.steps).enumerate() {
            ch.enter(Phase::Online, id);
            if let Step::Input(s) = step {
                let value = program.value(s.out);
                let masked: Vec<u32> = x
                    .iter()
                    .zip(ticket.input_mask.iter())
                    .map(|(&x, &r)| (x as u32).wrapping_sub(r) & value.mask())
                    .collect();
                wire::send_words(ch, Kind::MaskedInput, &masked, value.ring_bits)?;
            }
            match prepared {
                Prepared::Answers(vectors) => {
                    for mut vector in vectors {
                        vector.answer(&mut Online {
                            ch: &mut *ch,
                            workers: &self.workers,
                            kept: &mut self.kept,
                        })?;
                        self.spent.push_back(vector);
                    }
                }
                Prepared::Output(share) => {
                    let bits = program.value(step.inputs()[0]).ring_bits;
                    let mut theirs = vec![0; share.len()];
                    wire::recv_words(ch, Kind::Output, &mut theirs, bits)?;
                    outputs.push(
                        share
                            .iter()
                            .zip(&theirs)
                            .map(|(&h, &d)| signed(h.wrapping_add(d), bits))
                            .collect(),
                    );
                }
            }
        }
        Ok(outputs)
    }
}

/// A residue mod 2^bits read as a signed number.
fn signed(word: u32, bits: u32) -> i64 {
    i64::from((word << (32 - bits)) as i32 >> (32 - bits))
}

/// The offline walk on H's masks.
struct Walk<'a> {
    shares: Shares<'a>,
    /// Lattice masks drawn before their linear step, by that step.
    masks: Vec<Option<LatticeMasks>>,
    secret: HospitalSecret,
    public_seed: &'a [u8; 32],
    plan: &'a Plan,
}

/// The masks of a linear step's padded input.
struct LatticeMasks {
    map: Share,
    border: Share,
}

impl Walk<'_> {
    /// The lattice masks of a linear step; they are drawn once.
    fn draw(&mut self, id: StepId, prg: &mut Prg) -> Result<LatticeMasks, ProtocolError> {
        let linear = self.plan.linear(id)?;
        let bits = self
            .plan
            .program()
            .value(self.plan.program().steps()[id].inputs()[0])
            .ring_bits;
        let mut padded = Secret::from(self.shares.fresh(linear.shape.padded_len()));
        self.secret
            .input_masks(
                &linear.layout,
                self.public_seed,
                linear.first_index,
                bits,
                prg,
                &mut padded,
            )
            .map_err(|e| ProtocolError::Argument(e.to_string()))?;
        if raster::border_len(&linear.shape) == 0 {
            return Ok(LatticeMasks {
                map: padded,
                border: Secret::new(0),
            });
        }
        let (map, border) = raster::split(&linear.shape, &padded);
        self.shares.spare(padded);
        Ok(LatticeMasks {
            map: map.into(),
            border: border.into(),
        })
    }

    /// H's share of a value whose mask H may choose: the lattice mask of its linear step, drawn before, or uniform.
    fn choose(&mut self, value: ValueId, prg: &mut Prg) -> Result<Share, ProtocolError> {
        if let Some(id) = self.plan.target(value) {
            let masks = self.masks[id].as_mut().ok_or_else(|| {
                ProtocolError::Argument(format!("expected masks for linear step {id}, got none"))
            })?;
            return Ok(std::mem::replace(&mut masks.map, Secret::new(0)));
        }
        let value = self.plan.program().value(value);
        let mut mask = Secret::from(self.shares.fresh(value.len()));
        random::words(prg, value.mask(), &mut mask);
        Ok(mask)
    }

    fn linear(
        &mut self,
        off: &mut HospitalOffline<'_>,
        id: StepId,
        hints: &[u8],
    ) -> Result<(), ProtocolError> {
        let step = &self.plan.program().steps()[id];
        let linear = self.plan.linear(id)?;
        let value = self.plan.program().value(step.inputs()[0]);
        let masks = match self.masks[id].take() {
            Some(masks) => masks,
            None => self.draw(id, off.prg)?,
        };
        if !linear.masked_by_producer {
            let share = self.shares.get(step.inputs()[0])?;
            let difference: Vec<u32> = share
                .iter()
                .zip(masks.map.iter())
                .map(|(&x, &r)| x.wrapping_sub(r) & value.mask())
                .collect();
            wire::send_words(off.ch, Kind::Remask, &difference, value.ring_bits)?;
            self.shares.spare(masks.map);
        }
        wire::send_words(off.ch, Kind::PaddingMasks, &masks.border, value.ring_bits)?;
        if let Some(out) = step.output() {
            let mut share = Secret::from(self.shares.fresh(self.plan.program().value(out).len()));
            self.secret
                .output_shares(
                    &linear.layout,
                    &hints[linear.hints.clone()],
                    value.ring_bits,
                    &mut share,
                )
                .map_err(|e| ProtocolError::Argument(e.to_string()))?;
            self.shares.set(out, share);
        }
        Ok(())
    }

    fn truncate(
        &mut self,
        off: &mut HospitalOffline<'_>,
        s: &Truncate,
    ) -> Result<Vec<Box<dyn Answers>>, ProtocolError> {
        let (input, out) = (
            self.plan.program().value(s.input),
            self.plan.program().value(s.out),
        );
        let truncation = Truncation {
            from_bits: input.ring_bits,
            to_bits: out.ring_bits,
            shift: s.shift,
        };
        let mut share = self.shares.fresh(out.len());
        let y = self.shares.get(s.input)?;
        let answers = truncate_flow::prepare_hospital(off, truncation, y, &mut share)?;
        self.shares.set(s.out, share);
        Ok(answers.into_iter().collect())
    }

    /// ReLU(y), or clipped ReLU(y) - ReLU(y - ceiling): two ReLUs of one share, the second with a mask of its own
    /// that the first one's target takes up.
    fn relu(
        &mut self,
        off: &mut HospitalOffline<'_>,
        s: &Relu,
        clipped: bool,
    ) -> Result<Vec<Box<dyn Answers>>, ProtocolError> {
        let program = self.plan.program();
        let target = self.choose(s.out, off.prg)?;
        let shape = relu::Shape::of_relu(s, program);
        let (mask, n) = (ring_mask(shape.out_bits), target.len());
        let share = self.shares.get(s.input)?;
        let answers = if clipped {
            let mut second = Secret::from(vec![0; n]);
            random::words(off.prg, mask, &mut second);
            let first = target.iter().zip(second.iter());
            let first = first.map(|(&first, &second)| first.wrapping_add(second) & mask);
            let targets = Secret::from(first.chain(second.iter().copied()).collect::<Vec<_>>());
            let both = Secret::from([&share[..], &share[..]].concat());
            let relus = relu::prepare_hospital(off, shape.unextended(), &both, &targets)?;
            let mut answers = vec![relus];
            if let Some(extension) = shape.extension {
                answers.push(truncate_flow::extend_hospital(off, extension, &target)?);
            }
            answers
        } else {
            vec![relu::prepare_hospital(off, shape, share, &target)?]
        };
        self.shares.set(s.out, target);
        Ok(answers)
    }

    fn max_pool(
        &mut self,
        off: &mut HospitalOffline<'_>,
        s: &MaxPool,
    ) -> Result<Vec<Box<dyn Answers>>, ProtocolError> {
        let input = self.plan.program().value(s.input);
        let mask = input.mask();
        let shape = relu::Shape::of_pool(s, self.plan.program());
        let mut source = Secret::copy(self.shares.get(s.input)?);
        let mut relus = Vec::new();
        for stage in max_pool::stages(input.shape, s) {
            let mut best = Secret::new(stage.outputs());
            stage.begin(off.workers, &source, &mut best);
            for round in stage.rounds() {
                let n = stage.comparisons(round);
                let (mut y, mut fresh) = (Secret::new(n), Secret::new(n));
                stage.differences(off.workers, round, (&source, &best), mask, &mut y);
                random::words(off.prg, mask, &mut fresh);
                relus.push(relu::prepare_hospital(off, shape, &y, &fresh)?);
                stage.update(off.workers, round, (&source, &fresh), mask, &mut best);
            }
            source = best;
        }
        self.shares.set(s.out, source);
        Ok(relus)
    }
}
