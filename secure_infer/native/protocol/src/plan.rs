//! What follows from the program alone: polynomial layouts, offsets of hints, who sets which mask.

use std::ops::Range;

use blindread_lattice::{Layout, hint_len, secret_len};
use blindread_ring::ConvShape;

use crate::error::ProtocolError;
use crate::program::{Program, Step, StepId, ValueId};

/// The public side of one linear step.
pub struct LinearPlan {
    /// Shape of the convolution.
    pub shape: ConvShape,
    /// Where pixels sit in polynomials.
    pub layout: Layout,
    /// Index of the first input polynomial, unique over the whole bundle.
    pub first_index: u64,
    /// This step's part of the hints.
    pub hints: Range<usize>,
    /// This step's part of the developer's secrets.
    pub secrets: Range<usize>,
    /// Whether the step that makes the input gives it this step's lattice mask. Otherwise H sends the
    /// difference between the share it has and the mask (re-masking).
    pub masked_by_producer: bool,
}

/// Everything public that both parties derive from the program in the same way.
pub struct Plan {
    program: Program,
    linear: Vec<Option<LinearPlan>>,
    target: Vec<Option<StepId>>,
    last_use: Vec<StepId>,
    hints_len: usize,
    secrets_len: usize,
}

impl Plan {
    /// Lays out a program.
    ///
    /// # Errors
    /// When a linear step has an impossible shape.
    pub fn new(program: Program) -> Result<Self, ProtocolError> {
        let mut last_use = vec![0; program.values().len()];
        let mut can_choose = vec![false; program.values().len()];
        let mut target = vec![None; program.values().len()];
        let mut linear = Vec::with_capacity(program.steps().len());
        let (mut index, mut hints, mut secrets) = (0u64, 0, 0);
        for (id, step) in program.steps().iter().enumerate() {
            for &input in step.inputs() {
                last_use[input] = id;
            }
            if let (Step::Input(_) | Step::Relu(_) | Step::ReluClipped(_), Some(out)) =
                (step, step.output())
            {
                can_choose[out] = true;
            }
            let Step::Linear(conv) = step else {
                linear.push(None);
                continue;
            };
            let shape = program.conv_shape(conv)?;
            let layout = Layout::new(&shape);
            let masked_by_producer = can_choose[conv.input] && target[conv.input].is_none();
            if masked_by_producer {
                target[conv.input] = Some(id);
            }
            let (hint_bytes, secret_bytes) = (hint_len(&layout), secret_len(&layout));
            linear.push(Some(LinearPlan {
                shape,
                first_index: index,
                hints: hints..hints + hint_bytes,
                secrets: secrets..secrets + secret_bytes,
                masked_by_producer,
                layout,
            }));
            index += linear
                .last()
                .and_then(Option::as_ref)
                .map_or(0, |plan| plan.layout.in_polys() as u64);
            hints += hint_bytes;
            secrets += secret_bytes;
        }
        Ok(Self {
            program,
            linear,
            target,
            last_use,
            hints_len: hints,
            secrets_len: secrets,
        })
    }

    /// The program.
    #[must_use]
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The plan of a linear step.
    ///
    /// # Errors
    /// Never for the id of a linear step.
    pub(crate) fn linear(&self, id: StepId) -> Result<&LinearPlan, ProtocolError> {
        self.linear
            .get(id)
            .and_then(Option::as_ref)
            .ok_or_else(|| ProtocolError::Argument(format!("step {id}: expected a linear step")))
    }

    /// The linear step whose lattice mask a value carries from its making.
    pub(crate) fn target(&self, value: ValueId) -> Option<StepId> {
        self.target[value]
    }

    /// Values that no step after `id` reads.
    pub(crate) fn dead_after(&self, id: StepId) -> impl Iterator<Item = ValueId> + '_ {
        self.program.steps()[id]
            .inputs()
            .iter()
            .copied()
            .filter(move |&value| self.last_use[value] == id)
    }

    /// Bytes of all hints.
    #[must_use]
    pub fn hints_len(&self) -> usize {
        self.hints_len
    }

    /// Bytes of the developer's secrets.
    #[must_use]
    pub fn secrets_len(&self) -> usize {
        self.secrets_len
    }
}
