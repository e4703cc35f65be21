"""The integer kernels against sums written out in Python's own integers."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from secure_infer.runtime.backends import integer_ops as ops
from secure_infer.runtime.steps import Linear, SumPool, output_extent


def naive(step: Linear, x: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> np.ndarray:
    top, bottom, left, right = step.padding
    padded = np.pad(x.astype(object), ((0, 0), (top, bottom), (left, right)))
    (kh, kw), (sh, sw), (dh, dw) = step.kernel, step.stride, step.dilation
    high = output_extent(x.shape[1], kh, sh, dh, top + bottom)
    wide = output_extent(x.shape[2], kw, sw, dw, left + right)
    per_input, per_output = weights.shape[1], len(weights) // step.groups
    out = np.empty((len(weights), high, wide), object)
    for o, i, j in np.ndindex(*out.shape):
        total = int(bias[o] if bias.ndim == 1 else bias[o, i, j])
        first = o // per_output * per_input
        for c, a, b in np.ndindex(per_input, kh, kw):
            total += int(weights[o, c, a, b]) * padded[first + c, i * sh + a * dh, j * sw + b * dw]
        out[o, i, j] = total
    return out


@st.composite
def convolutions(draw):
    side = st.integers(1, 3)
    groups = draw(st.sampled_from([1, 2, 3]))
    per_input, per_output = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    kernel = (draw(side), draw(side))
    dilation = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
    padding = tuple(draw(st.integers(0, 2)) for _ in range(4))
    extents = [draw(st.integers((k - 1) * d + 1, 7)) for k, d in zip(kernel, dilation, strict=True)]
    step = Linear("l", 0, 1, kernel, (draw(side), draw(side)), dilation, padding, groups)
    return step, (groups * per_input, *extents), (groups * per_output, per_input, *kernel)


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.booleans(), st.integers(0, 2**32 - 1))
def test_linear_of_any_geometry_equals_the_written_out_sum(shape, large, seed):
    step, image, kernel = shape
    rng = np.random.default_rng(seed)
    limit = 2**30 if large else 2**12
    x = rng.integers(-limit, limit, image)
    weights = rng.integers(-32767, 32768, kernel).astype(np.int16)
    bias = rng.integers(-(2**40), 2**40, kernel[0])
    expected = naive(step, x, weights, bias)
    assert (ops.linear(step, x, weights, bias) == expected.astype(np.int64)).all()
    by_position = np.broadcast_to(bias[:, None, None], expected.shape).copy()
    assert (ops.linear(step, x, weights, by_position) == expected.astype(np.int64)).all()


def test_linear_with_sums_beyond_float64_is_still_exact():
    step = Linear("l", 0, 1, (1, 1))
    x = np.full((4096, 1, 1), 2**30 - 1)
    x[::2] -= 1
    weights = np.full((1, 4096, 1, 1), 32767, np.int16)
    exact = 2048 * 32767 * (2**30 - 1) + 2048 * 32767 * (2**30 - 2)
    assert exact > 2**53
    assert ops.linear(step, x, weights, np.array([5])).item() == exact + 5


@given(st.integers(-(2**62), 2**62), st.integers(8, 31))
def test_signed_is_the_representative_in_half_the_ring(x, ring_bits):
    found = int(ops.signed(np.array([x]), ring_bits)[0])
    assert -(2 ** (ring_bits - 1)) <= found < 2 ** (ring_bits - 1)
    assert (found - x) % 2**ring_bits == 0


@given(st.integers(0, 2**32 - 1), st.tuples(*[st.integers(1, 3)] * 4), st.tuples(*[st.integers(0, 1)] * 4))
@settings(deadline=None)
def test_sum_pool_equals_the_sum_over_each_window(seed, sizes, padding):
    ph, pw, sh, sw = sizes
    padding = tuple(min(p, size - 1) for p, size in zip(padding, (ph, ph, pw, pw), strict=True))
    x = np.random.default_rng(seed).integers(-99, 99, (2, 5, 6))
    step = SumPool("s", 0, 1, (ph, pw), (sh, sw), padding)
    out = ops.sum_pool(step, x)
    padded = np.pad(x, ((0, 0), padding[:2], padding[2:]))
    for c, i, j in np.ndindex(*out.shape):
        assert out[c, i, j] == padded[c, i * sh : i * sh + ph, j * sw : j * sw + pw].sum()
