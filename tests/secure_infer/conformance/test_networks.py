"""Small networks of many steps: two parties give what the reference gives with the protocol's roundings.

The roundings of inner layers are random, so the answer is a distribution: the reference draws from it 24
times, and the parties' answer must lie within six of its standard deviations, element by element. Without
roundings in between (a program of exact steps) both must agree to the last bit.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secure_infer.errors import InputRejected, ProgramError
from secure_infer.runtime import ReferenceBackend, SecureBackend
from secure_infer.runtime.program import Program
from secure_infer.runtime.steps import (
    Add,
    Concat,
    Input,
    Linear,
    MaxPool,
    Output,
    Relu,
    ReluClipped,
    Step,
    Subsample,
    SumPool,
    Truncate,
    Value,
)

Parameters = dict[str, dict[str, NDArray[Any]]]
Network = tuple[Program, Parameters]
WINDOW = (1, 12)
SHIFT = 12
DRAWS = 24


class Builder:
    """Adds steps one after another and draws parameters that keep values inside their windows."""

    def __init__(self, seed: int, shape: tuple[int, int, int]) -> None:
        self.rng = np.random.default_rng(seed)
        self.values = [Value(shape, 27)]
        self.steps: list[Step] = [Input("image", 0)]
        self.parameters: Parameters = {}

    def add(
        self, kind: Callable[..., Step], source: Any, shape: Any, bits: int, *rest: Any, **named: Any
    ) -> int:
        self.values.append(Value(shape, bits))
        out = len(self.values) - 1
        self.steps.append(kind(f"step {len(self.steps)}", source, out, *rest, **named))
        return out

    def conv(
        self, source: int, outs: int, size: int, stride: int = 1, groups: int = 1, cut: int | None = None
    ) -> int:
        """Convolution and truncation, to a ring of `cut` bits; about as large afterwards as before."""
        channels, high, wide = self.values[source].shape
        bits = self.values[source].ring_bits
        shape = (outs, (high - 1) // stride + 1, (wide - 1) // stride + 1)
        edge = size // 2
        out = self.add(
            Linear, source, shape, bits, (size, size), (stride, stride), (1, 1), (edge,) * 4, groups
        )
        taps = channels // groups * size * size
        limit = int(2**SHIFT * 1.5 / np.sqrt(taps))
        self.parameters[self.steps[-1].name] = {
            "weights": self.rng.integers(-limit, limit + 1, (outs, channels // groups, size, size)).astype(
                np.int16
            ),
            "bias": self.rng.integers(-(2 ** (SHIFT + 7)), 2 ** (SHIFT + 7), outs),
        }
        return self.add(Truncate, out, shape, cut or bits, SHIFT)

    def relu(self, source: int, bits: int | None = None) -> int:
        """Into a ring of `bits`, or the source's."""
        value = self.values[source]
        out = self.add(Relu, source, value.shape, bits or value.ring_bits, WINDOW)
        channels = value.shape[0]
        self.parameters[self.steps[-1].name] = {
            "threshold": self.rng.integers(-100, 101, channels).astype(np.int32),
            "flip": (self.rng.random(channels) < 0.3).astype(np.uint8),
        }
        return out

    def relu6(self, source: int, bits: int | None = None) -> int:
        """Into a ring of `bits`, or the source's."""
        value = self.values[source]
        out = self.add(ReluClipped, source, value.shape, bits or value.ring_bits, WINDOW)
        channels = value.shape[0]
        self.parameters[self.steps[-1].name] = {
            "threshold": self.rng.integers(-20, 21, channels).astype(np.int32),
            "ceiling": self.rng.integers(100, 400, channels).astype(np.int32),
        }
        return out

    def head(self, source: int, classes: int) -> Network:
        channels, high, wide = self.values[source].shape
        bits = self.values[source].ring_bits
        pooled = self.add(SumPool, source, (channels, 1, 1), bits, (high, wide), (high, wide))
        out = self.add(Linear, pooled, (classes, 1, 1), bits, (1, 1))
        self.parameters[self.steps[-1].name] = {
            "weights": self.rng.integers(-30, 31, (classes, channels, 1, 1)).astype(np.int16),
            "bias": self.rng.integers(-(2**15), 2**15, classes),
        }
        self.steps.append(Output("logits", out))
        return Program(tuple(self.values), tuple(self.steps)), self.parameters


def residual() -> Network:
    """Two blocks with a projection, the identity shifted up, a ring that grows in a truncation."""
    b = Builder(1, (2, 12, 12))
    x = b.relu(b.conv(0, 6, 3))
    y = b.conv(b.relu(b.conv(x, 6, 3)), 6, 3)
    total = b.add(Add, (x, y), (6, 12, 12), 27, (SHIFT, SHIFT))
    x = b.relu(b.add(Truncate, total, (6, 12, 12), 29, SHIFT))
    y = b.conv(b.relu(b.conv(x, 8, 3, stride=2)), 8, 3)
    short = b.conv(b.add(Subsample, x, (6, 6, 6), 29, (2, 2)), 8, 1)
    return b.head(b.relu(b.add(Add, (short, y), (8, 6, 6), 29, (0, 0))), 5)


