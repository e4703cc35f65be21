//! One party's shares of the values that are alive during a walk.

use blindread_pool::Workers;

use crate::error::ProtocolError;
use crate::local;
use crate::plan::Plan;
use crate::program::{Step, StepId, ValueId};
use crate::secret::{Secret, wipe};

/// One party's share of one value, erased on drop.
pub(crate) type Share = Secret<u32>;

pub(crate) struct Shares<'a> {
    plan: &'a Plan,
    workers: &'a Workers,
    shares: Vec<Option<Share>>,
    /// Vectors that are used again, in the order in which they came: fresh memory costs as much as a pass over it. The
    /// largest are kept; the next use, or the end of the walk, erases what they hold.
    spare: Vec<Share>,
}

/// Vectors kept for use again.
const SPARE: usize = 4;

impl<'a> Shares<'a> {
    /// No shares yet; `spare` is what [`Self::into_spare`] left of an earlier walk.
    pub(crate) fn new(plan: &'a Plan, workers: &'a Workers, spare: Vec<Vec<u32>>) -> Self {
        Self {
            plan,
            workers,
            shares: plan.program().values().iter().map(|_| None).collect(),
            spare: spare.into_iter().map(Share::from).collect(),
        }
    }

    /// The vectors that the first walk of a session uses, each for the largest value, and touched: on a fresh page the
    /// first write takes longer than a pass.
    pub(crate) fn first_spare(plan: &Plan) -> Vec<Vec<u32>> {
        let values = plan.program().values();
        let largest = values.iter().map(|value| value.len()).max().unwrap_or(0);
        let touched = |_| {
            // ones first: a compiler knows that the memory of new zeros needs no writes
            let mut vector = vec![1; largest];
            wipe(&mut vector);
            vector
        };
        (0..SPARE).map(touched).collect()
    }

    /// The vectors, erased, for the next walk.
    pub(crate) fn into_spare(self) -> Vec<Vec<u32>> {
        let spare = self.spare.into_iter();
        spare.map(|share| share.erase(self.workers)).collect()
    }

    pub(crate) fn get(&self, id: ValueId) -> Result<&Share, ProtocolError> {
        self.shares
            .get(id)
            .and_then(Option::as_ref)
            .ok_or_else(|| ProtocolError::Argument(format!("value {id}: expected to be alive")))
    }

    pub(crate) fn set(&mut self, id: ValueId, share: impl Into<Share>) {
        self.shares[id] = Some(share.into());
    }

    /// A vector of `len` elements, whatever they are.
    pub(crate) fn fresh(&mut self, len: usize) -> Vec<u32> {
        let fits = |vector: &Share| (vector.capacity() < len, vector.capacity().abs_diff(len));
        // the last one of those that fit as well is in the cache still
        let best = (0..self.spare.len())
            .rev()
            .min_by_key(|&index| fits(&self.spare[index]));
        let mut vector = match best {
            Some(index) if self.spare[index].capacity() >= len => self.spare.remove(index),
            _ => Share::new(len),
        };
        vector.wipe_from(len, self.workers);
        let mut vector = vector.take();
        vector.resize(len, 0);
        if cfg!(debug_assertions) {
            // so that no test finds zeros
            vector.fill(u32::MAX);
        }
        vector
    }

    /// Whether no step after `id` reads a value.
    pub(crate) fn last_read(&self, id: StepId, value: ValueId) -> bool {
        self.plan.dead_after(id).any(|dead| dead == value)
    }

    /// A share that the step `id` may change: the share itself where no later step reads it, otherwise a copy.
    pub(crate) fn consume(
        &mut self,
        id: StepId,
        value: ValueId,
    ) -> Result<Vec<u32>, ProtocolError> {
        if self.last_read(id, value)
            && let Some(share) = self.shares[value].take()
        {
            return Ok(share.take());
        }
        Ok(self.get(value)?.to_vec())
    }

    /// The shares that a step reads.
    fn inputs(&self, step: &Step) -> Result<Vec<&[u32]>, ProtocolError> {
        let ids = step.inputs().iter();
        ids.map(|&id| self.get(id).map(|share| &share[..]))
            .collect()
    }

    /// Performs a local step.
    pub(crate) fn apply_local(&mut self, id: StepId) -> Result<(), ProtocolError> {
        let program = self.plan.program();
        let step = &program.steps()[id];
        if let Step::Concat(s) = step
            && let [first, others @ ..] = s.inputs.as_slice()
            && program.value(*first).ring_bits == program.value(s.out).ring_bits
            && !others.contains(first)
        {
            // what a dense block has so far grows in place
            let mut joined = self.consume(id, *first)?;
            reserve(&mut joined, program.value(s.out).len());
            for &other in others {
                local::join(self.get(other)?, program.value(s.out).mask(), &mut joined);
            }
            self.set(s.out, joined);
            return Ok(());
        }
        if let Step::Add(s) = step {
            let out = program.value(s.out);
            let mut sum = self.fresh(out.len());
            let inputs = self.inputs(step)?;
            local::add(self.workers, &inputs, &s.shift, out.mask(), &mut sum);
            self.set(s.out, sum);
            return Ok(());
        }
        let inputs = self.inputs(step)?;
        if let (Some(out), Some(share)) = (
            step.output(),
            local::apply(self.workers, program, step, &inputs),
        ) {
            self.set(out, share);
        }
        Ok(())
    }

    /// Sets the memory free of what no later step reads.
    pub(crate) fn retire(&mut self, id: StepId) {
        for value in self.plan.dead_after(id) {
            if let Some(share) = self.shares[value].take() {
                self.spare(share);
            }
        }
    }

    /// Sets the memory of a share free.
    pub(crate) fn spare(&mut self, share: Share) {
        self.spare.push(share);
        let smallest = (0..self.spare.len()).min_by_key(|&index| self.spare[index].capacity());
        if let Some(index) = smallest
            && self.spare.len() > SPARE
        {
            self.spare.remove(index).erase(self.workers);
        }
    }
}

/// Room for `len` elements, and for twice as many as there were, so that what grows often is rarely moved. The old
/// place is erased.
fn reserve(share: &mut Vec<u32>, len: usize) {
    if share.capacity() < len {
        let mut roomy = Vec::with_capacity(len.max(2 * share.len()));
        roomy.extend_from_slice(share);
        drop(Secret::from(std::mem::replace(share, roomy)));
    }
}
