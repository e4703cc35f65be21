//! Whatever the number of threads: the same messages to the byte, and the same outputs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

#[allow(dead_code, reason = "the other tests use the rest")]
mod common;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;

use blindread_lattice::Prg;
use blindread_protocol::channel::Kind;
use blindread_protocol::{
    OtEngine, Parameters, Plan, Program, SessionOptions, StepParameters, Workers, developer,
    hospital, make_hints,
};
use common::pair;

/// Vectors of several lanes, with and without padding and re-masking, a truncation of either kind.
const PROGRAM: &str = r#"{"format":"blindread.program","version":1,
 "values":[
  {"shape":[3,60,62],"ring_bits":27},{"shape":[24,60,62],"ring_bits":27},{"shape":[24,30,31],"ring_bits":27},
  {"shape":[24,30,31],"ring_bits":27},{"shape":[24,30,31],"ring_bits":27},{"shape":[5,30,31],"ring_bits":27},
  {"shape":[5,30,31],"ring_bits":27},{"shape":[5,30,31],"ring_bits":27},{"shape":[5,30,31],"ring_bits":21}],
 "steps":[
  {"op":"input","name":"image","out":0},
  {"op":"linear","name":"stem","in":0,"out":1,"kernel":[3,3],"stride":[1,1],"dilation":[1,1],"padding":[1,1,1,1],"groups":1},
  {"op":"max_pool","name":"pool","in":1,"out":2,"pool":[2,2],"stride":[2,2],"padding":[0,0,0,0],"window":[0,15]},
  {"op":"truncate","name":"pool:t","in":2,"out":3,"shift":6},
  {"op":"relu","name":"relu","in":3,"out":4,"window":[0,9]},
  {"op":"linear","name":"one","in":4,"out":5,"kernel":[1,1],"stride":[1,1],"dilation":[1,1],"padding":[0,0,0,0],"groups":1},
  {"op":"relu_clipped","name":"relu6","in":5,"out":6,"window":[0,15]},
  {"op":"linear","name":"two","in":6,"out":7,"kernel":[3,3],"stride":[1,1],"dilation":[1,1],"padding":[1,1,1,1],"groups":5},
  {"op":"truncate","name":"two:t","in":7,"out":8,"shift":6},
  {"op":"output","name":"map","in":8}]}"#;

struct Case {
    plan: Arc<Plan>,
    parameters: Arc<Parameters>,
    hints: Arc<Vec<u8>>,
    secrets: Arc<Vec<u8>>,
}

fn weights(n: usize, outputs: usize) -> StepParameters {
    StepParameters::Linear {
        weights: (0..n).map(|i| (i * 37 % 29) as i16 - 14).collect(),
        bias: (0..outputs as i64).map(|i| 20 * i - 9).collect(),
    }
}

fn case() -> Case {
    let program = Program::from_json(PROGRAM).unwrap();
    let steps = HashMap::from([
        ("stem".into(), weights(24 * 27, 24)),
        ("one".into(), weights(5 * 24, 5)),
        ("two".into(), weights(5 * 9, 5)),
        (
            "relu".into(),
            StepParameters::Relu {
                threshold: (0..24).map(|i| 5 * i - 20).collect(),
                flip: (0..24).map(|i| i % 5 == 1).collect(),
            },
        ),
        (
            "relu6".into(),
            StepParameters::ReluClipped {
                threshold: vec![7, -3, 0, 11, 2],
                ceiling: vec![300, 20, 4000, 1, 77],
            },
        ),
    ]);
    let parameters = Parameters::new(&program, steps).unwrap();
    let plan = Plan::new(program).unwrap();
    let mut prg = Prg::from_seed(&[2; 32]);
    let (hints, secrets) = make_hints(&plan, &parameters, &[7; 32], &mut prg, 2).unwrap();
    Case {
        plan: Arc::new(plan),
        parameters: Arc::new(parameters),
        hints: Arc::new(hints),
        secrets: Arc::new(secrets),
    }
}

#[derive(PartialEq)]
struct Transcript {
    by_hospital: Vec<(Kind, Vec<u8>)>,
    by_developer: Vec<(Kind, Vec<u8>)>,
    outputs: Vec<Vec<i64>>,
}

/// A session with fixed randomness; threads of the hospital and of the developer.
fn run(case: &Case, engine: OtEngine, threads: [usize; 2]) -> Transcript {
    let [ours, theirs] = threads.map(|count| SessionOptions {
        id: [9; 32],
        engine,
        workers: Workers::new(count).unwrap(),
    });
    let (mut h, mut d) = pair();
    let (plan, parameters, secrets) = (
        case.plan.clone(),
        case.parameters.clone(),
        case.secrets.clone(),
    );
    let developer = thread::spawn(move || {
        let mut session =
            developer::Session::setup(&mut d, plan, parameters, secrets, theirs, [4; 32]).unwrap();
        let ticket = session.prepare(&mut d, 0, [5; 32]).unwrap();
        session.infer(&mut d, ticket, 3.0, [6; 32]).unwrap();
        d
    });
    let (plan, hints) = (case.plan.clone(), case.hints.clone());
    let mut session =
        hospital::Session::setup(&mut h, plan, hints, [7; 32], ours, [3; 32]).unwrap();
    let ticket = session.prepare(&mut h, 0, [8; 32]).unwrap();
    let image: Vec<i32> = (0..3 * 60 * 62).map(|i| i * 31 % 255 - 127).collect();
    let outputs = session.infer(&mut h, ticket, &image).unwrap();
    Transcript {
        by_hospital: h.sent,
        by_developer: developer.join().unwrap().sent,
        outputs,
    }
}

#[test]
fn session_is_the_same_to_the_byte_for_any_number_of_threads() {
    let case = case();
    for engine in OtEngine::ALL {
        let expected = run(&case, engine, [1, 1]);
        assert!(expected.outputs[0].iter().any(|&y| y != 0));
        for threads in [[2, 1], [1, 2], [3, 2]] {
            // not assert_eq: a failure would print megabytes
            assert!(
                run(&case, engine, threads) == expected,
                "{engine:?}, {threads:?} threads"
            );
        }
    }
}

#[test]
fn a_party_that_panics_among_its_threads_does_not_leave_the_other_waiting() {
    let workers = Workers::new(2).unwrap();
    let (mut h, d) = pair();
    let developer = thread::spawn(move || {
        let _connection = d;
        catch_unwind(AssertUnwindSafe(|| {
            workers.each(0..100, |i| assert_ne!(i, 50));
        }))
        .is_err()
    });
    let case = case();
    let options = SessionOptions {
        id: [9; 32],
        engine: OtEngine::SoftSpoken,
        workers: Workers::one(),
    };
    let setup = hospital::Session::setup(&mut h, case.plan, case.hints, [7; 32], options, [3; 32]);
    assert!(matches!(
        setup.err().map(|error| error.code()),
        Some("peer_closed")
    ));
    assert!(developer.join().unwrap());
}
