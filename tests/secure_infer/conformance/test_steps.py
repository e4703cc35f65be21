"""Every step, on every backend, against its formula in plain numpy and the protocol's error bounds.

The expected values are computed here, with other code than the backends'. Bounds: design of the protocol,
sections 2 (linear), 4 (comparisons) and 5 (truncation); six standard deviations where an error is random.
"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

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
    output_extent,
)

Int64 = NDArray[np.int64]
SIGMAS = 6


def program(values: list[tuple[tuple[int, int, int], int]], *steps: Step) -> Program:
    return Program(tuple(Value(shape, bits) for shape, bits in values), steps)


def integers(rng: np.random.Generator, limit: int, shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Uniform in [-limit, limit], both ends certainly among them."""
    x = rng.integers(-limit, limit + 1, shape, dtype=np.int32)
    x.flat[0], x.flat[-1] = limit, -limit
    return x


def signed(x: Int64, bits: int) -> Int64:
    half = 1 << (bits - 1)
    return (x + half) % (2 * half) - half


# Linear: [shape in], out channels, kernel, stride, dilation, padding, groups
LINEAR = [
    ((1, 8, 8), 3, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1),
    ((3, 12, 10), 5, (3, 3), (2, 2), (1, 1), (0, 1, 0, 1), 1),
    ((2, 17, 9), 4, (7, 5), (2, 3), (1, 1), (3, 3, 2, 2), 1),
    ((4, 9, 9), 4, (3, 3), (1, 1), (2, 2), (2, 2, 2, 2), 1),
    ((6, 8, 8), 6, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 6),
    ((6, 9, 7), 12, (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), 6),
    ((8, 6, 6), 12, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 4),
    ((16, 5, 5), 8, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), 1),
    ((16, 8, 8), 8, (1, 1), (2, 2), (1, 1), (0, 0, 0, 0), 1),
    ((9, 7, 7), 10, (7, 7), (1, 1), (1, 1), (0, 0, 0, 0), 1),
    ((300, 1, 1), 11, (1, 1), (1, 1), (1, 1), (0, 0, 0, 0), 1),
    ((1, 70, 61), 2, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1),
    ((3, 96, 50), 2, (7, 7), (2, 2), (1, 1), (3, 3, 3, 3), 1),
    ((2, 1, 40), 3, (1, 5), (1, 2), (1, 3), (0, 0, 4, 1), 1),
]


def convolution(step: Linear, x: NDArray[Any], w: NDArray[Any], out: tuple[int, int, int]) -> NDArray[Any]:
    """Tap by tap: slow, and plainly the definition of cross-correlation."""
    top, bottom, left, right = step.padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    made = np.zeros(out, x.dtype)
    inside, outside = w.shape[1], out[0] // step.groups
    for o in range(out[0]):
        first = o // outside * inside
        for i in range(inside):
            for ky in range(step.kernel[0]):
                for kx in range(step.kernel[1]):
                    y0, x0 = ky * step.dilation[0], kx * step.dilation[1]
                    rows = slice(y0, y0 + out[1] * step.stride[0], step.stride[0])
                    columns = slice(x0, x0 + out[2] * step.stride[1], step.stride[1])
                    made[o] += w[o, i, ky, kx] * padded[first + i, rows, columns][: out[1], : out[2]]
    return made


