"""The reference backend: exact functions, the protocol's roundings, and what its counters see."""

import json
from typing import Any

import numpy as np
import pytest

from secure_infer.errors import InputRejected, ProgramError
from secure_infer.runtime.backends import Observer, ReferenceBackend
from secure_infer.runtime.program import Program


def backend(
    values: list[Any], steps: list[Any], parameters: dict[str, Any] | None = None
) -> ReferenceBackend:
    """A backend for steps between an input and an output; values are (shape, ring)."""
    output = {"op": "output", "name": "y", "in": len(values) - 1}
    document = {
        "format": "blindread.program",
        "version": 1,
        "values": [{"shape": list(s), "ring_bits": r} for s, r in values],
        "steps": [{"op": "input", "name": "x", "out": 0}, *steps, output],
    }
    return ReferenceBackend(Program.from_json(json.dumps(document)), parameters or {})


def relu(window, threshold=0, flip=0, ring=27, count=4001):
    step = {"op": "relu", "name": "relu", "in": 0, "out": 1, "window": list(window)}
    arrays = {"threshold": np.full(1, threshold, np.int32), "flip": np.full(1, flip, np.uint8)}
    return backend([((1, 1, count), ring), ((1, 1, count), ring)], [step], {"relu": arrays})


LINE = np.arange(-2000, 2001)[None, None]


def test_relu_inside_its_window_is_exact():
    assert (relu((0, 13)).run(LINE)["y"] == np.maximum(LINE, 0)).all()
    assert (relu((3, 13)).run(LINE)["y"] == np.maximum(LINE, 0)).all()


def test_relu_with_threshold_and_flip_keeps_the_negative_side():
    y = LINE + 37
    assert (relu((0, 13), threshold=37).run(LINE)["y"] == np.maximum(y, 0)).all()
    assert (relu((0, 13), threshold=37, flip=1).run(LINE)["y"] == np.minimum(y, 0)).all()


def test_relu_with_roundings_is_wrong_only_below_the_window():
    low = 3
    out = relu((low, 13)).run(LINE, rng=np.random.default_rng(0))["y"]
    error = np.abs(out - np.maximum(LINE, 0))
    half = 2 ** (low - 1)
    assert error.max() <= half
    assert (error[(half <= LINE) | (-half > LINE)] == 0).all()
    assert error.any()


def test_relu_outside_its_window_sees_the_bit_the_protocol_sees():
    out = relu((0, 11)).run(LINE)["y"]
    inside = np.abs(LINE) < 1024
    assert (out[inside] == np.maximum(LINE, 0)[inside]).all()
    assert (out[LINE >= 1024] == 0).all()
    assert (out[LINE < -1024] == LINE[LINE < -1024]).all()


def test_observer_counts_what_leaves_or_falls_below_the_window():
    observer = Observer(keep=True)
    relu((3, 11)).run(LINE, observer=observer)
    seen = observer.statistics["relu"]
    assert seen.tested == 4001
    assert seen.outside == 2 * (2000 - (1024 - 8) + 1)
    assert seen.below == 7
    assert seen.peak == pytest.approx(2000 / 1016)
    assert observer.outside == seen.outside
    assert set(observer.values) == {"x", "relu"}


def test_relu_clipped_is_the_difference_of_two_relus():
    step = {"op": "relu_clipped", "name": "r", "in": 0, "out": 1, "window": [0, 13]}
    arrays = {"threshold": np.array([5], np.int32), "ceiling": np.array([600], np.int32)}
    made = backend([((1, 1, 4001), 27), ((1, 1, 4001), 27)], [step], {"r": arrays})
    assert (made.run(LINE)["y"] == np.clip(LINE + 5, 0, 600)).all()


def test_truncation_rounds_half_up_and_with_roundings_has_no_bias():
    y = np.arange(-500_000, 500_000, 17)[None, None]
    step = {"op": "truncate", "name": "t", "in": 0, "out": 1, "shift": 10}
    made = backend([((1, 1, y.size), 27), ((1, 1, y.size), 30)], [step])
    exact = made.run(y)["y"]
    assert (exact == np.floor(y / 1024 + 0.5)).all()
    error = made.run(y, rng=np.random.default_rng(0))["y"] - y / 1024
    assert np.abs(error).max() < 1
    assert abs(error.mean()) < 8e-3
    assert error.std() == pytest.approx(1 / np.sqrt(6), rel=0.03)


