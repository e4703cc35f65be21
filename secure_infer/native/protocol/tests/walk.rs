//! The whole walk of both parties, with real cryptography, against a plain evaluation.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

#[allow(dead_code, reason = "the profile uses the rest")]
mod common;
#[path = "common/convolution.rs"]
mod convolution;
#[path = "common/session.rs"]
mod session;

use std::collections::HashMap;
use std::thread;

use blindread_protocol::channel::{ChannelError, Kind};
use blindread_protocol::{OtEngine, ProtocolError, StepParameters, developer, hospital};
use common::{MemoryChannel, Tamper, pair};
use convolution::conv;
use session::{Case, Outputs, entropy, options, run, small, with_parameters};

/// Every operation once: stem, pooling, thresholds, residual, clipped ReLU, concatenation, head.
const PROGRAM: &str = r#"{"format":"blindread.program","version":1,
 "values":[
  {"shape":[2,12,10],"ring_bits":27},{"shape":[6,6,5],"ring_bits":27},{"shape":[6,6,5],"ring_bits":27},
  {"shape":[6,3,3],"ring_bits":27},{"shape":[6,3,3],"ring_bits":27},{"shape":[6,3,3],"ring_bits":27},
  {"shape":[6,3,3],"ring_bits":27},{"shape":[6,3,3],"ring_bits":27},{"shape":[6,3,3],"ring_bits":27},
  {"shape":[12,3,3],"ring_bits":27},{"shape":[12,2,2],"ring_bits":27},{"shape":[12,1,1],"ring_bits":27},
  {"shape":[12,1,1],"ring_bits":30},{"shape":[3,1,1],"ring_bits":30}],
 "steps":[
  {"op":"input","name":"image","out":0},
  {"op":"linear","name":"stem","in":0,"out":1,"kernel":[3,3],"stride":[2,2],"dilation":[1,1],"padding":[1,1,1,1],"groups":1},
  {"op":"truncate","name":"stem:t","in":1,"out":2,"shift":6},
  {"op":"max_pool","name":"pool","in":2,"out":3,"pool":[3,3],"stride":[2,2],"padding":[1,1,1,1],"window":[0,15]},
  {"op":"relu","name":"relu","in":3,"out":4,"window":[0,14]},
  {"op":"linear","name":"block","in":4,"out":5,"kernel":[3,3],"stride":[1,1],"dilation":[1,1],"padding":[1,1,1,1],"groups":2},
  {"op":"add","name":"residual","in":[5,4],"shift":[0,6],"out":6},
  {"op":"truncate","name":"residual:t","in":6,"out":7,"shift":6},
  {"op":"relu_clipped","name":"relu6","in":7,"out":8,"window":[0,15]},
  {"op":"concat","name":"concat","in":[4,8],"out":9},
  {"op":"subsample","name":"sub","in":9,"out":10,"stride":[2,2]},
  {"op":"sum_pool","name":"gap","in":10,"out":11,"pool":[2,2],"stride":[2,2],"padding":[0,0,0,0]},
  {"op":"truncate","name":"gap:t","in":11,"out":12,"shift":1},
  {"op":"linear","name":"head","in":12,"out":13,"kernel":[1,1],"stride":[1,1],"dilation":[1,1],"padding":[0,0,0,0],"groups":1},
  {"op":"output","name":"features","in":9},
  {"op":"output","name":"logits","in":13}]}"#;

fn linear(weights: usize, bias: usize, seed: i32) -> StepParameters {
    StepParameters::Linear {
        weights: small(weights, 60, seed)
            .into_iter()
            .map(|w| w as i16)
            .collect(),
        bias: small(bias, 900, seed + 1)
            .into_iter()
            .map(i64::from)
            .collect(),
    }
}

/// The same network under each OT engine, with comparisons in the large ring and in small ones that ReLUs leave.
fn cases() -> impl Iterator<Item = Case> {
    let small = [7, 3, 2].iter().fold(PROGRAM.to_string(), |text, &value| {
        let (at, _) = text.match_indices("\"ring_bits\":27").nth(value).unwrap();
        [&text[..at], "\"ring_bits\":16", &text[at + 14..]].concat()
    });
    [PROGRAM.to_string(), small]
        .into_iter()
        .flat_map(|text| OtEngine::ALL.map(|engine| case(engine, &text)))
}

