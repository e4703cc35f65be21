"""The program format: what is read back, what is refused, what is counted."""

import copy
import json
from typing import Any

import numpy as np
import pytest

from secure_infer.errors import ProgramError
from secure_infer.runtime.program import Program, check_parameters

DOCUMENT: dict[str, Any] = {
    "format": "blindread.program",
    "version": 1,
    "values": [
        {"shape": [1, 9, 8], "ring_bits": 27},
        {"shape": [4, 5, 4], "ring_bits": 27},
        {"shape": [4, 3, 2], "ring_bits": 27},
        {"shape": [4, 3, 2], "ring_bits": 26},
        {"shape": [4, 3, 2], "ring_bits": 26},
        {"shape": [4, 3, 2], "ring_bits": 25},
        {"shape": [8, 3, 2], "ring_bits": 25},
        {"shape": [8, 2, 1], "ring_bits": 25},
        {"shape": [8, 1, 1], "ring_bits": 25},
        {"shape": [8, 1, 1], "ring_bits": 25},
    ],
    "steps": [
        {"op": "input", "name": "image", "out": 0},
        {"op": "linear", "name": "conv", "in": 0, "out": 1, "kernel": [3, 3], "stride": [2, 2],
         "dilation": [1, 1], "padding": [1, 1, 1, 1], "groups": 1},
        {"op": "max_pool", "name": "pool", "in": 1, "out": 2, "pool": [2, 3], "stride": [2, 2],
         "padding": [0, 1, 1, 0], "window": [14, 27]},
        {"op": "truncate", "name": "cut", "in": 2, "out": 3, "shift": 14},
        {"op": "relu", "name": "relu", "in": 3, "out": 4, "window": [1, 12]},
        {"op": "relu_clipped", "name": "relu6", "in": 3, "out": 5, "window": [1, 12]},
        {"op": "concat", "name": "both", "in": [4, 5], "out": 6},
        {"op": "subsample", "name": "some", "in": 6, "out": 7, "stride": [2, 2]},
        {"op": "sum_pool", "name": "sum", "in": 7, "out": 8, "pool": [2, 1], "stride": [1, 1],
         "padding": [0, 0, 0, 0]},
        {"op": "add", "name": "twice", "in": [8, 8], "out": 9, "shift": [0, 3]},
        {"op": "output", "name": "logits", "in": 9},
    ],
}  # fmt: skip


def program(document: dict[str, Any]) -> Program:
    return Program.from_json(json.dumps(document))


def changed(where: str, key: str, value: Any) -> dict[str, Any]:
    """The document with one field of a step (by name) or a value (by index) set."""
    document = copy.deepcopy(DOCUMENT)
    if where.isdigit():
        document["values"][int(where)][key] = value
    else:
        next(s for s in document["steps"] if s["name"] == where)[key] = value
    return document


def parameters() -> dict[str, dict[str, np.ndarray]]:
    return {
        "conv": {"weights": np.ones((4, 1, 3, 3), np.int16), "bias": np.zeros(4, np.int64)},
        "relu": {"threshold": np.zeros(4, np.int32), "flip": np.zeros(4, np.uint8)},
        "relu6": {"threshold": np.zeros(4, np.int32), "ceiling": np.full(4, 6, np.int32)},
    }


def test_json_of_a_program_reads_back_as_the_same_program(tmp_path):
    made = program(DOCUMENT)
    assert Program.from_json(made.to_json()) == made
    made.dump(tmp_path / "program.json")
    assert Program.load(tmp_path / "program.json") == made
    assert json.loads(made.to_json()) == DOCUMENT
    assert made.digest() == Program.from_json(made.to_json()).digest()


def test_counts_of_each_step_follow_the_shapes():
    costs = {c.name: c for c in program(DOCUMENT).costs()}
    assert costs["conv"].multiply_adds == 9 * 4 * 5 * 4
    assert costs["cut"].truncations == 24
    assert (costs["relu"].relus, costs["relu"].comparisons) == (24, 24)
    assert (costs["relu6"].relus, costs["relu6"].comparisons) == (24, 48)
    # Width 4, windows of 3 from -1 with stride 2: 2 and 3 pixels, so 1 + 2 comparisons in 5 rows;
    # height 5 and one row of padding: windows of 2, 2 and 1 pixels in 2 columns.
    assert costs["pool"].comparisons == 4 * (5 * (1 + 2) + 2 * (1 + 1 + 0))
    totals = program(DOCUMENT).totals()
    assert (totals.relus, totals.comparisons, totals.truncations) == (48, 72 + 76, 24)


