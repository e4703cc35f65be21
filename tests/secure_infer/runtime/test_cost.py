"""Predicted cost: the protocol description's own figures, and sums that must agree with the steps."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secure_infer.errors import OptionError
from secure_infer.runtime.backends.secure import SecureBackend
from secure_infer.runtime.cost import (
    TICKET_BYTES,
    Traffic,
    chunk_index_bits,
    comparison_traffic,
    predict,
    wrap_traffic,
)
from secure_infer.runtime.cost_vectors import wrap_bits, wraps
from secure_infer.runtime.program import Program
from secure_infer.runtime.steps import Input, Linear, MaxPool, Output, Relu, ReluClipped, Truncate, Value

WINDOW = (1, 12)


@pytest.mark.parametrize(
    ("window", "bits"),
    [
        ((1, 12), (4, 4, 4)),
        ((0, 10), (4, 4, 3)),
        ((3, 5), (1,)),
        ((0, 16), (4, 4, 4, 4, 3)),
        ((2, 8), (4, 2)),
    ],
)
def test_chunks_cover_the_window_but_its_top_bit(window: tuple[int, int], bits: tuple[int, ...]) -> None:
    assert chunk_index_bits(window) == bits
    digits = sum(bits) - (len(bits) - 1)
    assert digits == window[1] - window[0] - 1


def test_relu_of_eleven_bits_takes_115_bits_online() -> None:
    online, offline = comparison_traffic(WINDOW, 27)
    assert online == Traffic(to_developer=75, to_hospital=40)
    assert offline == Traffic(to_developer=27)


def test_relu_takes_one_table_a_chunk_and_a_random_ot_in_either_direction_offline() -> None:
    n = 1 << 18
    values = (Value((4, 256, 256), 27), Value((4, 256, 256), 27))
    program = Program(values, (Input("image", 0), Relu("relu", 0, 1, WINDOW), Output("z", 1)))
    relu = predict(program).steps[1]
    assert (relu.from_hospital.table, relu.from_hospital.random) == (3 * n, n)
    assert (relu.from_developer.table, relu.from_developer.random) == (0, n)
    assert relu.offline == Traffic(to_developer=27 + 31, to_hospital=3 * 124 + 31).times(n)
    assert (relu.rounds, relu.offline_rounds) == (4, 2)  # lanes under way together, two stripes
    assert relu.messages == 8 * 8  # 3 times 2 messages and 2, in each of 8 lanes


def test_truncation_without_growth_costs_its_shift_and_none_when_the_ring_shrinks() -> None:
    for bits, g in ((27, 14), (29, 16), (13, 0), (8, 0)):
        shape = (3, 4, 5)
        cut = Truncate("cut", 0, 1, 14)
        program = Program((Value(shape, 27), Value(shape, bits)), (Input("image", 0), cut, Output("z", 1)))
        assert (wrap_bits(program, cut), wraps(program, cut)) == (g, 60 if g else 0)
        step = predict(program).steps[1]
        assert (step.online, step.rounds) == (Traffic(g, 1).times(60) if g else Traffic(), int(g > 0))
    assert wrap_traffic(14) == (Traffic(14, 1), Traffic(14))
    assert wrap_traffic(0) == (Traffic(), Traffic())


@pytest.mark.parametrize(("kind", "comparisons"), [(Relu, 1), (ReluClipped, 2)])
@pytest.mark.parametrize("out_bits", [12, 26])
def test_relu_that_leaves_a_small_ring_multiplies_there_and_is_extended_once(
    kind: type[Relu | ReluClipped], comparisons: int, out_bits: int
) -> None:
    n, extra = 1 << 18, out_bits - 12
    values = (Value((4, 256, 256), 12), Value((4, 256, 256), out_bits))
    program = Program(values, (Input("image", 0), kind("relu", 0, 1, (3, 11)), Output("z", 1)))
    relu = predict(program).steps[1]
    extended = int(extra > 0)
    # Two look-ups with four bits each and 2^4 + 2^4 back; a bit and twelve, and twelve back.
    compared, wrap = Traffic(32 + 12, 8 + 13).times(comparisons), Traffic(extra, extended)
    assert relu.online == (compared + wrap).times(n)
    table = Traffic(31 + 12, 2 * 124 + 31).times(comparisons)
    assert relu.offline == (table + Traffic(extra, 31 * extended)).times(n)
    assert relu.from_hospital.random == (comparisons + extended) * n
    assert relu.from_developer.random == comparisons * n
    # Stripes of 2^17, eight lanes of up to 2^16 each.
    assert relu.rounds == 3 + extended
    assert relu.offline_rounds == 2 * (comparisons + extended)
    assert relu.messages == 8 * (6 + 2 * extended)


def test_program_is_the_sum_of_its_steps() -> None:
    program = Program(
        (
            Value((1, 8, 8), 27),
            Value((2, 8, 8), 27),
            Value((2, 8, 8), 27),
            Value((2, 4, 4), 27),
            Value((2, 4, 4), 27),
            Value((1, 1, 1), 27),
        ),
        (
            Input("image", 0),
            Linear("conv", 0, 1, (3, 3), padding=(1, 1, 1, 1)),
            Truncate("cut", 1, 2, 14),
            MaxPool("pool", 2, 3, (3, 3), (2, 2), (0, 1, 0, 1), (1, 13)),
            Relu("relu", 3, 4, WINDOW),
            Linear("head", 4, 5, (4, 4)),
            Output("logits", 5),
        ),
    )
    prediction = predict(program)
    steps = {step.name: step for step in prediction.steps}
    assert steps["image"].online == Traffic(64 * 27, 0)
    assert steps["conv"].offline == Traffic(36 * 27, 0)  # 10x10 padded positions but the inner 8x8
    assert steps["head"].offline == Traffic()
    assert steps["pool"].comparisons == 2 * (8 + 4) * (3 * 2 + 1)  # rows then columns, the last window has 2
    assert steps["relu"].online == Traffic(75, 40).times(32)
    assert (steps["pool"].rounds, steps["relu"].rounds, steps["cut"].rounds) == (20, 4, 1)
    assert prediction.rounds == 26
    total = prediction.to_json()
    assert total["offline"]["bytes_to_developer"] >= TICKET_BYTES
    assert total["online"]["bytes_to_developer"] * 8 >= sum(s.online.to_developer for s in prediction.steps)


def test_input_read_by_two_layers_is_masked_again() -> None:
    values = (Value((1, 4, 4), 27), Value((1, 4, 4), 27), Value((1, 4, 4), 27))
    program = Program(
        values,
        (
            Input("image", 0),
            Linear("a", 0, 1, (1, 1)),
            Linear("b", 0, 2, (1, 1)),
            Output("x", 1),
            Output("y", 2),
        ),
    )
    assert [step.offline.to_developer for step in predict(program).steps][1:3] == [0, 16 * 27]


def network(size: int, channels: int) -> tuple[Program, dict[str, dict[str, NDArray[Any]]]]:
    value, pooled = Value((channels, size, size), 27), Value((channels, size // 2, size // 2), 27)
    program = Program(
        (Value((1, size, size), 27), value, value, pooled, pooled, pooled, Value((2, 1, 1), 27)),
        (
            Input("image", 0),
            Linear("conv", 0, 1, (3, 3), padding=(1, 1, 1, 1)),
            Truncate("cut", 1, 2, 14),
            MaxPool("pool", 2, 3, (3, 3), (2, 2), (0, 1, 0, 1), (1, 13)),
            Relu("relu", 3, 4, WINDOW),
            Linear("again", 4, 5, (1, 1)),
            Linear("head", 5, 6, (size // 2, size // 2)),
            Output("logits", 6),
        ),
    )
    square = (channels, channels, 1, 1)
    parameters = {
        "conv": {"weights": np.ones((channels, 1, 3, 3), np.int16), "bias": np.zeros(channels, np.int64)},
        "relu": {"threshold": np.zeros(channels, np.int32), "flip": np.zeros(channels, np.uint8)},
        "again": {"weights": np.ones(square, np.int16), "bias": np.zeros(channels, np.int64)},
        "head": {
            "weights": np.ones((2, channels, size // 2, size // 2), np.int16),
            "bias": np.zeros(2, np.int64),
        },
    }
    return program, parameters


# The larger network uses up what the set-up of `ferret` has left over: 3.9 million OTs of each kind.
@pytest.mark.parametrize(
    ("engine", "size", "channels"), [("softspoken", 64, 8), ("ferret", 64, 8), ("ferret", 256, 12)]
)
def test_prediction_is_what_two_parties_send(engine: str, size: int, channels: int) -> None:
    program, parameters = network(size, channels)
    backend = SecureBackend(program, parameters, ot_engine=engine)
    backend.run(np.ones((1, size, size), np.int32))
    measured, predicted = backend.stats(), predict(program, engine)
    # The last case begins a second round.
    assert any(step.from_hospital.table_seeds for step in predicted.steps) == (size == 256)
    phases = {"setup": predicted.setup, "online": predicted.online, "offline": predicted.offline}
    for phase, cost in phases.items():
        bytes_each_way = cost.to_json()
        # Frames and nonces.
        sent, received = measured[phase]["bytes_sent"], measured[phase]["bytes_received"]
        assert sent == pytest.approx(bytes_each_way["bytes_to_developer"], rel=0.02, abs=200), phase
        assert received == pytest.approx(bytes_each_way["bytes_to_hospital"], rel=0.02, abs=200), phase


def small_ring(size: int, channels: int) -> tuple[Program, dict[str, dict[str, NDArray[Any]]]]:
    """What the compiler makes: local truncations, a pool and ReLUs in a ring of 12 bits, extensions to 26."""
    half = size // 2
    pooled, image = (channels, half, half), Value((1, size, size), 26)
    program = Program(
        (
            image,
            Value((channels, size, size), 26),
            Value((channels, size, size), 12),
            Value(pooled, 12),
            Value(pooled, 26),
            Value(pooled, 26),
            Value(pooled, 12),
            Value(pooled, 26),
            Value((2, 1, 1), 26),
        ),
        (
            Input("image", 0),
            Linear("conv", 0, 1, (3, 3), padding=(1, 1, 1, 1)),
            Truncate("cut", 1, 2, 14),
            MaxPool("pool", 2, 3, (3, 3), (2, 2), (0, 1, 0, 1), (1, 12)),
            Relu("relu", 3, 4, (3, 11)),
            Linear("again", 4, 5, (1, 1)),
            Truncate("cut again", 5, 6, 14),
            ReluClipped("relu6", 6, 7, (3, 11)),
            Linear("head", 7, 8, (half, half)),
            Output("logits", 8),
        ),
    )
    _, parameters = network(size, channels)
    parameters["relu6"] = {"threshold": np.zeros(channels, np.int32), "ceiling": np.ones(channels, np.int32)}
    return program, parameters


@pytest.mark.parametrize(("engine", "size"), [("softspoken", 128), ("ferret", 256)])
def test_prediction_with_small_rings_is_what_two_parties_send(engine: str, size: int) -> None:
    program, parameters = small_ring(size, 16)
    backend = SecureBackend(program, parameters, ot_engine=engine)
    backend.run(np.ones((1, size, size), np.int32))
    measured, predicted = backend.stats(), predict(program, engine)
    for phase, cost in {"online": predicted.online, "offline": predicted.offline}.items():
        bytes_each_way = cost.to_json()
        sent, received = measured[phase]["bytes_sent"], measured[phase]["bytes_received"]
        # Frames and nonces.
        assert sent == pytest.approx(bytes_each_way["bytes_to_developer"], rel=0.002, abs=4000), phase
        assert received == pytest.approx(bytes_each_way["bytes_to_hospital"], rel=0.002, abs=4000), phase


def test_tickets_of_ferret_begin_the_rounds_of_their_turn() -> None:
    program, _ = network(256, 12)
    tickets = [predict(program, "ferret", ticket=n).steps for n in (1, 2, 3)]
    seeds = [sum(step.from_hospital.table_seeds for step in steps) for steps in tickets]
    tables = sum(step.from_hospital.table for step in tickets[0])
    assert len(set(seeds)) > 1
    # A round of tables gives 15352 chunks of 256 and starts from 1032; the first one's seeds are not counted.
    assert sum(seeds) == 3 * tables // (15352 * 256) * 1032 * 256


def test_unknown_engine_is_named() -> None:
    with pytest.raises(OptionError, match="got iknp"):
        predict(network(8, 1)[0], "iknp")