fn case(engine: OtEngine, text: &str) -> Case {
    let parameters = HashMap::from([
        ("stem".to_string(), linear(6 * 2 * 9, 6 * 6 * 5, 1)),
        ("block".to_string(), linear(6 * 3 * 9, 6, 2)),
        ("head".to_string(), linear(3 * 12, 3, 3)),
        (
            "relu".to_string(),
            StepParameters::Relu {
                threshold: small(6, 50, 4),
                flip: vec![false, true, false, false, true, false],
            },
        ),
        (
            "relu6".to_string(),
            StepParameters::ReluClipped {
                threshold: small(6, 50, 5),
                ceiling: vec![300, 20, 4000, 1, 77, 900],
            },
        ),
    ]);
    with_parameters(engine, text, parameters)
}

/// Plain evaluation in floating-point-free arithmetic; returns (features, logits).
fn plain(image: &[i32]) -> (Vec<i64>, Vec<i64>) {
    let x: Vec<i64> = image.iter().map(|&v| i64::from(v)).collect();
    let stem = conv(&x, [2, 12, 10], &linear(108, 180, 1), 6, 2, 1, 3);
    let t: Vec<i64> = stem.iter().map(|y| (y + 32) >> 6).collect();
    let mut pooled = Vec::new();
    for c in 0..6usize {
        for y in 0..3usize {
            for x in 0..3usize {
                let mut best = i64::MIN;
                for yy in (2 * y).saturating_sub(1)..=(2 * y + 1).min(5) {
                    for xx in (2 * x).saturating_sub(1)..=(2 * x + 1).min(4) {
                        best = best.max(t[(c * 6 + yy) * 5 + xx]);
                    }
                }
                pooled.push(best);
            }
        }
    }
    let flips = [false, true, false, false, true, false];
    let thresholds = small(6, 50, 4);
    let relu: Vec<i64> = pooled
        .iter()
        .enumerate()
        .map(|(i, &v)| {
            let y = v + i64::from(thresholds[i / 9]);
            if (y >= 0) != flips[i / 9] { y } else { 0 }
        })
        .collect();
    let block = conv(&relu, [6, 3, 3], &linear(162, 6, 2), 6, 1, 2, 3);
    let sum: Vec<i64> = block
        .iter()
        .zip(&relu)
        .map(|(b, r)| (b + (r << 6) + 32) >> 6)
        .collect();
    let (thresholds, ceilings) = (small(6, 50, 5), [300, 20, 4000, 1, 77, 900]);
    let clipped: Vec<i64> = sum
        .iter()
        .enumerate()
        .map(|(i, &v)| (v + i64::from(thresholds[i / 9])).clamp(0, ceilings[i / 9]))
        .collect();
    let features = [relu, clipped].concat();
    let gap: Vec<i64> = features
        .chunks(9)
        .map(|m| (m[0] + m[2] + m[6] + m[8] + 1) >> 1)
        .collect();
    let logits = conv(&gap, [12, 1, 1], &linear(36, 3, 3), 3, 1, 1, 1);
    (features, logits)
}

#[test]
fn walk_of_every_operation_agrees_with_plain_evaluation() {
    for case in cases() {
        agrees_with_plain_evaluation(&case);
    }
}

fn agrees_with_plain_evaluation(case: &Case) {
    let images: Vec<Vec<i32>> = (0..3).map(|seed| small(240, 120, 40 + seed)).collect();
    let (outputs, developer) = run(case, pair(), images.clone());
    developer.unwrap();
    for (image, output) in images.iter().zip(outputs) {
        let output = output.unwrap();
        let (features, logits) = plain(image);
        assert!(
            features.iter().any(|&f| f > 20),
            "the case exercises something"
        );
        // Rounding of each input by 1/2 with weights up to 60, and the drowning noise of 2^9 raw units.
        for (got, expected) in output[0].iter().zip(&features) {
            assert!(
                (got - expected).abs() <= 150,
                "features: got {got}, expected {expected}"
            );
        }
        for (got, expected) in output[1].iter().zip(&logits) {
            assert!(
                (got - expected).abs() <= 60_000,
                "logits: got {got}, expected {expected}"
            );
        }
    }
}

/// Every kind of message that one side sends in a session of one image, besides those of the OT engine.
const FROM_HOSPITAL: [Kind; 9] = [
    Kind::Nonce,
    Kind::BaseOt,
    Kind::RingLwe,
    Kind::PaddingMasks,
    Kind::Remask,
    Kind::CotCorrections,
    Kind::MaskedInput,
    Kind::ChunkTables,
    Kind::MuxAnswer,
];
const FROM_DEVELOPER: [Kind; 7] = [
    Kind::Nonce,
    Kind::BaseOt,
    Kind::ChunkIndices,
    Kind::MuxRequest,
    Kind::TruncateRequest,
    Kind::Output,
    Kind::Done,
];