def test_truncation_beyond_its_range_is_counted():
    y = np.array([[[2**25 - 2**10 - 1, 2**25 - 2**10, -(2**25) + 2**10, 0]]])
    step = {"op": "truncate", "name": "t", "in": 0, "out": 1, "shift": 10}
    observer = Observer()
    backend([((1, 1, 4), 27), ((1, 1, 4), 27)], [step]).run(y, observer=observer)
    assert observer.statistics["t"].outside == 2


@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 0, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (2, 3)])
def test_max_pool_with_any_padding_is_the_maximum_of_the_pixels(padding, stride):
    x = np.random.default_rng(1).integers(-2000, 2000, (3, 8, 9))
    top, bottom, left, right = padding
    high, wide = (8 + top + bottom - 3) // stride[0] + 1, (9 + left + right - 3) // stride[1] + 1
    step = {"op": "max_pool", "name": "p", "in": 0, "out": 1, "pool": [3, 3], "stride": list(stride),
            "padding": list(padding), "window": [0, 13]}  # fmt: skip
    made = backend([((3, 8, 9), 27), ((3, high, wide), 27)], [step])
    padded = np.pad(x, ((0, 0), padding[:2], padding[2:]), constant_values=-(10**6))
    out = made.run(x)["y"]
    for c, i, j in np.ndindex(*out.shape):
        a, b = i * stride[0], j * stride[1]
        assert out[c, i, j] == padded[c, a : a + 3, b : b + 3].max()
    noisy = made.run(x, rng=np.random.default_rng(2))["y"]
    assert (noisy == out).all()  # a window from bit 0 leaves nothing to chance


def linear_backend(padding: int) -> tuple[ReferenceBackend, np.ndarray]:
    weights = np.random.default_rng(3).integers(-3000, 3000, (4, 2, 3, 3)).astype(np.int16)
    step = {"op": "linear", "name": "l", "in": 0, "out": 1, "kernel": [3, 3], "stride": [1, 1],
            "dilation": [1, 1], "padding": [padding] * 4, "groups": 1}  # fmt: skip
    side = 30 + 2 * padding
    bias = np.arange(4, dtype=np.int64) * 1000
    values = [((2, 32, 32), 27), ((4, side, side), 27)]
    return backend(values, [step], {"l": {"weights": weights, "bias": bias}}), weights


def test_linear_with_roundings_has_the_noise_of_rounded_inputs_and_masks():
    made, weights = linear_backend(0)
    x = np.random.default_rng(4).integers(0, 400, (2, 32, 32))
    error = made.run(x, rng=np.random.default_rng(5))["y"] - made.run(x)["y"]
    expected = np.sqrt((weights.astype(float) ** 2).sum(axis=(1, 2, 3)) / 12 + 2.0**18)
    assert error.std(axis=(1, 2)) == pytest.approx(expected, rel=0.15)
    assert (np.abs(error.mean(axis=(1, 2))) < expected / 5).all()


def test_linear_at_its_padding_rounds_nothing():
    made, weights = linear_backend(1)
    x = np.zeros((2, 32, 32), np.int64)
    errors = [made.run(x, rng=np.random.default_rng(i))["y"] - made.run(x)["y"] for i in range(40)]
    corner = np.std([e[:, 0, 0] for e in errors], axis=0)
    seen = weights[:, :, 1:, 1:].astype(float)  # the taps that see pixels in the upper left corner
    assert corner == pytest.approx(np.sqrt((seen**2).sum(axis=(1, 2, 3)) / 12 + 2.0**18), rel=0.45)


def test_rings_of_sums_and_concatenations_wrap_to_the_smallest():
    values = [((1, 1, 1), 12), ((1, 1, 1), 10), ((2, 1, 1), 10), ((2, 1, 1), 10)]
    steps = [
        {"op": "subsample", "name": "s", "in": 0, "out": 1, "stride": [1, 1]},
        {"op": "concat", "name": "c", "in": [0, 1], "out": 2},
        {"op": "add", "name": "a", "in": [2, 2], "out": 3, "shift": [0, 1]},
    ]
    assert backend(values, steps).run(np.array([[[700]]]))["y"].ravel().tolist() == [
        52,
        52,
    ]  # 2100 - 2 * 1024


def test_image_of_another_shape_or_kind_is_refused():
    with pytest.raises(InputRejected, match="integers of shape"):
        relu((0, 13)).run(LINE[:, :, 1:])
    with pytest.raises(InputRejected, match="integers of shape"):
        relu((0, 13)).run(LINE.astype(float))


def test_backend_without_parameters_is_refused():
    step = {"op": "relu", "name": "r", "in": 0, "out": 1, "window": [0, 12]}
    with pytest.raises(ProgramError, match="parameters"):
        backend([((1, 1, 1), 27), ((1, 1, 1), 27)], [step])