@pytest.mark.parametrize("bias_per_position", [False, True])
@pytest.mark.parametrize("case", LINEAR, ids=[f"{c[0]}x{c[2]}s{c[3]}g{c[6]}" for c in LINEAR])
def test_linear_is_the_convolution_within_rounding_and_noise(
    run: Any, case: tuple[Any, ...], bias_per_position: bool
) -> None:
    shape, outs, kernel, stride, dilation, padding, groups = case
    rng = np.random.default_rng(sum(shape) + outs)
    high = output_extent(shape[1], kernel[0], stride[0], dilation[0], padding[0] + padding[1])
    wide = output_extent(shape[2], kernel[1], stride[1], dilation[1], padding[2] + padding[3])
    bits = int(rng.integers(24, 32))
    step = Linear("conv", 0, 1, kernel, stride, dilation, padding, groups)
    out = (outs, high, wide)
    w = integers(rng, 2047, (outs, shape[0] // groups, *kernel)).astype(np.int16)
    bias = rng.integers(-(2**40), 2**40, out if bias_per_position else outs, dtype=np.int64)
    x = integers(rng, 1 << 11, shape)
    wanted = convolution(step, x.astype(np.int64), w.astype(np.int64), out)
    wanted += bias if bias_per_position else bias[:, None, None]
    made = program([(shape, bits), (out, bits)], Input("image", 0), step, Output("opened", 1))
    got = run(made, {"conv": {"weights": w, "bias": bias}}, x)["opened"]
    assert np.array_equal(got, signed(got, bits))
    # What is rounded covers the padding too, so all taps count at the edges as well.
    squares = (w.astype(np.float64) ** 2).sum(axis=(1, 2, 3), keepdims=True)[..., 0]
    spread = np.sqrt(squares / 12 + 4.0 ** (9 + bits - 27))
    error = signed(got - wanted, bits)
    assert (np.abs(error) <= SIGMAS * spread + 1).all()
    # Not biased either: the mean error of all outputs is within its own spread (they share inputs).
    assert abs(error.mean()) <= SIGMAS * spread.mean()


def test_linear_with_largest_weights_wraps_in_the_ring_and_nowhere_else(run: Any) -> None:
    rng = np.random.default_rng(3)
    step = Linear("conv", 0, 1, (3, 3), padding=(1, 1, 1, 1))
    w = np.full((2, 4, 3, 3), 32767, np.int16)
    w[1] = -32767
    x = integers(rng, (1 << 29) - 1, (4, 6, 6))
    wanted = convolution(step, x.astype(np.int64), w.astype(np.int64), (2, 6, 6))
    made = program([((4, 6, 6), 30), ((2, 6, 6), 30)], Input("image", 0), step, Output("opened", 1))
    got = run(made, {"conv": {"weights": w, "bias": np.zeros(2, np.int64)}}, x)["opened"]
    spread = np.sqrt(36 * 32767.0**2 / 12 + 4.0**12)
    assert (np.abs(signed(got - wanted, 30)) <= SIGMAS * spread).all()


TRUNCATE = [(14, 27, 27), (10, 27, 29), (14, 27, 13), (14, 27, 16), (5, 30, 31), (1, 9, 8), (20, 31, 11)]


@pytest.mark.parametrize(("shift", "bits", "out_bits"), TRUNCATE)
def test_truncation_is_off_by_less_than_one_and_unbiased(
    run: Any, shift: int, bits: int, out_bits: int
) -> None:
    rng = np.random.default_rng(shift)
    low, high = -(1 << (bits - 2)) - (1 << shift), (1 << (bits - 2)) - (1 << shift) - 1
    if out_bits < bits - shift:  # what is dropped at the top must be zero for the result to be readable
        low, high = max(low, -(1 << (out_bits - 2 + shift))), min(high, 1 << (out_bits - 2 + shift))
    x = rng.integers(low, high + 1, (5, 23, 24), dtype=np.int32)
    x[0, 0, :2] = low, high
    made = program(
        [(x.shape, bits), (x.shape, out_bits)],
        Input("image", 0),
        Truncate("cut", 0, 1, shift),
        Output("opened", 1),
    )
    got = run(made, {}, x)["opened"]
    error = got - x / 2**shift
    assert (np.abs(error) <= 1).all()
    assert abs(error.mean()) <= SIGMAS * 0.5 / np.sqrt(x.size) + 0.5**shift


@pytest.mark.parametrize("low", [0, 1, 4])
@pytest.mark.parametrize("width", range(2, 17))
def test_relu_of_every_window_is_exact_above_its_low_bits(run: Any, width: int, low: int) -> None:
    rng = np.random.default_rng(width)
    high = low + width
    limit = (1 << (high - 1)) - (1 << low) - 1
    threshold = rng.integers(-(limit // 3), limit // 3 + 1, 4, dtype=np.int32)
    flip = np.array([0, 1, 0, 1], np.uint8)
    y = integers(rng, limit, (4, 9, 8)).astype(np.int64)
    y[:, 1, :] = np.arange(-4, 4)  # around zero, in every channel
    y[:, 2, :] = np.arange(-16, 16, 4)
    y = np.clip(y, -limit, limit)
    x = (y - threshold[:, None, None]).astype(np.int32)
    bits = int(rng.integers(max(high, 8), 32))
    out_bits = int(rng.integers(max(high, 8), bits + 1))
    made = program(
        [(x.shape, bits), (x.shape, out_bits)],
        Input("image", 0),
        Relu("relu", 0, 1, (low, high)),
        Output("opened", 1),
    )
    got = run(made, {"relu": {"threshold": threshold, "flip": flip}}, x)["opened"]
    wanted = y * ((y >= 0) ^ (flip != 0)[:, None, None])
    half = (1 << low) >> 1
    small = (y >= -half) & (y < half)
    assert np.array_equal(got[~small], wanted[~small])
    assert (np.abs(got - wanted)[small] <= half).all()


@pytest.mark.parametrize("low", [0, 3])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_relu_leaves_a_small_ring_exactly_up_to_the_ends_of_its_window(run: Any, bits: int, low: int) -> None:
    """Both ends of the window, with both flips: the product fills half of the small ring."""
    limit = (1 << (bits - 2)) - (1 << low) - 1
    y = np.broadcast_to(np.linspace(-limit, limit, 300).astype(np.int64), (4, 1, 300)).copy()
    threshold = np.array([3, -limit, limit, 0], np.int32)  # y + threshold wraps nowhere, y alone may
    flip = np.array([0, 1, 0, 1], np.uint8)
    x = (y - threshold[:, None, None]).astype(np.int32)
    made = program(
        [(x.shape, bits), (x.shape, 31)],
        Input("image", 0),
        Relu("relu", 0, 1, (low, bits - 1)),
        Output("opened", 1),
    )
    got = run(made, {"relu": {"threshold": threshold, "flip": flip}}, x)["opened"]
    half = (1 << low) >> 1
    clear = (y < -half) | (y >= half)
    wanted = y * ((y >= 0) ^ (flip != 0)[:, None, None])
    assert np.array_equal(got[clear], wanted[clear])
    assert (np.abs(got)[~clear] <= half).all()


@pytest.mark.parametrize("width", [2, 3, 5, 8, 11, 12, 16])
@pytest.mark.parametrize("grown", [False, True])
def test_clipped_relu_is_exact_away_from_its_corners(run: Any, width: int, grown: bool) -> None:
    rng = np.random.default_rng(width)
    low, high = 1, width + 1
    bits, out_bits = (max(high + 1, 8), 31) if grown else (27, 20)
    limit = (1 << (high - 1)) - (1 << low) - 1
    ceiling = rng.integers(1, max(limit // 2, 1) + 1, 3, dtype=np.int32)
    threshold = rng.integers(-9, 10, 3, dtype=np.int32)
    # y and y - ceiling must both be inside the window.
    y = rng.integers(np.minimum(ceiling - limit, 0)[:, None, None], limit + 1, (3, 8, 9))
    y[:, 0, 0], y[:, 0, 1], y[:, 0, 2] = 0, ceiling, limit
    x = (y - threshold[:, None, None]).astype(np.int32)
    made = program(
        [(x.shape, bits), (x.shape, out_bits)],
        Input("image", 0),
        ReluClipped("relu6", 0, 1, (low, high)),
        Output("opened", 1),
    )
    got = run(made, {"relu6": {"threshold": threshold, "ceiling": ceiling}}, x)["opened"]
    top = ceiling[:, None, None].astype(np.int64)
    wanted = np.clip(y, 0, top)
    half = 1 << low - 1
    clear = (np.abs(y) > half) & (np.abs(y - top) > half)
    assert np.array_equal(got[clear], wanted[clear])
    assert (np.abs(got - wanted) <= 2 * half).all()


POOLS = [
    ((2, 2), (2, 2), (0, 0, 0, 0)),
    ((3, 3), (2, 2), (1, 1, 1, 1)),
    ((3, 3), (2, 2), (0, 1, 0, 1)),
    ((2, 3), (1, 2), (1, 0, 0, 2)),
    ((3, 2), (3, 1), (0, 0, 1, 1)),
    ((1, 4), (1, 1), (0, 0, 3, 3)),
    ((5, 1), (2, 1), (2, 2, 0, 0)),
    ((7, 7), (7, 7), (0, 0, 0, 0)),
]


def pooled(x: Int64, pool: Any, stride: Any, padding: Any, empty: int, reduce: Any) -> Int64:
    top, bottom, left, right = padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right)), constant_values=empty)
    windows = np.lib.stride_tricks.sliding_window_view(padded, pool, axis=(1, 2))
    made: Int64 = reduce(windows[:, :: stride[0], :: stride[1]], axis=(-2, -1))
    return made


@pytest.mark.parametrize(("pool", "stride", "padding"), POOLS)
@pytest.mark.parametrize("low", [0, 2])
def test_max_pool_is_the_maximum_of_the_pixels(
    run: Any, pool: Any, stride: Any, padding: Any, low: int
) -> None:
    rng = np.random.default_rng(pool)
    # All negative in one channel: zero padding would win.
    x = integers(rng, 500, (3, 14, 15))
    x[1] = -np.abs(x[1]) - 1
    wanted = pooled(x.astype(np.int64), pool, stride, padding, -(2**30), np.max)
    step = MaxPool("pool", 0, 1, pool, stride, padding, (low, 12))
    made = program([(x.shape, 20), (wanted.shape, 20)], Input("image", 0), step, Output("opened", 1))
    got = run(made, {}, x)["opened"]
    comparisons = pool[0] + pool[1] - 2
    assert (np.abs(got - wanted) <= comparisons * ((1 << low) - 1)).all()


@pytest.mark.parametrize(("pool", "stride", "padding"), POOLS)
def test_sum_pool_is_exact_with_zeros_around(run: Any, pool: Any, stride: Any, padding: Any) -> None:
    x = integers(np.random.default_rng(pool), 30000, (3, 14, 15))
    wanted = pooled(x.astype(np.int64), pool, stride, padding, 0, np.sum)
    step = SumPool("pool", 0, 1, pool, stride, padding)
    made = program([(x.shape, 20), (wanted.shape, 20)], Input("image", 0), step, Output("opened", 1))
    assert np.array_equal(run(made, {}, x)["opened"], signed(wanted, 20))


def test_local_steps_are_exact_and_reduce_to_the_smallest_ring(run: Any) -> None:
    x = integers(np.random.default_rng(5), 4000, (3, 9, 10))
    shape, joined, thin = (3, 9, 10), (6, 9, 10), (6, 5, 4)
    made = program(
        [(shape, 24), (shape, 16), (shape, 16), (joined, 16), (thin, 16)],
        Input("image", 0),
        Relu("relu", 0, 1, (0, 13)),
        Add("add", (0, 1), 2, (2, 0)),
        Concat("join", (0, 2), 3),
        Subsample("thin", 3, 4, (2, 3)),
        Output("all", 3),
        Output("some", 4),
    )
    zeros = {"threshold": np.zeros(3, np.int32), "flip": np.zeros(3, np.uint8)}
    got = run(made, {"relu": zeros}, x)
    wide = x.astype(np.int64)
    wanted = signed(np.concatenate([wide, 4 * wide + np.maximum(wide, 0)]), 16)
    assert np.array_equal(got["all"], wanted)
    assert np.array_equal(got["some"], wanted[:, ::2, ::3])