@pytest.mark.parametrize(
    ("where", "key", "value", "expected"),
    [
        ("0", "ring_bits", 32, "ring_bits from 8 to 31"),
        ("0", "ring_bits", 7, "ring_bits from 8 to 31"),
        ("0", "shape", [1, 0, 8], "extents from 1"),
        ("0", "shape", [65536, 1024, 8], "at most 67108864 elements"),
        ("1", "shape", [4, 5, 5], "shape"),
        ("1", "ring_bits", 26, "ring_bits 27 on both sides"),
        ("2", "ring_bits", 28, "rings grow in truncations and ReLUs only"),
        ("3", "ring_bits", 12, r"0 <= m, k <= 11, k - m .* got \[1, 12\)"),
        ("6", "ring_bits", 26, "ring_bits 25, the smallest of its sources"),
        ("7", "shape", [8, 1, 1], "shape"),
        ("conv", "groups", 2, "groups from 1 to 1"),
        ("conv", "stride", [0, 2], "stride from 1"),
        ("conv", "padding", [1, 1, 1, -1], "padding from 0"),
        ("conv", "kernel", [3, 12], "shape"),
        ("conv", "in", 1, "sources made by earlier steps"),
        ("conv", "out", 0, "an output value of its own"),
        ("conv", "out", 10, "an output value of its own"),
        ("conv", "name", "image", "a name of its own"),
        ("conv", "name", "", "a printable name"),
        ("conv", "name", "a\nb", "a printable name"),
        ("cut", "shift", 0, "shift from 1 to 24"),
        ("cut", "shift", 25, "shift from 1 to 24"),
        ("relu", "window", [1, 27], "a window"),
        ("relu", "window", [-1, 12], "a window"),
        ("relu", "window", [1, 2], "a window"),
        ("relu", "window", [1, 18], "a window"),
        ("pool", "padding", [0, 2, 1, 0], "padding from 0 to 1"),
        ("twice", "shift", [0], "2 shifts"),
        ("twice", "shift", [0, 25], "shift from 0 to 24"),
        ("twice", "in", [8, 7], "sources of shape"),
        ("both", "in", [5, 1], "sources of height and width"),
        ("both", "in", [], "1 to 256 sources"),
        ("image", "in", 0, "the keys"),
        ("some", "op", "resample", "an op of"),
        ("some", "stride", [2.0, 2], "a list of integers"),
        ("some", "stride", [True, 2], "a list of integers"),
        ("some", "stride", [2], "2 integers"),
    ],
)
def test_broken_invariant_is_refused_with_step_and_expectation(where, key, value, expected):
    with pytest.raises(ProgramError, match=expected) as caught:
        program(changed(where, key, value))
    assert caught.value.code == "program"
    if not where.isdigit() and key not in ("name", "op", "stride", "in"):
        assert repr(where) in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', "[" * 100_000, "nul"])
def test_text_that_is_no_program_is_refused(text):
    with pytest.raises(ProgramError):
        Program.from_json(text)


@pytest.mark.parametrize(
    ("key", "value"), [("version", 2), ("format", "other"), ("steps", {}), ("steps", []), ("values", [])]
)
def test_document_of_another_version_or_kind_is_refused(key, value):
    with pytest.raises(ProgramError):
        program(DOCUMENT | {key: value})


def test_program_without_output_or_with_second_input_is_refused():
    with pytest.raises(ProgramError, match="at least one output"):
        program(DOCUMENT | {"steps": DOCUMENT["steps"][:-1]})
    with pytest.raises(ProgramError, match="exactly one input"):
        program(DOCUMENT | {"steps": DOCUMENT["steps"][1:]})


@pytest.mark.parametrize("small", [13, 20])
def test_relu_may_make_its_result_in_a_larger_ring(small):
    made = program(changed("3", "ring_bits", small))
    assert [v.ring_bits for v in made.values[3:6]] == [small, 26, 25]
    # In its own ring the window may read the top bit, beside a larger one it may not.
    same = copy.deepcopy(DOCUMENT)
    for value in same["values"][3:]:
        value["ring_bits"] = 12
    assert program(same).values[4].ring_bits == 12


def test_value_that_no_step_makes_is_refused():
    with pytest.raises(ProgramError, match="a step for every value"):
        program(DOCUMENT | {"values": [*DOCUMENT["values"], DOCUMENT["values"][0]]})


def test_fitting_parameters_are_accepted():
    check_parameters(program(DOCUMENT), parameters())
    mapped = parameters()
    mapped["conv"]["bias"] = np.zeros((4, 5, 4), np.int64)
    check_parameters(program(DOCUMENT), mapped)


@pytest.mark.parametrize(
    ("step", "kind", "array", "expected"),
    [
        ("conv", "weights", np.ones((4, 1, 3, 3), np.int32), "dtype int16"),
        ("conv", "weights", np.ones((4, 1, 3, 2), np.int16), "shape"),
        ("conv", "weights", np.full((4, 1, 3, 3), -32768, np.int16), "at least -32767"),
        ("conv", "weights", np.ones((4, 1, 3, 6), np.int16)[..., ::2], "C order"),
        ("conv", "bias", np.zeros(5, np.int64), "shape"),
        ("relu", "flip", np.full(4, 2, np.uint8), "flips of 0 or 1"),
        ("relu", "threshold", np.zeros(4, np.int64), "dtype int32"),
        ("relu6", "ceiling", np.zeros(4, np.int32), "positive ceilings"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(step, kind, array, expected):
    wrong = parameters()
    wrong[step][kind] = array
    with pytest.raises(ProgramError, match=expected):
        check_parameters(program(DOCUMENT), wrong)


def test_missing_and_unknown_parameters_are_refused():
    wrong = parameters()
    del wrong["relu"]
    with pytest.raises(ProgramError, match="missing \\['relu'\\]"):
        check_parameters(program(DOCUMENT), wrong)
    wrong = parameters()
    del wrong["relu"]["flip"]
    with pytest.raises(ProgramError, match="parameters"):
        check_parameters(program(DOCUMENT), wrong)
