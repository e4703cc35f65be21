"""Seconds from work: sums that can be done by hand."""

import json

import pytest

from secure_infer.errors import RuntimeFailure
from secure_infer.runtime.explain import explain
from secure_infer.runtime.program import Program
from secure_infer.runtime.steps import Add, Input, Linear, Output, Relu, Truncate, Value
from secure_infer.runtime.timing import Coefficients, Link, built_in, timing, units

VALUE = Value((4, 32, 32), 27)
PROGRAM = Program(
    (VALUE, VALUE, VALUE, VALUE, VALUE),
    (
        Input("image", 0),
        Linear("conv", 0, 1, (3, 3), padding=(1, 1, 1, 1)),
        Truncate("cut", 1, 2, 14),
        Relu("relu", 2, 3, (1, 12)),
        Add("sum", (3, 2), 4, (0, 0)),
        Output("y", 4),
    ),
)
N = 4096
SECONDS = {
    "offline.hospital.softspoken": {"tables": 3e-8, "truncations": 1e-8, "output_polynomials": 1e-3},
    "offline.developer.softspoken": {"tables": 1e-8, "output_polynomials": 2e-3},
    "offline.hospital.ferret": {"tables": 5e-8},
    "offline.developer.ferret": {"tables": 5e-8},
    "online.hospital": {"tables": 1e-9, "sent_bytes": 1e-9},
    "online.developer": {"multiply_adds": 1e-9, "words": 1e-9},
}
MODEL = Coefficients(
    SECONDS,
    {"offline.softspoken": 0.5, "offline.ferret": 0.0, "online": 0.0},
    {"offline.softspoken": 0.0, "offline.ferret": 0.0, "online": 1e-4},
    {"cpu": "by hand"},
    "made up",
)


def test_step_is_the_slower_party_and_what_does_not_overlap() -> None:
    made = timing(PROGRAM, coefficients=MODEL)
    steps = {one.step.name: one for one in made.steps}
    hospital, developer = 3 * N * 3e-8, 3 * N * 1e-8
    relu = steps["relu"].offline
    assert (relu.hospital, relu.developer) == (pytest.approx(hospital), pytest.approx(developer))
    assert relu.seconds == pytest.approx(hospital + 0.5 * developer)
    assert steps["conv"].offline.seconds == pytest.approx(4 * (2e-3 + 0.5 * 1e-3))
    assert steps["conv"].online.developer == pytest.approx(N * 36 * 1e-9 + 2 * N * 1e-9)
    assert steps["sum"].online.developer == pytest.approx(3 * N * 1e-9)
    # The image in, and four rounds of the ReLU, one of the truncation and the output's: 0.1 ms each.
    assert made.total("online").seconds == pytest.approx(
        sum(max(one.online.hospital, one.online.developer) for one in made.steps) + 6e-4
    )
    assert made.total("offline").seconds == pytest.approx(sum(one.offline.seconds for one in made.steps))


def test_link_adds_its_round_trips_and_its_fuller_direction_where_that_takes_longer() -> None:
    here = timing(PROGRAM, coefficients=MODEL)
    slow = timing(PROGRAM, coefficients=MODEL, link=Link("slow", 1e6, 0.5))
    for one, other in zip(here.steps, slow.steps, strict=True):
        fuller = max(one.step.online.to_developer, one.step.online.to_hospital) / 1e6
        assert other.online.seconds == pytest.approx(max(one.online.seconds, fuller) + 0.5 * one.step.rounds)
        assert (other.online.hospital, other.online.developer) == (
            one.online.hospital,
            one.online.developer,
        )


def test_every_unit_of_work_has_its_party() -> None:
    predicted = timing(PROGRAM, "ferret", coefficients=MODEL).prediction.steps
    conv, relu = predicted[1], predicted[3]
    work = units(PROGRAM, PROGRAM.steps[1], conv, "online", "developer")
    assert work["multiply_adds"] == 36 * N
    assert "multiply_adds" not in units(PROGRAM, PROGRAM.steps[1], conv, "online", "hospital")
    work = units(PROGRAM, PROGRAM.steps[3], relu, "online", "hospital")
    assert (work["tables"], work["comparisons"], work["messages"]) == (3 * N, N, 16)
    assert (work["sent_bytes"], work["received_bytes"]) == (N * 75 / 8, N * 40 / 8)


@pytest.mark.parametrize(
    ("link", "cause"),
    [
        (Link("line", 1e5, 0.0), "bandwidth dominates"),
        (Link("line", 1e12, 9.0), "latency dominates"),
        (Link("line", 1e12, 0.0), "the developer's work dominates"),
    ],
)
def test_explanation_names_what_dominates(link: Link, cause: str) -> None:
    sentences = explain(timing(PROGRAM, coefficients=MODEL, link=link))
    offline = next(sentence for sentence in sentences if "On line" in sentence)
    assert cause in offline
    assert any("4,096 comparisons take 3.0 table look-ups and 115 bits" in sentence for sentence in sentences)


def test_calibration_file_comes_back_as_it_was_and_others_are_refused() -> None:
    text = json.dumps(MODEL.to_json())
    assert Coefficients.from_json(text) == MODEL
    for other in ("{}", "[]", "no", text.replace(".calibration", ".program"), text.replace("ferret", "iknp")):
        with pytest.raises(RuntimeFailure, match=r"calibration: expected blindread\.calibration"):
            Coefficients.from_json(other)


def test_built_in_coefficients_say_what_they_are_and_serve_both_engines() -> None:
    assert "built in" in built_in().about
    for engine in ("softspoken", "ferret"):
        made = timing(PROGRAM, engine)
        assert made.total("offline").seconds > 0
        assert made.total("online").seconds > 0