def dense() -> Network:
    """A stem with max-pooling before its activation, growth by concatenation, average pooling."""
    b = Builder(2, (1, 20, 18))
    x = b.conv(0, 6, 7, stride=2)
    x = b.add(MaxPool, x, (6, 5, 5), 27, (3, 3), (2, 2), (1, 1, 1, 1), (1, 13))
    for _ in range(3):
        channels = b.values[x].shape[0]
        grown = b.conv(b.relu(b.conv(b.relu(x), 8, 1)), 3, 3)
        x = b.add(Concat, (x, grown), (channels + 3, 5, 5), 27)
    x = b.add(SumPool, b.relu(x), (15, 2, 2), 27, (2, 2), (2, 2))
    return b.head(b.relu(b.conv(x, 8, 1)), 3)


def mobile() -> Network:
    """Depthwise convolutions between pointwise ones, activations clipped at both ends."""
    b = Builder(3, (3, 14, 14))
    x = b.relu6(b.conv(0, 8, 3, stride=2))
    for stride in (1, 2):
        x = b.relu6(b.conv(x, 8, 3, stride=stride, groups=8))
        x = b.relu6(b.conv(x, 8, 1))
    return b.head(x, 4)


def small_rings() -> Network:
    """Local truncations to 13 bits, a pool and a concatenation there, ReLUs that leave that ring."""
    b = Builder(5, (2, 18, 16))
    x = b.conv(0, 6, 3, cut=13)
    x = b.add(MaxPool, x, (6, 9, 8), 13, (3, 2), (2, 2), (1, 1, 0, 0), (1, 13))
    grown = b.conv(b.relu6(b.conv(b.relu(x, 27), 8, 1, cut=13), 27), 3, 3, cut=13)
    x = b.add(Concat, (x, grown), (9, 9, 8), 13)
    y = b.conv(b.relu(x, 27), 9, 3)
    total = b.add(Add, (b.relu(x, 29), y), (9, 9, 8), 27, (0, 0))
    return b.head(b.relu(b.conv(total, 6, 1, cut=13), 31), 4)


@pytest.mark.parametrize("make", [residual, dense, mobile, small_rings])
@pytest.mark.parametrize("seed", range(3))
def test_network_answers_lie_in_the_reference_s_distribution(make: Callable[[], Network], seed: int) -> None:
    program, parameters = make()
    rng = np.random.default_rng(seed)
    x = rng.integers(-500, 501, program.input_value.shape, dtype=np.int32)
    reference = ReferenceBackend(program, parameters)
    draws = np.array([reference.run(x, rng=np.random.default_rng((seed, i)))["logits"] for i in range(DRAWS)])
    got = SecureBackend(program, parameters).run(x)["logits"]
    assert np.ptp(draws.mean(axis=0)) > 20 * draws.std(axis=0).max(), "noise must not hide the answer"
    assert (np.abs(got - draws.mean(axis=0)) <= 6 * draws.std(axis=0) * (1 + DRAWS**-0.5) + 1).all()


def test_network_two_runs_differ_in_their_roundings_only() -> None:
    program, parameters = dense()
    x = np.random.default_rng(0).integers(-500, 501, program.input_value.shape, dtype=np.int32)
    parties = SecureBackend(program, parameters)
    first, second = parties.run(x)["logits"], parties.run(x)["logits"]
    assert not np.array_equal(first, second)
    assert np.abs(first - second).max() < 0.1 * np.ptp(first)


def test_exact_steps_agree_to_the_last_bit() -> None:
    b = Builder(4, (3, 13, 12))
    x = b.add(MaxPool, 0, (3, 6, 6), 27, (3, 2), (2, 2), (0, 0, 0, 0), (0, 12))
    y = b.add(Relu, x, (3, 6, 6), 20, (0, 12))
    name = b.steps[-1].name
    b.parameters[name] = {"threshold": np.array([1, -2, 3], np.int32), "flip": np.array([0, 1, 1], np.uint8)}
    total = b.add(Add, (x, y, y), (3, 6, 6), 20, (1, 0, 3))
    b.steps += [Output("sum", total), Output("relu", y), Output("same", 0)]
    program = Program(tuple(b.values), tuple(b.steps))
    x_in = np.random.default_rng(8).integers(-900, 901, (3, 13, 12), dtype=np.int32)
    wanted = ReferenceBackend(program, b.parameters).run(x_in)
    got = SecureBackend(program, b.parameters).run(x_in)
    assert list(got) == ["sum", "relu", "same"]
    for output in wanted:
        assert np.array_equal(got[output], wanted[output]), output


def test_output_noise_is_as_wide_as_asked_for() -> None:
    shape = (4, 32, 32)
    program = Program((Value(shape, 24),), (Input("image", 0), Output("opened", 0)))
    x = np.random.default_rng(1).integers(-900, 901, shape, dtype=np.int32)
    error = SecureBackend(program, {}, output_noise=100.0).run(x)["opened"] - x
    assert abs(error.std() / 100 - 1) < 6 / np.sqrt(2 * error.size)
    assert abs(error.mean()) < 6 * 100 / np.sqrt(error.size)


def test_backend_refuses_what_does_not_fit_the_program() -> None:
    program, parameters = mobile()
    parties = SecureBackend(program, parameters)
    with pytest.raises(InputRejected):
        parties.run(np.zeros((3, 14, 13), np.int32))
    with pytest.raises(ProgramError):
        SecureBackend(program, {name: arrays for name, arrays in parameters.items() if name != "step 1"})