/// One image with one side's messages of one kind tampered with: the hospital's result, and the developer's.
fn cheat(
    case: &Case,
    by_hospital: bool,
    kind: Kind,
    how: Tamper,
) -> (Outputs, Result<(), ProtocolError>) {
    let (mut h, mut d) = pair();
    (if by_hospital { &mut h } else { &mut d }).tamper = Some((kind, how));
    let (mut outputs, developer) = run(case, (h, d), vec![small(240, 120, 1)]);
    (outputs.remove(0), developer)
}

fn cheats(engine: OtEngine) -> impl Iterator<Item = (bool, Kind)> {
    let of_engine: &[Kind] = match engine {
        OtEngine::SoftSpoken => &[Kind::OtCorrections],
        OtEngine::Ferret => &[Kind::OtCorrections, Kind::OtSums],
    };
    let of_engine = of_engine.iter().copied();
    let hospital = (FROM_HOSPITAL.into_iter())
        .chain([Kind::TruncateAnswer])
        .chain(of_engine.clone())
        .map(|kind| (true, kind));
    let developer = FROM_DEVELOPER.into_iter().chain(of_engine);
    hospital.chain(developer.map(|kind| (false, kind)))
}

#[test]
fn the_lists_of_messages_are_complete() {
    for case in cases() {
        let (mut h, mut d) = pair();
        let kinds = |end: &MemoryChannel| {
            let mut kinds: Vec<u8> = end.sent.iter().map(|(kind, _)| *kind as u8).collect();
            kinds.sort_unstable();
            kinds.dedup();
            kinds
        };
        let (plan, parameters, secrets) = (
            case.plan.clone(),
            case.parameters.clone(),
            case.secrets.clone(),
        );
        let engine = case.engine;
        let developer = thread::spawn(move || {
            let mut session = developer::Session::setup(
                &mut d,
                plan,
                parameters,
                secrets,
                options(engine),
                entropy(),
            )
            .unwrap();
            let ticket = session.prepare(&mut d, 0, entropy()).unwrap();
            session.infer(&mut d, ticket, 0.0, entropy()).unwrap();
            d
        });
        let mut session = hospital::Session::setup(
            &mut h,
            case.plan.clone(),
            case.hints.clone(),
            [7; 32],
            options(engine),
            entropy(),
        )
        .unwrap();
        let ticket = session.prepare(&mut h, 0, entropy()).unwrap();
        session.infer(&mut h, ticket, &small(240, 120, 1)).unwrap();
        let d = developer.join().unwrap();
        let listed = |by_hospital: bool| {
            let mut kinds: Vec<u8> = cheats(case.engine)
                .filter(|(hospital, _)| *hospital == by_hospital)
                .map(|(_, kind)| kind as u8)
                .collect();
            kinds.sort_unstable();
            kinds
        };
        assert_eq!(kinds(&h), listed(true));
        assert_eq!(kinds(&d), listed(false));
    }
}

#[test]
fn changed_content_spoils_the_answer_or_ends_the_session_but_never_panics() {
    for case in cases() {
        let honest = run(&case, pair(), vec![small(240, 120, 1)])
            .0
            .remove(0)
            .unwrap();
        for (by_hospital, kind) in cheats(case.engine) {
            // A nonce is any 32 bytes, and an empty message has no content.
            let harmless = matches!(kind, Kind::Nonce | Kind::Done);
            let spoilt = match cheat(&case, by_hospital, kind, Tamper::Change) {
                (Ok(output), _) => {
                    let all = |output: &[Vec<i64>]| output.concat();
                    all(&output)
                        .iter()
                        .zip(all(&honest))
                        .any(|(a, b)| (a - b).abs() > 150_000)
                        || output[0]
                            .iter()
                            .zip(&honest[0])
                            .any(|(a, b)| (a - b).abs() > 300)
                }
                (Err(error), developer) => {
                    let named = [Some(error.code()), developer.err().map(|e| e.code())];
                    assert!(
                        named.contains(&Some("malformed_message")),
                        "{kind:?}: {named:?}"
                    );
                    true
                }
            };
            assert_eq!(
                spoilt,
                !harmless,
                "{kind:?} of {}",
                if by_hospital { "hospital" } else { "developer" }
            );
        }
    }
}

