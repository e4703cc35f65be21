"""Rooflines against counts and times that are known."""

from typing import Any

import pytest

from secure_infer.bench.rates import machine_rates, tls_rates
from secure_infer.bench.roofline import bound, roofline, to_lines
from secure_infer.runtime.program import Program
from secure_infer.runtime.steps import Input, Linear, Output, Relu, Value
from secure_infer.runtime.work import RESOURCES

N = 4 * 32 * 32
VALUE = Value((4, 32, 32), 27)
PROGRAM = Program(
    (VALUE, VALUE, VALUE),
    (Input("image", 0), Linear("conv", 0, 1, (1, 1)), Relu("relu", 1, 2, (1, 12)), Output("y", 2)),
)
RATES = {
    "aes_blocks": 1e9,
    "multiply_adds": 1e10,
    "butterflies": 1e9,
    "random_reads": 1e8,
    "memory_bytes": 1e10,
    "sent_bytes": 2e9,
    "received_bytes": 1e9,
}


def spent(**seconds: tuple[float, float]) -> dict[str, Any]:
    """(seconds of the core, seconds of waiting) of each step in both phases."""
    steps = [
        {"name": name, "cpu_seconds": took, "waiting_seconds": waited}
        for name, (took, waited) in seconds.items()
    ]
    return {"offline": {"steps": steps}, "online": {"steps": steps}}


def test_bound_is_vector_work_or_memory_and_all_reads_and_bytes_through_tls() -> None:
    needs = {"aes_blocks": 3e9, "memory_bytes": 2e10, "sent_bytes": 2e9, "received_bytes": 5e8}
    assert bound(needs, RATES) == ("aes_blocks", pytest.approx(3 + 1 + 0.5))
    assert bound({**needs, "random_reads": 2e8}, RATES)[1] == pytest.approx(3 + 2 + 1 + 0.5)
    assert bound({"received_bytes": 5e9, "memory_bytes": 1e10}, RATES) == ("received_bytes", pytest.approx(6))
    # AES, products and butterflies share the vector units.
    vectors = {"aes_blocks": 1e9, "multiply_adds": 1e10, "butterflies": 2e9}
    assert bound({**vectors, "memory_bytes": 3e10}, RATES) == ("memory_bytes", pytest.approx(4))
    assert bound({**vectors, "memory_bytes": 5e10}, RATES) == ("memory_bytes", pytest.approx(5))
    assert bound({}, RATES) == ("", 0.0)


def test_ratio_is_work_without_waiting_over_the_bound_with_the_largest_first() -> None:
    # The tables of a comparison take 3 * 23 blocks of the hospital, its two OTs 13.75.
    aes = N * (3 * 23 + 13.75) / 1e9
    network = N * (27 + 31) / 8 / 2e9 + N * (3 * 124 + 31) / 8 / 1e9
    hospital = spent(relu=(3 * (aes + network), 1.0), conv=(1e-3, 0.0))
    made = roofline(PROGRAM, "softspoken", {"hospital": hospital, "developer": spent()}, 1, RATES)
    row = {(one.phase, one.party, one.name): one for one in made.kinds}["offline", "hospital", "relu"]
    assert row.needs["aes_blocks"] == N * (3 * 23 + 13.75)
    assert row.bound_by == "aes_blocks"
    assert row.bound_seconds == pytest.approx(aes + network)
    assert (row.ratio, row.waiting_seconds) == (pytest.approx(3.0), 1.0)
    busy = [one for one in made.kinds if one.busy_seconds > 0]
    ratios = [one.ratio or 0.0 for one in busy]
    assert len(busy) == 4
    assert ratios == sorted(ratios, reverse=True)
    assert made.kinds[: len(busy)] == tuple(busy)


def test_times_are_of_one_image_and_steps_of_a_kind_are_added_up() -> None:
    once = roofline(
        PROGRAM, "softspoken", {"hospital": spent(relu=(1.0, 0.0)), "developer": spent()}, 1, RATES
    )
    twice = roofline(
        PROGRAM, "softspoken", {"hospital": spent(relu=(2.0, 0.0)), "developer": spent()}, 2, RATES
    )
    assert once == twice


def test_text_names_resource_need_and_ratio() -> None:
    made = roofline(
        PROGRAM, "ferret", {"hospital": spent(relu=(1.0, 0.0)), "developer": spent(conv=(1.0, 0.5))}, 1, RATES
    )
    text = "\n".join(to_lines(made))
    assert "1 G aes_blocks" in text
    assert "multiply_adds" in text
    assert "bound s" in text
    # The rates, what is next, and of each table its head and one of the two rows that take any time at all.
    assert len(to_lines(made, rows=1)) == 2 + 2 + 2
    assert to_lines(made)[1].startswith("next: linear of the developer")
    assert "input" not in text


def test_every_resource_has_a_rate_on_this_machine() -> None:
    rates = machine_rates(0.02) | tls_rates()
    assert set(rates) == set(RESOURCES)
    assert all(rate > 0 for rate in rates.values())
