//! The public program: what both parties know of the network, and the only thing that they walk.
//!
//! Shapes, ring sizes, windows and truncation amounts are public; weights, thresholds, signs and
//! scales are the developer's and live in [`crate::model::Parameters`]. The text form is JSON; this
//! file is the one place where it becomes a type, with every invariant checked.

use blindread_ring::{ConvShape, ConvSpec};
use serde::Deserialize;

use crate::truncate::Truncation;

mod check;

/// Position of a step in the program.
pub type StepId = usize;
/// Position of a value in the program.
pub type ValueId = usize;

/// Name of the format in the `format` field.
pub const FORMAT: &str = "blindread.program";
/// Version of the format in the `version` field.
pub const VERSION: u32 = 1;
/// Elements that one value may have.
pub const MAX_ELEMENTS: usize = 1 << 26;
/// Steps that one program may have.
pub const MAX_STEPS: usize = 4096;
/// Bytes that the text of a program may have.
pub const MAX_TEXT: usize = 1 << 24;

/// A program that cannot be accepted.
#[derive(Debug, thiserror::Error)]
#[error("program: {place}: {problem}")]
pub struct ProgramError {
    place: String,
    problem: String,
}

impl ProgramError {
    fn new(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self {
            place: place.into(),
            problem: problem.into(),
        }
    }
}

/// A tensor of one image: channels, height, width, and the ring Z_(2^ring_bits) of its elements.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Value {
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// Bits of the ring.
    pub ring_bits: u32,
}

impl Value {
    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements; never true in a checked program.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements of one channel.
    #[must_use]
    pub fn plane(&self) -> usize {
        self.shape[1] * self.shape[2]
    }

    /// 2^ring_bits - 1.
    #[must_use]
    pub fn mask(&self) -> u32 {
        ring_mask(self.ring_bits)
    }
}

/// 2^bits - 1 for 1 <= bits <= 32.
#[must_use]
pub fn ring_mask(bits: u32) -> u32 {
    u32::MAX >> (32 - bits)
}

/// One operation on one input.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {
    /// Unique name, for parameters and messages.
    pub name: String,
    /// Value read.
    #[serde(rename = "in")]
    pub input: ValueId,
    /// Value made.
    pub out: ValueId,
}

/// The hospital's input.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Unique name.
    pub name: String,
    /// Value made.
    pub out: ValueId,
}

/// A convolution (dense layers are convolutions) with private weights and bias.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Unique name.
    pub name: String,
    /// Value read.
    #[serde(rename = "in")]
    pub input: ValueId,
    /// Value made.
    pub out: ValueId,
    /// Height, width.
    pub kernel: [usize; 2],
    /// Down, right.
    pub stride: [usize; 2],
    /// Down, right.
    pub dilation: [usize; 2],
    /// Top, bottom, left, right.
    pub padding: [usize; 4],
    /// Groups of channels.
    pub groups: usize,
}

/// Division by 2^shift with an error below one unit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truncate {
    /// Unique name.
    pub name: String,
    /// Value read.
    #[serde(rename = "in")]
    pub input: ValueId,
    /// Value made.
    pub out: ValueId,
    /// Bits dropped.
    pub shift: u32,
}

/// A ReLU with a private threshold and sign per channel, or one that is clipped from above.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relu {
    /// Unique name.
    pub name: String,
    /// Value read.
    #[serde(rename = "in")]
    pub input: ValueId,
    /// Value made.
    pub out: ValueId,
    /// Bits [m, k) in which the sign is looked for.
    pub window: [u32; 2],
}

impl Relu {
    /// Bits of the ring in which the sign is multiplied: the smaller one of input and output.
    #[must_use]
    pub fn product_bits(&self, program: &Program) -> u32 {
        let bits = |id| program.value(id).ring_bits;
        bits(self.input).min(bits(self.out))
    }

    /// From there to a larger ring of the output.
    #[must_use]
    pub fn extension(&self, program: &Program) -> Option<Truncation> {
        let extension = Truncation {
            from_bits: self.product_bits(program),
            to_bits: program.value(self.out).ring_bits,
            shift: 0,
        };
        (extension.from_bits < extension.to_bits).then_some(extension)
    }
}

