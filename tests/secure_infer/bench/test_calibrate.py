"""Fitting coefficients: known ones must come out of measurements that were made with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secure_infer.bench.calibrate import (
    calibration_file,
    coefficients,
    fit,
    non_negative,
    observations,
)
from secure_infer.bench.calibration_networks import NETWORKS
from secure_infer.errors import RuntimeFailure
from secure_infer.runtime.cost import predict
from secure_infer.runtime.program import Program
from secure_infer.runtime.timing import Coefficients, built_in, busy, key, meeting, timing, units
from secure_infer.runtime.work import PARTIES, PHASES

PER_BYTE = {"sent_bytes": 4e-10, "received_bytes": 5e-10}
PARTY: dict[str, dict[str, float]] = {
    "offline.hospital": {"tables": 5e-8, "comparisons": 2e-8, "truncations": 3e-8, "seeds": 6e-8},
    "offline.developer": {"tables": 2e-8, "comparisons": 3e-8, "truncations": 1e-8, "seeds": 9e-8},
    "online.hospital": {"tables": 1e-9, "comparisons": 3e-9, "truncations": 2e-9, "messages": 1e-6},
    "online.developer": {"tables": 2e-9, "comparisons": 4e-9, "truncations": 3e-9, "messages": 2e-6},
}
LINEAR: dict[str, dict[str, float]] = {
    "offline.hospital": {"input_polynomials": 2e-5, "output_polynomials": 3e-5, "words": 1e-9},
    "offline.developer": {"output_polynomials": 4e-5},
    "online.hospital": {},
    "online.developer": {"multiply_adds": 3e-11, "depthwise_multiply_adds": 2e-10, "words": 2e-9},
}
OVERLAP, ROUND_TRIP = 0.25, 5e-5


def truth() -> Coefficients:
    seconds = {}
    for engine, factor in (("softspoken", 1.0), ("ferret", 1.5)):
        for phase in PHASES:
            for party in PARTIES:
                name = f"{phase}.{party}"
                made = {
                    kind: value * factor
                    for kind, value in PARTY[name].items()
                    if factor > 1 or kind != "seeds"
                }
                if phase == "online":
                    made = dict(PARTY[name])
                seconds[key(phase, party, engine)] = made | LINEAR[name] | PER_BYTE
    names = [meeting(phase, engine) for phase in PHASES for engine in ("softspoken", "ferret")]
    return Coefficients(
        seconds, dict.fromkeys(names, OVERLAP), dict.fromkeys(names, ROUND_TRIP), {}, "made up"
    )


def statistics(program: Program, engine: str, model: Coefficients, images: int) -> tuple[Any, Any]:
    """What both parties would report if the model were right."""
    tickets = [timing(program, engine, coefficients=model, ticket=1 + index).steps for index in range(images)]
    both: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for phase in PHASES:
        for role, party in enumerate(PARTIES):
            seconds = model.seconds[key(phase, party, engine)]
            steps = []
            for step, *made in zip(program.steps, *tickets, strict=True):
                elapsed = sum((one.offline if phase == "offline" else one.online).seconds for one in made)
                core = sum(busy(units(program, step, one.step, phase, party), seconds) for one in made)
                steps.append({"name": step.name, "seconds": elapsed, "cpu_seconds": core})
            both[role][phase] = {"steps": steps}
    return both


def test_fit_recovers_the_coefficients_that_made_the_measurements() -> None:
    model = truth()
    samples, meetings = [], []
    for make in NETWORKS.values():
        program, _ = make()
        for engine in ("softspoken", "ferret"):
            more = observations(program, engine, [statistics(program, engine, model, 1)], 1)
            samples += more[0]
            meetings += more[1]
    found = fit(samples, meetings, PER_BYTE)
    for name, kinds in model.seconds.items():
        for kind, seconds in kinds.items():
            assert found.seconds[name].get(kind, 0.0) == pytest.approx(seconds, rel=0.02), (name, kind)
    assert found.overlap == pytest.approx(model.overlap, rel=0.02)
    # With ferret there is no round trip offline.
    expected = model.round_trip | {meeting("offline", "ferret"): 0.0}
    assert found.round_trip == pytest.approx(expected, rel=0.05)


def test_shortest_of_several_runs_counts() -> None:
    program, _ = NETWORKS["narrow"]()
    clean = statistics(program, "softspoken", truth(), 1)
    disturbed = statistics(program, "softspoken", truth(), 1)
    for party in disturbed:
        for phase in PHASES:
            for step in party[phase]["steps"]:
                step["seconds"] += 1.0
                step["cpu_seconds"] += 0.5
    assert observations(program, "softspoken", [clean, disturbed], 1) == observations(
        program, "softspoken", [clean], 1
    )


def test_least_squares_never_go_below_zero() -> None:
    rng = np.random.default_rng(3)
    rows = rng.random((40, 5))
    truth = np.array([2.0, 0.0, 3e-6, 0.5, 0.0])
    assert non_negative(rows, rows @ truth) == pytest.approx(truth, abs=1e-9)
    # Best without the constraint would be -1.
    assert non_negative(np.array([[1.0], [2.0]]), np.array([-1.0, -2.0])) == pytest.approx([0.0])
    mixed = non_negative(np.array([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0]]), np.array([1.0, 2.0, -1.0]))
    assert mixed == pytest.approx([0.0, 1.5])


def test_networks_have_every_kind_of_work() -> None:
    kinds: set[str] = set()
    for make in NETWORKS.values():
        program, _ = make()
        predicted = predict(program)
        for step, one in zip(program.steps, predicted.steps, strict=True):
            for phase in PHASES:
                for party in PARTIES:
                    kinds |= set(units(program, step, one, phase, party))
    for name, seconds in built_in().seconds.items():
        assert set(seconds) <= kinds | {"seeds"}, name


def test_without_a_calibration_the_built_in_coefficients_are_used(tmp_path: Path) -> None:
    assert coefficients(tmp_path) == built_in()
    calibration_file(tmp_path).write_text("{}")
    with pytest.raises(RuntimeFailure, match="calibration"):
        coefficients(tmp_path)
