//! Programs that must be refused, each with the words that name the step and the expectation.
#![allow(clippy::unwrap_used, reason = "a failed test may panic")]

use blindread_protocol::Program;
use blindread_protocol::channel::Kind;
use blindread_protocol::program::Step;

const VALUES: &str = r#"{"shape":[1,4,4],"ring_bits":27},{"shape":[2,4,4],"ring_bits":27},{"shape":[2,4,4],"ring_bits":27}"#;
const INPUT: &str = r#"{"op":"input","name":"x","out":0}"#;
const CONV: &str = r#"{"op":"linear","name":"c","in":0,"out":1,"kernel":[3,3],"stride":[1,1],"dilation":[1,1],"padding":[1,1,1,1],"groups":1}"#;
const RELU: &str = r#"{"op":"relu","name":"r","in":1,"out":2,"window":[0,12]}"#;
const OUTPUT: &str = r#"{"op":"output","name":"y","in":2}"#;

fn program(values: &str, steps: &[&str]) -> Result<Program, String> {
    let text = format!(
        r#"{{"format":"blindread.program","version":1,"values":[{values}],"steps":[{}]}}"#,
        steps.join(",")
    );
    Program::from_json(&text).map_err(|e| e.to_string())
}

#[test]
fn a_good_program_is_accepted_and_counted() {
    let program = program(VALUES, &[INPUT, CONV, RELU, OUTPUT]).unwrap();
    assert_eq!(program.input_shape(), [1, 4, 4]);
    assert_eq!(program.relu_count(), 32);
    assert_eq!(program.outputs()[0].shape, [2, 4, 4]);
    assert!(matches!(program.steps()[1], Step::Linear(_)));
}

#[test]
fn bad_programs_are_refused_with_the_step_and_the_expectation() {
    let swap = |step: &str, from: &str, to: &str| step.replacen(from, to, 1);
    let cases: [(String, Vec<String>, &str); 14] = [
        (
            VALUES.into(),
            vec![CONV.into(), INPUT.into()],
            "c: expected exactly one input",
        ),
        (
            VALUES.into(),
            vec![INPUT.into(), INPUT.into()],
            "expected a unique name",
        ),
        (
            VALUES.into(),
            vec![INPUT.into(), RELU.into(), OUTPUT.into()],
            "r: expected inputs that an earlier step makes",
        ),
        (
            VALUES.into(),
            vec![
                INPUT.into(),
                swap(CONV, "\"out\":1", "\"out\":0"),
                OUTPUT.into(),
            ],
            "c: expected an output value that is made once",
        ),
        (
            VALUES.into(),
            vec![
                INPUT.into(),
                swap(CONV, "\"out\":1", "\"out\":9"),
                OUTPUT.into(),
            ],
            "c: expected an output value that is made once",
        ),
        (
            VALUES.into(),
            vec![
                INPUT.into(),
                swap(CONV, "[3,3]", "[2,2]"),
                RELU.into(),
                OUTPUT.into(),
            ],
            "c: expected an output shape",
        ),
        (
            VALUES.into(),
            vec![
                INPUT.into(),
                swap(CONV, "\"stride\":[1,1]", "\"stride\":[0,1]"),
                RELU.into(),
                OUTPUT.into(),
            ],
            "program: c:",
        ),
        (
            VALUES.into(),
            vec![
                INPUT.into(),
                CONV.into(),
                swap(RELU, "[0,12]", "[0,28]"),
                OUTPUT.into(),
            ],
            "r: expected a window",
        ),
        (
            VALUES.into(),
            vec![
                INPUT.into(),
                CONV.into(),
                swap(RELU, "[0,12]", "[5,5]"),
                OUTPUT.into(),
            ],
            "r: expected a window",
        ),
        (
            VALUES.replace("[1,4,4]", "[1,0,4]"),
            vec![INPUT.into()],
            "value 0: expected 1 to",
        ),
        (
            VALUES.replace("[1,4,4]", "[4294967296,4294967296,4]"),
            vec![INPUT.into()],
            "value 0: expected 1 to",
        ),
        (
            VALUES.replacen("27", "40", 1),
            vec![INPUT.into()],
            "value 0: expected a ring of 8 to 31 bits",
        ),
        (
            VALUES.into(),
            vec![INPUT.into(), CONV.into(), RELU.into()],
            "steps: expected at least one output",
        ),
        (
            VALUES.into(),
            vec![
                INPUT.into(),
                swap(CONV, "\"groups\":1", "\"groups\":1,\"evil\":2"),
                OUTPUT.into(),
            ],
            "unknown field",
        ),
    ];
    for (values, steps, expected) in cases {
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let error = program(&values, &steps).unwrap_err();
        assert!(
            error.contains(expected),
            "{error:?} does not say {expected:?}"
        );
    }
    assert!(Program::from_json("{}").is_err());
    assert!(
        Program::from_json(&" ".repeat(1 << 25))
            .unwrap_err()
            .to_string()
            .contains("expected at most")
    );
}

#[test]
fn a_relu_leaves_a_ring_only_for_values_below_half_of_it() {
    let values = VALUES.replacen("27", "16", 2);
    let with_window = |window: &str| {
        let relu = RELU.replace("[0,12]", window);
        program(&values, &[INPUT, CONV, &relu, OUTPUT])
    };
    with_window("[0,15]").unwrap();
    let error = with_window("[0,16]").unwrap_err();
    assert!(
        error.contains("r: expected a window of 2 to 16 bits inside 15 bits, got [0, 16)"),
        "{error}"
    );
}

#[test]
fn message_kinds_keep_their_numbers() {
    assert_eq!(
        (Kind::Hello as u8, Kind::Output as u8, Kind::Error as u8),
        (1, 17, 255)
    );
}
