//! One party's shares of the values that are alive during a walk.

use zeroize::Zeroizing;

use crate::error::ProtocolError;
use crate::local;
use crate::plan::Plan;
use crate::program::{Step, StepId, ValueId};

/// One party's share of one value, erased on drop.
pub(crate) type Share = Zeroizing<Vec<u32>>;

pub(crate) struct Shares(Vec<Option<Share>>);

impl Shares {
    pub(crate) fn new(plan: &Plan) -> Self {
        Self(plan.program().values().iter().map(|_| None).collect())
    }

    pub(crate) fn get(&self, id: ValueId) -> Result<&Share, ProtocolError> {
        self.0
            .get(id)
            .and_then(Option::as_ref)
            .ok_or_else(|| ProtocolError::Argument(format!("value {id}: expected to be alive")))
    }

    pub(crate) fn set(&mut self, id: ValueId, share: Vec<u32>) {
        self.0[id] = Some(Zeroizing::new(share));
    }

    /// Performs a local step.
    pub(crate) fn apply_local(&mut self, plan: &Plan, step: &Step) -> Result<(), ProtocolError> {
        let inputs: Vec<&[u32]> = step
            .inputs()
            .iter()
            .map(|&id| self.get(id).map(|share| share.as_slice()))
            .collect::<Result<_, _>>()?;
        if let (Some(out), Some(share)) =
            (step.output(), local::apply(plan.program(), step, &inputs))
        {
            self.set(out, share);
        }
        Ok(())
    }

    /// Erases what no later step reads.
    pub(crate) fn retire(&mut self, plan: &Plan, id: StepId) {
        for value in plan.dead_after(id) {
            self.0[value] = None;
        }
    }
}
