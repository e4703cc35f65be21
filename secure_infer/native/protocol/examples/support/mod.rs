//! What the examples share: a program's file and random parameters for it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use blindread_lattice::Prg;
use blindread_protocol::program::Step;
use blindread_protocol::{OtEngine, Parameters, Plan, Program, StepParameters, make_hints};

/// A model with random parameters, and the engine that was asked for.
pub struct Model {
    pub plan: Arc<Plan>,
    pub parameters: Arc<Parameters>,
    pub hints: Arc<Vec<u8>>,
    pub secrets: Arc<Vec<u8>>,
    pub engine: OtEngine,
}

/// Reads the command line: a program's file and the name of an OT engine.
pub fn model() -> Model {
    let path = std::env::args().nth(1).expect("a program file");
    let name = std::env::args().nth(2).unwrap_or("softspoken".into());
    let engine = OtEngine::from_name(&name).expect("softspoken or ferret");
    let program =
        Program::from_json(&std::fs::read_to_string(path).expect("readable")).expect("a program");
    let parameters = Parameters::new(&program, parameters(&program)).expect("parameters");
    let plan = Plan::new(program).expect("plan");
    let start = Instant::now();
    let mut prg = Prg::from_seed(&[2; 32]);
    let (hints, secrets) = make_hints(&plan, &parameters, &[7; 32], &mut prg, 2).expect("hints");
    println!(
        "hints: {:.2} s on two threads, {:.1} MB",
        start.elapsed().as_secs_f64(),
        hints.len() as f64 / 1e6
    );
    Model {
        plan: Arc::new(plan),
        parameters: Arc::new(parameters),
        hints: Arc::new(hints),
        secrets: Arc::new(secrets),
        engine,
    }
}

fn parameters(program: &Program) -> HashMap<String, StepParameters> {
    let mut prg = Prg::from_seed(&[1; 32]);
    let mut steps = HashMap::new();
    for step in program.steps() {
        let parameters = match step {
            Step::Linear(s) => {
                let shape = program.conv_shape(s).expect("shape");
                let mut bytes = vec![0; 2 * shape.weights_len()];
                prg.fill(&mut bytes);
                let weights = bytes
                    .chunks_exact(2)
                    .map(|b| i16::from_le_bytes([b[0], b[1]]) >> 4)
                    .collect();
                StepParameters::Linear {
                    weights,
                    bias: vec![0; program.value(s.out).shape[0]],
                }
            }
            Step::Relu(s) => {
                let channels = program.value(s.out).shape[0];
                StepParameters::Relu {
                    threshold: vec![5; channels],
                    flip: vec![false; channels],
                }
            }
            Step::ReluClipped(s) => {
                let channels = program.value(s.out).shape[0];
                StepParameters::ReluClipped {
                    threshold: vec![5; channels],
                    ceiling: vec![700; channels],
                }
            }
            _ => continue,
        };
        steps.insert(step.name().to_string(), parameters);
    }
    steps
}
