//! What a bundle's hints look like, pinned: bundles outlive the code that made them.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use std::collections::HashMap;

use blindread_lattice::{Prg, params::HINT_FORMAT};
use blindread_protocol::{Parameters, Plan, Program, StepParameters, make_hints};
use sha2::{Digest, Sha256};

/// A map that needs several polynomials, with a stride and groups, and a second layer behind it.
const PROGRAM: &str = r#"{"format":"blindread.program","version":1,
 "values":[
  {"shape":[2,70,68],"ring_bits":27},{"shape":[4,35,34],"ring_bits":27},{"shape":[4,35,34],"ring_bits":27},
  {"shape":[3,35,34],"ring_bits":27}],
 "steps":[
  {"op":"input","name":"x","out":0},
  {"op":"linear","name":"a","in":0,"out":1,"kernel":[3,3],"stride":[2,2],"dilation":[1,1],"padding":[1,1,1,1],"groups":2},
  {"op":"truncate","name":"t","in":1,"out":2,"shift":14},
  {"op":"linear","name":"b","in":2,"out":3,"kernel":[1,1],"stride":[1,1],"dilation":[1,1],"padding":[0,0,0,0],"groups":1},
  {"op":"output","name":"y","in":3}]}"#;

fn weights(count: usize) -> Vec<i16> {
    (0..count)
        .map(|i| ((i * 7919 + 13) % 65535) as i16)
        .map(|weight| weight.max(-i16::MAX))
        .collect()
}

#[test]
fn hints_of_equal_randomness_change_only_with_the_version_of_their_format() {
    let plan = Plan::new(Program::from_json(PROGRAM).unwrap()).unwrap();
    let layer = |weights, outputs| StepParameters::Linear {
        weights,
        bias: vec![0; outputs],
    };
    let steps = HashMap::from([
        ("a".to_owned(), layer(weights(4 * 9), 4)),
        ("b".to_owned(), layer(weights(3 * 4), 3)),
    ]);
    let parameters = Parameters::new(plan.program(), steps).unwrap();
    let (hints, secrets) = make_hints(
        &plan,
        &parameters,
        &[5; 32],
        &mut Prg::from_seed(&[6; 32]),
        2,
    )
    .unwrap();
    assert_eq!(hints.len(), plan.hints_len());
    let digest = Sha256::new()
        .chain_update(&hints)
        .chain_update(&secrets)
        .finalize();
    let digest: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    // Another digest with the same version: raise HINT_FORMAT, else bundles in users' caches go stale.
    assert_eq!((HINT_FORMAT, digest.as_str()), (1, "6b79cb46bece4496"));
}