/// Maximum or sum over windows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaxPool {
    /// Unique name.
    pub name: String,
    /// Value read.
    #[serde(rename = "in")]
    pub input: ValueId,
    /// Value made.
    pub out: ValueId,
    /// Height, width.
    pub pool: [usize; 2],
    /// Down, right.
    pub stride: [usize; 2],
    /// Top, bottom, left, right; padding never wins.
    pub padding: [usize; 4],
    /// Bits [m, k) in which the sign of a difference is looked for.
    pub window: [u32; 2],
}

/// Sum over windows; padding counts as zero.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SumPool {
    /// Unique name.
    pub name: String,
    /// Value read.
    #[serde(rename = "in")]
    pub input: ValueId,
    /// Value made.
    pub out: ValueId,
    /// Height, width.
    pub pool: [usize; 2],
    /// Down, right.
    pub stride: [usize; 2],
    /// Top, bottom, left, right.
    pub padding: [usize; 4],
}

/// Sum of values, each shifted up.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Add {
    /// Unique name.
    pub name: String,
    /// Values read.
    #[serde(rename = "in")]
    pub inputs: Vec<ValueId>,
    /// Bits that each is shifted up.
    pub shift: Vec<u32>,
    /// Value made.
    pub out: ValueId,
}

/// Values joined along the channels.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// Unique name.
    pub name: String,
    /// Values read.
    #[serde(rename = "in")]
    pub inputs: Vec<ValueId>,
    /// Value made.
    pub out: ValueId,
}

/// Every stride-th pixel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Subsample {
    /// Unique name.
    pub name: String,
    /// Value read.
    #[serde(rename = "in")]
    pub input: ValueId,
    /// Value made.
    pub out: ValueId,
    /// Down, right.
    pub stride: [usize; 2],
}

/// A value opened to the hospital.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Unique name.
    pub name: String,
    /// Value opened.
    #[serde(rename = "in")]
    pub input: ValueId,
}

/// One step of the walk.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Step {
    /// See [`Input`].
    Input(Input),
    /// See [`Linear`].
    Linear(Linear),
    /// See [`Truncate`].
    Truncate(Truncate),
    /// See [`Relu`].
    Relu(Relu),
    /// ReLU(y) - ReLU(y - ceiling), for ReLU6; see [`Relu`].
    ReluClipped(Relu),
    /// See [`MaxPool`].
    MaxPool(MaxPool),
    /// See [`SumPool`].
    SumPool(SumPool),
    /// See [`Add`].
    Add(Add),
    /// See [`Concat`].
    Concat(Concat),
    /// See [`Subsample`].
    Subsample(Subsample),
    /// See [`Output`].
    Output(Output),
}

impl Step {
    /// The unique name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Input(s) => &s.name,
            Self::Linear(s) => &s.name,
            Self::Truncate(s) => &s.name,
            Self::Relu(s) | Self::ReluClipped(s) => &s.name,
            Self::MaxPool(s) => &s.name,
            Self::SumPool(s) => &s.name,
            Self::Add(s) => &s.name,
            Self::Concat(s) => &s.name,
            Self::Subsample(s) => &s.name,
            Self::Output(s) => &s.name,
        }
    }

    /// The operation's name as in the text form.
    #[must_use]
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::Input(_) => "input",
            Self::Linear(_) => "linear",
            Self::Truncate(_) => "truncate",
            Self::Relu(_) => "relu",
            Self::ReluClipped(_) => "relu_clipped",
            Self::MaxPool(_) => "max_pool",
            Self::SumPool(_) => "sum_pool",
            Self::Add(_) => "add",
            Self::Concat(_) => "concat",
            Self::Subsample(_) => "subsample",
            Self::Output(_) => "output",
        }
    }

    /// The values read.
    #[must_use]
    pub fn inputs(&self) -> &[ValueId] {
        use std::slice::from_ref;
        match self {
            Self::Input(_) => &[],
            Self::Linear(s) => from_ref(&s.input),
            Self::Truncate(s) => from_ref(&s.input),
            Self::Relu(s) | Self::ReluClipped(s) => from_ref(&s.input),
            Self::MaxPool(s) => from_ref(&s.input),
            Self::SumPool(s) => from_ref(&s.input),
            Self::Add(s) => &s.inputs,
            Self::Concat(s) => &s.inputs,
            Self::Subsample(s) => from_ref(&s.input),
            Self::Output(s) => from_ref(&s.input),
        }
    }

    /// The value made, if any.
    #[must_use]
    pub fn output(&self) -> Option<ValueId> {
        match self {
            Self::Input(s) => Some(s.out),
            Self::Linear(s) => Some(s.out),
            Self::Truncate(s) => Some(s.out),
            Self::Relu(s) | Self::ReluClipped(s) => Some(s.out),
            Self::MaxPool(s) => Some(s.out),
            Self::SumPool(s) => Some(s.out),
            Self::Add(s) => Some(s.out),
            Self::Concat(s) => Some(s.out),
            Self::Subsample(s) => Some(s.out),
            Self::Output(_) => None,
        }
    }
}

