//! Whatever the number of threads: the same messages to the byte on every connection. Whatever the number of
//! connections: the same outputs. And a failure in one of them ends the session.
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
    OtEngine, Parameters, Plan, Program, ProtocolError, SessionOptions, StepParameters, Workers,
    developer, hospital, make_hints,
};
use common::{MemoryChannel, Several, Tamper, pair, several};

/// Vectors of several lanes, and of fewer than there are connections, with and without padding and re-masking,
/// a truncation of either kind.
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

type Ends = Several<MemoryChannel>;
type Messages = Vec<(Kind, Vec<u8>)>;
type Outputs = Vec<Vec<i64>>;
type Ended<T> = Result<T, ProtocolError>;

#[derive(PartialEq)]
struct Transcript {
    /// Per connection.
    by_hospital: Vec<Messages>,
    by_developer: Vec<Messages>,
    outputs: Outputs,
}

/// A session with fixed randomness, of which a party closes its connections as soon as it fails; threads of
/// the hospital and of the developer. What each of them sent, if it got to its end.
fn session(
    case: &Case,
    engine: OtEngine,
    (mut h, mut d): (Ends, Ends),
    threads: [usize; 2],
) -> (Ended<(Ends, Outputs)>, Ended<Ends>) {
    let [ours, theirs] = threads.map(|count| SessionOptions {
        id: [9; 32],
        engine,
        workers: Workers::new(count).unwrap(),
    });
    let (plan, parameters, secrets) = (
        case.plan.clone(),
        case.parameters.clone(),
        case.secrets.clone(),
    );
    let developer = thread::spawn(move || {
        let mut session =
            developer::Session::setup(&mut d, plan, parameters, secrets, theirs, [4; 32])?;
        let ticket = session.prepare(&mut d, 0, [5; 32])?;
        session.infer(&mut d, ticket, 3.0, [6; 32])?;
        Ok(d)
    });
    let (plan, hints) = (case.plan.clone(), case.hints.clone());
    let hospital = move || {
        let mut session = hospital::Session::setup(&mut h, plan, hints, [7; 32], ours, [3; 32])?;
        let ticket = session.prepare(&mut h, 0, [8; 32])?;
        let image: Vec<i32> = (0..3 * 60 * 62).map(|i| i * 31 % 255 - 127).collect();
        let outputs = session.infer(&mut h, ticket, &image)?;
        Ok((h, outputs))
    };
    (hospital(), developer.join().unwrap())
}

fn run(case: &Case, engine: OtEngine, connections: usize, threads: [usize; 2]) -> Transcript {
    let (hospital, developer) = session(case, engine, several(connections), threads);
    let sent = |ends: Ends| ends.0.into_iter().map(|end| end.sent).collect();
    let (h, outputs) = hospital.unwrap();
    Transcript {
        by_hospital: sent(h),
        by_developer: sent(developer.unwrap()),
        outputs,
    }
}

/// Sessions of so many connections, with threads of the hospital and of the developer: at least one of them
/// has a thread for every connection.
const SESSIONS: [(usize, &[[usize; 2]]); 4] = [
    (1, &[[1, 1], [2, 1], [1, 2], [3, 2]]),
    (2, &[[2, 2], [2, 1], [1, 2], [3, 2]]),
    (3, &[[3, 3], [3, 2], [2, 3], [3, 1]]),
    (8, &[[8, 8], [8, 1], [1, 8], [8, 3]]),
];

#[test]
fn session_is_the_same_to_the_byte_for_any_number_of_threads() {
    let case = case();
    for engine in OtEngine::ALL {
        let mut outputs = None;
        for (connections, threads) in SESSIONS {
            let expected = run(&case, engine, connections, threads[0]);
            assert!(expected.outputs[0].iter().any(|&y| y != 0));
            let by_all = expected.by_hospital.iter().chain(&expected.by_developer);
            assert!(by_all.map(Vec::len).all(|sent| sent > 0));
            // not assert_eq: a failure would print megabytes
            assert!(
                *outputs.get_or_insert(expected.outputs.clone()) == expected.outputs,
                "{engine:?}, {connections} connections"
            );
            for &threads in &threads[1..] {
                assert!(
                    run(&case, engine, connections, threads) == expected,
                    "{engine:?}, {connections} connections, {threads:?} threads"
                );
            }
        }
    }
}

/// A session of two connections, in one of which a party changes a message. What both ended with.
fn cheat(
    case: &Case,
    threads: [usize; 2],
    (by_hospital, connection): (bool, usize),
    how: Tamper,
) -> [&'static str; 2] {
    let (mut h, mut d) = several(2);
    let (cheat, kind) = if by_hospital {
        (&mut h, Kind::ChunkTables)
    } else {
        (&mut d, Kind::MuxRequest)
    };
    cheat.0[connection].tamper = Some((kind, how));
    let (hospital, developer) = session(case, OtEngine::SoftSpoken, (h, d), threads);
    [hospital.err(), developer.err()].map(|error| error.map_or("none", |error| error.code()))
}

#[test]
fn a_failure_in_one_connection_ends_both_sessions_with_its_error() {
    let case = case();
    for threads in [[2, 2], [1, 2], [2, 1]] {
        for connection in [0, 1] {
            for (how, code) in [
                (Tamper::Shorten, "unexpected_length"),
                (Tamper::Rename, "unexpected_message"),
            ] {
                let by = |hospital| cheat(&case, threads, (hospital, connection), how);
                assert_eq!(
                    [by(true), by(false)],
                    [["peer_closed", code], [code, "peer_closed"]],
                    "{how:?} on connection {connection}, {threads:?} threads"
                );
            }
        }
    }
}

#[test]
fn a_panic_in_one_connection_leaves_nobody_waiting() {
    let case = case();
    for threads in [[2, 2], [1, 2], [2, 1]] {
        for connection in [0, 1] {
            let (h, mut d) = several(2);
            d.0[connection].panics = Some(Kind::ChunkTables);
            let run = || session(&case, OtEngine::SoftSpoken, (h, d), threads);
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
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
