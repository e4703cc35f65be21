//! A ReLU's result in a ring that is larger by more bits than a short word has.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

#[allow(dead_code, reason = "the other tests use the rest")]
mod common;
#[allow(dead_code, reason = "the other tests use the rest")]
#[path = "common/session.rs"]
mod session;

use std::collections::HashMap;

use blindread_protocol::{OtEngine, StepParameters};
use common::pair;
use session::{run, small, with_parameters};

#[test]
fn results_are_extended_by_more_bits_than_a_short_word_has() {
    let text = r#"{"format":"blindread.program","version":1,
     "values":[
      {"shape":[1,4,4],"ring_bits":30},{"shape":[1,4,4],"ring_bits":30},{"shape":[1,4,4],"ring_bits":12},
      {"shape":[1,4,4],"ring_bits":30}],
     "steps":[
      {"op":"input","name":"image","out":0},
      {"op":"linear","name":"scale","in":0,"out":1,"kernel":[1,1],"stride":[1,1],"dilation":[1,1],"padding":[0,0,0,0],"groups":1},
      {"op":"truncate","name":"scale:t","in":1,"out":2,"shift":12},
      {"op":"relu","name":"relu","in":2,"out":3,"window":[0,11]},
      {"op":"output","name":"positive","in":3}]}"#;
    for engine in OtEngine::ALL {
        let scale = StepParameters::Linear {
            weights: vec![1 << 12],
            bias: vec![0],
        };
        let relu = StepParameters::Relu {
            threshold: vec![5],
            flip: vec![false],
        };
        let parameters = HashMap::from([("scale".into(), scale), ("relu".into(), relu)]);
        let case = with_parameters(engine, text, parameters);
        let image = small(16, 900, 3);
        let (outputs, developer) = run(&case, pair(), vec![image.clone()]);
        developer.unwrap();
        let got = &outputs[0].as_ref().unwrap()[0];
        for (got, x) in got.iter().zip(image) {
            let expected = i64::from(x + 5).max(0);
            // rounding of the input, noise, and two floors
            assert!((got - expected).abs() <= 8, "{x}: {got}");
        }
    }
}
