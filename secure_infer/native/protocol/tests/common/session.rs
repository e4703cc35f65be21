//! Both parties' sessions of one program, in threads of a test.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use blindread_lattice::Prg;
use blindread_protocol::{
    OtEngine, Parameters, Plan, Program, ProtocolError, SessionOptions, StepParameters, Workers,
    developer, hospital, make_hints,
};

use crate::common::MemoryChannel;

/// A program with its parameters, and the engine that it runs under.
pub struct Case {
    pub engine: OtEngine,
    pub plan: Arc<Plan>,
    pub parameters: Arc<Parameters>,
    pub hints: Arc<Vec<u8>>,
    pub secrets: Arc<Vec<u8>>,
}

/// `n` numbers of at most `span`.
pub fn small(n: usize, span: i32, seed: i32) -> Vec<i32> {
    (0..n as i32)
        .map(|i| {
            (i.wrapping_mul(7919).wrapping_add(seed * 104_729) >> 3).rem_euclid(2 * span + 1) - span
        })
        .collect()
}

pub fn with_parameters(
    engine: OtEngine,
    text: &str,
    parameters: HashMap<String, StepParameters>,
) -> Case {
    let program = Program::from_json(text).unwrap();
    let parameters = Arc::new(Parameters::new(&program, parameters).unwrap());
    let plan = Arc::new(Plan::new(program).unwrap());
    let (hints, secrets) = make_hints(
        &plan,
        &parameters,
        &[7; 32],
        &mut Prg::from_seed(&entropy()),
        1,
    )
    .unwrap();
    Case {
        engine,
        plan,
        parameters,
        hints: Arc::new(hints),
        secrets: Arc::new(secrets),
    }
}

pub fn options(engine: OtEngine) -> SessionOptions {
    SessionOptions {
        id: [9; 32],
        engine,
        workers: Workers::one(),
    }
}

pub fn entropy() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

pub type Outputs = Result<Vec<Vec<i64>>, ProtocolError>;

/// What the hospital learns of each image, and how the developer's sessions ended.
pub fn run(
    case: &Case,
    (mut h, mut d): (MemoryChannel, MemoryChannel),
    images: Vec<Vec<i32>>,
) -> (Vec<Outputs>, Result<(), ProtocolError>) {
    let (plan, parameters, secrets) = (
        case.plan.clone(),
        case.parameters.clone(),
        case.secrets.clone(),
    );
    let count = images.len();
    let engine = case.engine;
    let developer = thread::spawn(move || {
        let mut session = developer::Session::setup(
            &mut d,
            plan,
            parameters,
            secrets,
            options(engine),
            entropy(),
        )?;
        for id in 0..count {
            let ticket = session.prepare(&mut d, id as u64, entropy())?;
            session.infer(&mut d, ticket, 0.0, entropy())?;
        }
        Ok(())
    });
    let setup = hospital::Session::setup(
        &mut h,
        case.plan.clone(),
        case.hints.clone(),
        [7; 32],
        options(case.engine),
        entropy(),
    );
    let outputs = match setup {
        Err(error) => vec![Err(error)],
        Ok(mut session) => {
            let mut outputs = Vec::new();
            for (id, image) in images.iter().enumerate() {
                let result = session
                    .prepare(&mut h, id as u64, entropy())
                    .and_then(|ticket| session.infer(&mut h, ticket, image));
                let failed = result.is_err();
                outputs.push(result);
                if failed {
                    break;
                }
            }
            outputs
        }
    };
    drop(h);
    (outputs, developer.join().unwrap())
}
