//! The developer's side of a session: a plain walk on masked data.
//!
//! Online, [`Session::infer`] holds m = x - r of every value; linear steps are an integer convolution
//! of m plus a share d prepared offline, the others ask H. The developer learns neither x nor any output.

use std::sync::Arc;

use blindread_lattice::{DeveloperTicket, Prg};
use blindread_pool::Workers;
use blindread_ring::ConvScratch;
use blindread_ring::raster::{self, Padded};
use rand_distr::{Distribution, Normal};

use crate::ahead::{Ahead, Wanted};
use crate::carry;
use crate::channel::{Channel, Kind, Phase};
use crate::error::ProtocolError;
use crate::lanes::{Kept, Online};
use crate::max_pool;
use crate::model::{Checked, LinearParameters, Parameters};
use crate::options::SessionOptions;
use crate::ot::Engines;
use crate::plan::Plan;
use crate::program::{MaxPool, Program, Relu, Step, StepId, ring_mask};
use crate::relu::{Channels, Compares, DeveloperOffline, Spent};
use crate::secret::Secret;
use crate::shares::{Share, Shares};
use crate::truncate::Truncation;
use crate::truncate_flow::Truncates;
use crate::{relu, seed, truncate_flow, wire};

/// The developer's state of one connection.
pub struct Session {
    plan: Arc<Plan>,
    parameters: Arc<Parameters>,
    secrets: Arc<dyn AsRef<[u8]> + Send + Sync>,
    session_id: [u8; 32],
    workers: Workers,
    engines: Engines,
    /// Erased memory for the shares of the next inference.
    spare: Vec<Vec<u32>>,
    /// What is left of the last ticket that was spent, for the next one.
    spent: Spent,
    kept: Kept,
    scratch: ConvScratch,
}

enum Prepared {
    Linear(PreparedLinear),
    /// Comparisons; a truncation, or the extension of what clipped ReLUs give where that belongs into a larger ring.
    Exchanges(Vec<Box<dyn Compares>>, Option<Box<dyn Truncates>>),
}

/// A vector that the parties prepare together.
enum Exchange {
    Relu(relu::Shape, usize),
    Truncate(Truncation, usize),
}

/// Those of a step, in order.
fn exchanges(program: &Program, step: &Step) -> Vec<Exchange> {
    let value = |id| program.value(id);
    match step {
        Step::Truncate(s) => {
            let (from, to) = (value(s.input), value(s.out));
            let truncation = Truncation {
                from_bits: from.ring_bits,
                to_bits: to.ring_bits,
                shift: s.shift,
            };
            vec![Exchange::Truncate(truncation, from.len())]
        }
        Step::Relu(s) | Step::ReluClipped(s) => {
            let n = value(s.out).len();
            let shape = relu::Shape::of_relu(s, program);
            if matches!(step, Step::Relu(_)) {
                return vec![Exchange::Relu(shape, n)];
            }
            let extension = shape.extension.map(|to| Exchange::Truncate(to, n));
            let both = Exchange::Relu(shape.unextended(), 2 * n);
            [both].into_iter().chain(extension).collect()
        }
        Step::MaxPool(s) => {
            let input = value(s.input);
            let stages = max_pool::stages(input.shape, s);
            let rounds = stages.iter().flat_map(|stage| {
                let sizes = stage.rounds().map(|round| stage.comparisons(round));
                sizes.collect::<Vec<_>>()
            });
            let shape = relu::Shape::of_pool(s, program);
            rounds.map(|n| Exchange::Relu(shape, n)).collect()
        }
        _ => Vec::new(),
    }
}

/// The OTs of one ticket.
fn wanted(program: &Program) -> Ahead {
    let mut all = Vec::new();
    for (step, kind) in program.steps().iter().enumerate() {
        for exchange in exchanges(program, kind) {
            let (relu, truncation, n) = match exchange {
                Exchange::Relu(relu, n) => (Some(relu), relu.extension, n),
                Exchange::Truncate(truncation, n) => (None, Some(truncation), n),
            };
            let relu = relu.map(|relu| Wanted {
                step,
                tables: carry::chunks(relu.window).len(),
                bits: relu.out_bits,
                back: true,
                n,
            });
            let truncation = truncation.map(|truncation| Wanted {
                step,
                tables: 0,
                bits: truncation.ot_bits(),
                back: false,
                n,
            });
            // A truncation that wants no OT has pads of no bits.
            let wanted = relu.into_iter().chain(truncation);
            all.extend(
                wanted
                    .filter(|wanted| wanted.bits > 0)
                    .flat_map(Wanted::stripes),
            );
        }
    }
    Ahead::new(all)
}

