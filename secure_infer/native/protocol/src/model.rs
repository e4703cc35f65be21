//! The developer's private parameters, and the hints that are made from them.

use std::collections::HashMap;

use blindread_lattice::hints;
use blindread_ring::ConvKernel;
use rand_core::CryptoRng;

use crate::plan::Plan;
use crate::program::{Program, Step, StepId};

/// Parameters that do not fit the program.
#[derive(Debug, thiserror::Error)]
#[error("parameters: {step}: {problem}")]
pub struct ParameterError {
    step: String,
    problem: String,
}

/// The parameters of one step, as the compiler hands them over.
pub enum StepParameters {
    /// A convolution.
    Linear {
        /// \[out channels, in channels / groups, height, width\].
        weights: Vec<i16>,
        /// \[out channels\] or \[out channels, height, width\], in raw units.
        bias: Vec<i64>,
    },
    /// A ReLU.
    Relu {
        /// Added to the value, per channel.
        threshold: Vec<i32>,
        /// Whether the negative half is kept, per channel.
        flip: Vec<bool>,
    },
    /// A clipped ReLU.
    ReluClipped {
        /// Added to the value, per channel.
        threshold: Vec<i32>,
        /// Where it is clipped, per channel.
        ceiling: Vec<i32>,
    },
}

pub(crate) struct LinearParameters {
    weights: Vec<i16>,
    pub(crate) kernel: ConvKernel,
    /// Per output channel or per output element.
    pub(crate) bias: Vec<u32>,
}

pub(crate) enum Checked {
    None,
    Linear(Box<LinearParameters>),
    Relu {
        threshold: Vec<u32>,
        flip: Vec<u8>,
    },
    ReluClipped {
        threshold: Vec<u32>,
        ceiling: Vec<u32>,
    },
}

/// All private parameters of a program, checked against it.
pub struct Parameters {
    steps: Vec<Checked>,
}

impl Parameters {
    /// Checks the parameters of every step.
    ///
    /// # Errors
    /// [`ParameterError`] names the step whose parameters are missing, left over or of a wrong size.
    pub fn new(
        program: &Program,
        mut steps: HashMap<String, StepParameters>,
    ) -> Result<Self, ParameterError> {
        let mut checked = Vec::with_capacity(program.steps().len());
        for step in program.steps() {
            let given = steps.remove(step.name());
            checked.push(
                check(program, step, given).map_err(|problem| ParameterError {
                    step: step.name().to_string(),
                    problem,
                })?,
            );
        }
        if let Some(step) = steps.into_keys().min() {
            return Err(ParameterError {
                step,
                problem: "expected the name of a step of the program".into(),
            });
        }
        Ok(Self { steps: checked })
    }

    pub(crate) fn step(&self, id: StepId) -> &Checked {
        &self.steps[id]
    }
}

fn check(program: &Program, step: &Step, given: Option<StepParameters>) -> Result<Checked, String> {
    match (step, given) {
        (Step::Linear(s), Some(StepParameters::Linear { weights, bias })) => {
            let shape = program.conv_shape(s).map_err(|e| e.to_string())?;
            let out = program.value(s.out);
            if bias.len() != out.shape[0] && bias.len() != out.len() {
                return Err(format!(
                    "expected {} or {} bias values, got {}",
                    out.shape[0],
                    out.len(),
                    bias.len()
                ));
            }
            let kernel = ConvKernel::new(&shape, &weights).map_err(|e| e.to_string())?;
            let bias = bias.into_iter().map(|b| b as u32 & out.mask()).collect();
            Ok(Checked::Linear(Box::new(LinearParameters {
                weights,
                kernel,
                bias,
            })))
        }
        (Step::Relu(s), Some(StepParameters::Relu { threshold, flip })) => {
            let channels = program.value(s.out).shape[0];
            expect_len("threshold", threshold.len(), channels)?;
            expect_len("flip", flip.len(), channels)?;
            Ok(Checked::Relu {
                threshold: words(threshold),
                flip: flip.into_iter().map(u8::from).collect(),
            })
        }
        (Step::ReluClipped(s), Some(StepParameters::ReluClipped { threshold, ceiling })) => {
            let channels = program.value(s.out).shape[0];
            expect_len("threshold", threshold.len(), channels)?;
            expect_len("ceiling", ceiling.len(), channels)?;
            if ceiling.iter().any(|&c| c <= 0) {
                return Err("expected ceilings above zero".into());
            }
            Ok(Checked::ReluClipped {
                threshold: words(threshold),
                ceiling: words(ceiling),
            })
        }
        (Step::Linear(_) | Step::Relu(_) | Step::ReluClipped(_), _) => Err(format!(
            "expected parameters of a {} step",
            step.kind_name()
        )),
        (_, None) => Ok(Checked::None),
        (_, Some(_)) => Err(format!(
            "expected no parameters for a {} step",
            step.kind_name()
        )),
    }
}

fn words(values: Vec<i32>) -> Vec<u32> {
    values.into_iter().map(|v| v as u32).collect()
}

fn expect_len(what: &str, got: usize, expected: usize) -> Result<(), String> {
    if got == expected {
        Ok(())
    } else {
        Err(format!("expected {expected} values of {what}, got {got}"))
    }
}

/// Makes the public hints and the developer's secrets of a bundle, with fresh randomness.
///
/// # Errors
/// When the plan and the parameters do not belong together.
pub fn make_hints(
    plan: &Plan,
    parameters: &Parameters,
    public_seed: &[u8; 32],
    rng: &mut impl CryptoRng,
    threads: usize,
) -> Result<(Vec<u8>, Vec<u8>), crate::error::ProtocolError> {
    let mut all_hints = Vec::with_capacity(plan.hints_len());
    let mut all_secrets = Vec::with_capacity(plan.secrets_len());
    for (id, step) in parameters.steps.iter().enumerate() {
        let Checked::Linear(linear) = step else {
            continue;
        };
        let part = plan.linear(id)?;
        let (hints, secrets) = hints(
            &part.layout,
            &linear.weights,
            public_seed,
            part.first_index,
            rng,
            threads,
        )
        .map_err(|e| crate::error::ProtocolError::Argument(e.to_string()))?;
        all_hints.extend(hints);
        all_secrets.extend_from_slice(&secrets);
    }
    Ok((all_hints, all_secrets))
}