#[test]
fn a_shortened_message_ends_the_receiver_with_the_exact_error() {
    for case in cases() {
        for (by_hospital, kind) in cheats(case.engine).filter(|(_, kind)| *kind != Kind::Done) {
            let (hospital, developer) = cheat(&case, by_hospital, kind, Tamper::Shorten);
            let receiver = if by_hospital {
                developer.err()
            } else {
                hospital.err()
            };
            match receiver {
                Some(ProtocolError::Channel(ChannelError::UnexpectedLength {
                    kind: got,
                    expected,
                    got: len,
                })) => {
                    assert_eq!((got, len), (kind, expected - 1));
                }
                other => panic!("{kind:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_renamed_message_ends_the_receiver_with_the_exact_error() {
    for case in cases() {
        for (by_hospital, kind) in cheats(case.engine) {
            let (hospital, developer) = cheat(&case, by_hospital, kind, Tamper::Rename);
            let receiver = if by_hospital {
                developer.err()
            } else {
                hospital.err()
            };
            match receiver {
                Some(ProtocolError::Channel(ChannelError::UnexpectedKind { expected, got })) => {
                    assert_eq!((expected, got), (kind, Kind::Hello as u8));
                }
                other => panic!("{kind:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn a_repeated_message_never_passes_as_the_next_one() {
    for case in cases() {
        let honest = run(&case, pair(), vec![small(240, 120, 1)])
            .0
            .remove(0)
            .unwrap();
        // The last message of the developer may come twice: nobody waits for another one.
        for (by_hospital, kind) in cheats(case.engine).filter(|(_, kind)| *kind != Kind::Output) {
            if let (Ok(output), Ok(())) = cheat(&case, by_hospital, kind, Tamper::Repeat) {
                let differs = output[1]
                    .iter()
                    .zip(&honest[1])
                    .any(|(a, b)| (a - b).abs() > 150_000);
                assert!(differs || kind == Kind::Done, "{kind:?} was accepted twice");
            }
        }
    }
}

#[test]
fn a_cut_connection_ends_both_sides_with_a_named_error() {
    for case in cases() {
        for at in [0, 1, 3, 5, 8, 13, 21, 34, 55] {
            let (mut h, d) = pair();
            h.cut = Some(at);
            let (outputs, developer) = run(&case, (h, d), vec![small(240, 120, 1)]);
            assert!(
                matches!(
                    outputs.last(),
                    Some(Err(ProtocolError::Channel(ChannelError::Cancelled)))
                ),
                "cut at {at}"
            );
            assert!(
                matches!(
                    developer,
                    Err(ProtocolError::Channel(ChannelError::Closed { .. }))
                ),
                "cut at {at}"
            );
        }
    }
}

#[test]
fn two_tickets_never_send_the_same_masked_input() {
    for case in cases() {
        let zero = vec![0; 240];
        let (h, d) = pair();
        let (plan, parameters, secrets) = (
            case.plan.clone(),
            case.parameters.clone(),
            case.secrets.clone(),
        );
        let engine = case.engine;
        let developer = thread::spawn(move || {
            let mut d = d;
            let mut session = developer::Session::setup(
                &mut d,
                plan,
                parameters,
                secrets,
                options(engine),
                entropy(),
            )
            .unwrap();
            for id in 0..2 {
                let ticket = session.prepare(&mut d, id, entropy()).unwrap();
                session.infer(&mut d, ticket, 0.0, entropy()).unwrap();
            }
        });
        let mut h = h;
        let mut session = hospital::Session::setup(
            &mut h,
            case.plan.clone(),
            case.hints.clone(),
            [7; 32],
            options(engine),
            entropy(),
        )
        .unwrap();
        // The same entropy twice, as after a restored snapshot: the peer's nonce must still separate them.
        for _ in 0..2 {
            let ticket = session.prepare(&mut h, 0, [3; 32]).unwrap();
            session.infer(&mut h, ticket, &zero).unwrap();
        }
        let masked: Vec<&Vec<u8>> = h
            .sent
            .iter()
            .filter(|(kind, _)| *kind == Kind::MaskedInput)
            .map(|(_, b)| b)
            .collect();
        assert_eq!(masked.len(), 2);
        assert_ne!(masked[0], masked[1]);
        assert!(
            masked[0]
                .iter()
                .zip(masked[1])
                .filter(|(a, b)| a == b)
                .count()
                < masked[0].len() / 20
        );
        developer.join().unwrap();
    }
}