struct PreparedLinear {
    /// D's share of W r.
    share: Share,
    /// D's shares of padded positions: minus H's masks, since the values there are zero.
    border: Share,
    /// From the share that H has to the lattice mask, where the input does not carry it already.
    remask: Option<Share>,
}

/// What the developer keeps for one inference. In memory only; erased on drop.
pub struct Ticket {
    steps: Vec<Prepared>,
}

impl Session {
    /// Sets up OTs in both directions; `entropy` is fresh from the operating system.
    ///
    /// # Errors
    /// [`ProtocolError`]: the channel's, a malformed message, secrets of a wrong length.
    pub fn setup(
        ch: &mut dyn Channel,
        plan: Arc<Plan>,
        parameters: Arc<Parameters>,
        secrets: Arc<dyn AsRef<[u8]> + Send + Sync>,
        options: SessionOptions,
        entropy: [u8; 32],
    ) -> Result<Self, ProtocolError> {
        let got = (*secrets).as_ref().len();
        if got != plan.secrets_len() {
            return Err(ProtocolError::Argument(format!(
                "secrets: expected {} bytes, got {got}",
                plan.secrets_len()
            )));
        }
        ch.enter(Phase::Setup, 0);
        let mut prg = seed::setup(b"developer", &options.id, entropy)?;
        let engines = Engines::of_developer(ch, &options, &mut prg)?;
        Ok(Self {
            plan,
            parameters,
            secrets,
            session_id: options.id,
            workers: options.workers,
            engines,
            spare: Vec::new(),
            spent: Spent::default(),
            kept: Kept::default(),
            scratch: ConvScratch::default(),
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
        let mut prg = seed::ticket(ch, b"developer", &self.session_id, ticket_id, entropy)?;
        let mut sample = Vec::new();
        ch.recv(Kind::RingLwe, DeveloperTicket::MESSAGE_LEN, &mut sample)?;
        let lattice = DeveloperTicket::new(&sample)
            .map_err(|e| ProtocolError::Message(e.to_string()))?
            .with_workers(&self.workers);
        let plan = self.plan.clone();
        if self.spare.is_empty() {
            self.spare = Shares::first_spare(&plan);
        }
        let mut ahead = wanted(plan.program());
        let mut ticket = Ticket {
            steps: Vec::with_capacity(plan.program().steps().len()),
        };
        for (id, step) in plan.program().steps().iter().enumerate() {
            ch.enter(Phase::Offline, id);
            let mut offline = DeveloperOffline {
                ch: &mut *ch,
                ots: &mut self.engines,
                workers: &self.workers,
                ahead: &mut ahead,
                spent: &mut self.spent,
            };
            let prepared = if let Step::Linear(_) = step {
                let secrets = (*self.secrets).as_ref();
                Prepared::Linear(prepare_linear(
                    offline.ch, &plan, id, &lattice, secrets, &mut prg,
                )?)
            } else {
                let (mut relus, mut truncate) = (Vec::new(), None);
                for exchange in exchanges(plan.program(), step) {
                    match exchange {
                        Exchange::Relu(shape, n) => {
                            relus.push(relu::prepare_developer(&mut offline, shape, n)?);
                        }
                        Exchange::Truncate(to, n) => {
                            truncate = Some(truncate_flow::prepare_developer(&mut offline, to, n)?);
                        }
                    }
                }
                Prepared::Exchanges(relus, truncate)
            };
            ticket.steps.push(prepared);
        }
        ch.send(Kind::Done, &[])?;
        ch.flush()?;
        Ok(ticket)
    }

    /// Spends a ticket. `output_noise` is the standard deviation, in raw units, of the Gaussian that is
    /// added to every opened value; `entropy` is fresh from the operating system.
    ///
    /// # Errors
    /// [`ProtocolError`]; the session must then be dropped with all its tickets.
    pub fn infer(
        &mut self,
        ch: &mut dyn Channel,
        ticket: Ticket,
        output_noise: f64,
        entropy: [u8; 32],
    ) -> Result<(), ProtocolError> {
        let noise = Normal::new(0.0, output_noise).map_err(|_| {
            ProtocolError::Argument(format!(
                "output noise: expected a deviation, got {output_noise}"
            ))
        })?;
        let mut prg = seed::setup(b"developer output", &self.session_id, entropy)?;
        let plan = self.plan.clone();
        let program = plan.program();
        let workers = &self.workers;
        self.spent = Spent::default();
        let spent = &mut self.spent;
        let mut on = Online {
            ch,
            workers,
            kept: &mut self.kept,
        };
        let mut shares = Shares::new(&plan, workers, std::mem::take(&mut self.spare));
        for (id, (step, prepared)) in program.steps().iter().zip(ticket.steps).enumerate() {
            on.ch.enter(Phase::Online, id);
            match (step, prepared) {
                (Step::Input(s), _) => {
                    let value = program.value(s.out);
                    let mut masked = vec![0; value.len()];
                    wire::recv_words(on.ch, Kind::MaskedInput, &mut masked, value.ring_bits)?;
                    shares.set(s.out, masked);
                }
                (Step::Linear(s), Prepared::Linear(prepared)) => {
                    let Checked::Linear(parameters) = self.parameters.step(id) else {
                        continue;
                    };
                    let mask = program.value(s.out).mask();
                    let input = shares.get(s.input)?;
                    let place = (workers, &mut self.scratch);
                    let share = linear(place, parameters, prepared, input, mask);
                    shares.set(s.out, share);
                }
                (Step::Truncate(s), Prepared::Exchanges(_, Some(mut truncate))) => {
                    let mut y = shares.consume(id, s.input)?;
                    truncate.evaluate(&mut on, &mut y)?;
                    shares.set(s.out, y);
                    spent.truncates.push_back(truncate);
                }
                (Step::Relu(s) | Step::ReluClipped(s), Prepared::Exchanges(relus, extension)) => {
                    let len = program.value(s.out).len();
                    let (mut y, apart) = match step {
                        Step::Relu(_) if shares.last_read(id, s.input) => {
                            (shares.consume(id, s.input)?, false)
                        }
                        Step::Relu(_) => (shares.fresh(len), true),
                        _ => {
                            let mut twice = shares.fresh(2 * len);
                            twice[..len].copy_from_slice(shares.get(s.input)?);
                            twice[len..].copy_from_slice(shares.get(s.input)?);
                            (twice, false)
                        }
                    };
                    for mut relu in relus {
                        let input = if apart {
                            Some(&shares.get(s.input)?[..])
                        } else {
                            None
                        };
                        let parameters = self.parameters.step(id);
                        let step = (program, s);
                        evaluate_relu(&mut on, &mut *relu, parameters, step, input, &mut y)?;
                        spent.relus.push_back(relu);
                    }
                    if let Some(mut extension) = extension {
                        extension.evaluate(&mut on, &mut y)?;
                        spent.truncates.push_back(extension);
                    }
                    shares.set(s.out, y);
                }
                (Step::MaxPool(s), Prepared::Exchanges(mut relus, _)) => {
                    let input = shares.consume(id, s.input)?;
                    let share =
                        evaluate_max_pool(&mut on, &plan, s, &mut relus, input, &mut shares)?;
                    spent.relus.extend(relus);
                    shares.set(s.out, share);
                }
                (Step::Output(s), _) => {
                    let value = program.value(s.input);
                    let noisy: Vec<u32> = shares
                        .get(s.input)?
                        .iter()
                        .map(|&d| {
                            d.wrapping_add(noise.sample(&mut prg).round() as i64 as u32)
                                & value.mask()
                        })
                        .collect();
                    wire::send_words(on.ch, Kind::Output, &noisy, value.ring_bits)?;
                }
                _ => shares.apply_local(id)?,
            }
            shares.retire(id);
        }
        self.spare = shares.into_spare();
        on.ch.flush()?;
        Ok(())
    }
}

fn prepare_linear(
    ch: &mut dyn Channel,
    plan: &Plan,
    id: StepId,
    lattice: &DeveloperTicket,
    secrets: &[u8],
    prg: &mut Prg,
) -> Result<PreparedLinear, ProtocolError> {
    let (program, part) = (plan.program(), plan.linear(id)?);
    let step = &program.steps()[id];
    let value = program.value(step.inputs()[0]);
    let remask = if part.masked_by_producer {
        None
    } else {
        let mut difference = Secret::from(vec![0; value.len()]);
        wire::recv_words(ch, Kind::Remask, &mut difference, value.ring_bits)?;
        Some(difference)
    };
    let mut border = Secret::<u32>::new(raster::border_len(&part.shape));
    wire::recv_words(ch, Kind::PaddingMasks, &mut border, value.ring_bits)?;
    for mask in border.iter_mut() {
        *mask = mask.wrapping_neg();
    }
    let len = step.output().map_or(0, |out| program.value(out).len());
    let mut share = Secret::from(vec![0; len]);
    lattice
        .output_shares(
            &part.layout,
            &secrets[part.secrets.clone()],
            value.ring_bits,
            prg,
            &mut share,
        )
        .map_err(|e| ProtocolError::Argument(e.to_string()))?;
    Ok(PreparedLinear {
        share,
        border,
        remask,
    })
}

/// W m + d + bias, in the place of d; what was prepared is used up.
fn linear(
    (workers, scratch): (&Workers, &mut ConvScratch),
    parameters: &LinearParameters,
    prepared: PreparedLinear,
    input: &[u32],
    mask: u32,
) -> Vec<u32> {
    let remasked: Option<Vec<u32>> = prepared.remask.map(|remask| {
        input
            .iter()
            .zip(remask.iter())
            .map(|(&m, &d)| m.wrapping_add(d))
            .collect()
    });
    let padded = Padded {
        map: remasked.as_deref().unwrap_or(input),
        border: &prepared.border,
    };
    let mut share = prepared.share.take();
    let last = (&parameters.bias[..], mask);
    (parameters.kernel).add_to(workers, scratch, padded, last, &mut share);
    share
}

/// The ReLU of `input`, or where there is none of what `y` holds; of a clipped one `y` holds its input twice.
fn evaluate_relu(
    on: &mut Online<'_>,
    relu: &mut dyn Compares,
    parameters: &Checked,
    (program, step): (&Program, &Relu),
    input: Option<&[u32]>,
    y: &mut Vec<u32>,
) -> Result<(), ProtocolError> {
    let plane = program.value(step.out).plane();
    match parameters {
        Checked::Relu { threshold, flip } => {
            let channels = Channels {
                plane,
                threshold,
                flip,
            };
            relu.evaluate(on, input, y, &channels)?;
        }
        Checked::ReluClipped { threshold, ceiling } => {
            let n = y.len() / 2;
            let above = threshold.iter().zip(ceiling);
            let above = above.map(|(&threshold, &ceiling)| threshold.wrapping_sub(ceiling));
            let thresholds: Vec<u32> = threshold.iter().copied().chain(above).collect();
            let channels = Channels {
                plane,
                threshold: &thresholds,
                flip: &vec![0; thresholds.len()],
            };
            relu.evaluate(on, input, y, &channels)?;
            let (first, second) = y.split_at_mut(n);
            let mask = ring_mask(step.product_bits(program));
            for (first, &second) in first.iter_mut().zip(&*second) {
                *first = first.wrapping_sub(second) & mask;
            }
            y.truncate(n);
        }
        _ => {
            return Err(ProtocolError::Argument(
                "expected parameters of a ReLU".into(),
            ));
        }
    }
    Ok(())
}

fn evaluate_max_pool(
    on: &mut Online<'_>,
    plan: &Plan,
    step: &MaxPool,
    relus: &mut [Box<dyn Compares>],
    mut source: Vec<u32>,
    shares: &mut Shares<'_>,
) -> Result<Vec<u32>, ProtocolError> {
    let value = plan.program().value(step.input);
    let (workers, mask) = (on.workers, value.mask());
    let mut relus = relus.iter_mut();
    for stage in max_pool::stages(value.shape, step) {
        let mut best = shares.fresh(stage.outputs());
        stage.begin(workers, &source, &mut best);
        for (round, relu) in stage.rounds().zip(relus.by_ref()) {
            let n = stage.comparisons(round);
            let mut y = shares.fresh(n);
            stage.differences(workers, round, (&source, &best), mask, &mut y);
            let all = Channels {
                plane: n,
                threshold: &[0],
                flip: &[0],
            };
            relu.evaluate(on, None, &mut y, &all)?;
            stage.update(workers, round, (&source, &y), mask, &mut best);
            shares.spare(y.into());
        }
        shares.spare(std::mem::replace(&mut source, best).into());
    }
    Ok(source)
}