/// What an `output` step opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutputInfo {
    /// Name of the step.
    pub name: String,
    /// Channels, height, width.
    pub shape: [usize; 3],
    /// Bits of the ring.
    pub ring_bits: u32,
}

/// A checked program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    values: Vec<Value>,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    format: String,
    version: u32,
    values: Vec<Value>,
    steps: Vec<Step>,
}

impl Program {
    /// Reads and checks the text form.
    ///
    /// # Errors
    /// [`ProgramError`] that names the step and what was expected of it.
    pub fn from_json(text: &str) -> Result<Self, ProgramError> {
        if text.len() > MAX_TEXT {
            return Err(ProgramError::new(
                "text",
                format!("expected at most {MAX_TEXT} bytes, got {}", text.len()),
            ));
        }
        let text: Text =
            serde_json::from_str(text).map_err(|e| ProgramError::new("text", e.to_string()))?;
        if text.format != FORMAT || text.version != VERSION {
            return Err(ProgramError::new(
                "format",
                format!(
                    "expected {FORMAT} version {VERSION}, got {} version {}",
                    text.format, text.version
                ),
            ));
        }
        let program = Self {
            values: text.values,
            steps: text.steps,
        };
        program.check()?;
        Ok(program)
    }

    /// The steps in the order of the walk.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// One value.
    ///
    /// # Panics
    /// Never for ids taken from the program's own steps, which are checked.
    #[must_use]
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id]
    }

    /// All values.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// Channels, height, width of the hospital's input.
    #[must_use]
    pub fn input_shape(&self) -> [usize; 3] {
        match self.steps.first() {
            Some(Step::Input(s)) => self.values[s.out].shape,
            _ => [0; 3],
        }
    }

    /// What the hospital learns, in order.
    #[must_use]
    pub fn outputs(&self) -> Vec<OutputInfo> {
        self.steps
            .iter()
            .filter_map(|step| match step {
                Step::Output(s) => {
                    let value = &self.values[s.input];
                    Some(OutputInfo {
                        name: s.name.clone(),
                        shape: value.shape,
                        ring_bits: value.ring_bits,
                    })
                }
                _ => None,
            })
            .collect()
    }

    /// The shape of a linear step for the convolution kernels.
    ///
    /// # Errors
    /// [`ProgramError`] when the shape is impossible.
    pub fn conv_shape(&self, step: &Linear) -> Result<ConvShape, ProgramError> {
        let [in_channels, in_height, in_width] = self.values[step.input].shape;
        let spec = ConvSpec {
            in_channels,
            in_height,
            in_width,
            out_channels: self.values[step.out].shape[0],
            kernel: step.kernel,
            stride: step.stride,
            dilation: step.dilation,
            padding: step.padding,
            groups: step.groups,
        };
        ConvShape::new(spec).map_err(|e| ProgramError::new(&step.name, e.to_string()))
    }

    /// Comparisons of a step: what a ReLU, a clipped ReLU or a max-pool costs.
    #[must_use]
    pub fn comparisons(&self, step: &Step) -> u64 {
        match step {
            Step::Relu(s) => self.value(s.out).len() as u64,
            Step::ReluClipped(s) => 2 * self.value(s.out).len() as u64,
            Step::MaxPool(s) => crate::max_pool::stages(self.value(s.input).shape, s)
                .iter()
                .flat_map(|stage| stage.rounds().map(|round| stage.comparisons(round) as u64))
                .sum(),
            _ => 0,
        }
    }

    /// Comparisons of the whole program.
    #[must_use]
    pub fn relu_count(&self) -> u64 {
        self.steps.iter().map(|step| self.comparisons(step)).sum()
    }
}
