"""Affine maps vanish: into convolutions (exactly at borders), behind pooling, around ReLUs."""

import numpy as np
import pytest

from secure_infer.compiler.graph import Add, Affine, Concat, Conv, MaxPool, Relu, Subsample, SumPool
from secure_infer.compiler.passes import simplify
from secure_infer.compiler.passes.affines import fold_affines, leave_no_affine
from tests.secure_infer.compiler.graphs import assert_same_function, conv, editor, finished, kinds


def affine(rng, channels, signs=True):
    scale = rng.uniform(0.3, 2.0, channels)
    return Affine(scale * (rng.choice([-1, 1], channels) if signs else 1), rng.normal(0, 1, channels))


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_map_behind_a_convolution_is_folded_into_it(rng):
    e = editor()
    e.put("c", conv(rng, 3, 6, padding=(1, 1, 1, 1), groups=3), "image")
    e.put("bn", affine(rng, 6), "c")
    before = finished(e, "bn")
    after = fold_affines(before)
    assert kinds(after) == {"Image": 1, "Conv": 1}
    assert_same_function(before, after)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("padding", [(0, 0, 0, 0), (1, 1, 1, 1), (0, 2, 3, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
def test_map_before_a_convolution_is_folded_exactly_at_the_border(rng, groups, padding, stride):
    e = editor()
    e.put("normalise", affine(rng, 3), "image")
    e.put("c", conv(rng, 3, 6, groups=groups, padding=padding, stride=stride, dilation=(1, 2)), "normalise")
    before = finished(e, "c")
    after = fold_affines(before)
    assert kinds(after) == {"Image": 1, "Conv": 1}
    op = after.nodes["c"].op
    assert isinstance(op, Conv)
    assert op.bias.ndim == (3 if any(padding) else 1)
    assert_same_function(before, after)


def test_map_between_padded_convolutions_with_other_users_is_folded_into_each(rng):
    e = editor()
    e.put("c", conv(rng, 3, 4), "image")
    e.put("bn", affine(rng, 4), "c")
    e.put("left", conv(rng, 4, 2, padding=(1, 1, 1, 1)), "bn")
    e.put("right", conv(rng, 4, 2, kernel=(1, 1)), "bn")
    e.put("raw", conv(rng, 4, 2, kernel=(1, 1)), "c")
    before = finished(e, "left", "right", "raw")
    after = fold_affines(before)
    assert kinds(after) == {"Image": 1, "Conv": 4}
    assert_same_function(before, after)


def test_batch_norm_before_relu_becomes_threshold_flip_and_factor(rng):
    e = editor()
    e.put("join", Concat(), "image", "image")
    e.put("bn", affine(rng, 6), "join")
    e.put("relu", Relu.plain(6), "bn")
    e.put("c", conv(rng, 6, 4, padding=(1, 1, 1, 1)), "relu")
    before = finished(e, "c")
    after = fold_affines(before)
    assert kinds(after) == {"Image": 1, "Concat": 1, "Relu": 1, "Conv": 1}
    op = after.nodes["relu"].op
    assert isinstance(op, Relu)
    assert op.flip.any()
    assert not op.flip.all()
    assert_same_function(before, after)


def test_batch_norm_with_zero_tiny_and_negative_factors_keeps_the_function():
    e = editor((5, 6, 6))
    scale = np.array([0.0, 0.0, 1e-9, -1e-9, -2.0])
    shift = np.array([1.5, -1.5, 0.7, 0.7, 0.3])
    e.put("join", Concat(), "image")
    e.put("bn", Affine(scale, shift), "join")
    e.put("relu", Relu.plain(5), "bn")
    e.put("c", conv(np.random.default_rng(1), 5, 3, padding=(1, 1, 1, 1)), "relu")
    before = finished(e, "c")
    assert_same_function(before, fold_affines(before))


def test_clipped_relu_with_positive_factors_is_split_and_with_negative_ones_is_not(rng):
    for scale, expected in ((np.array([0.5, 2.0, 1.0]), 1), (np.array([0.5, -2.0, 1.0]), 2)):
        e = editor()
        e.put("join", Concat(), "image")
        e.put("bn", Affine(scale, np.array([0.1, 0.2, -0.3])), "join")
        e.put("relu", Relu.plain(3, 6.0), "bn")
        e.put("c", conv(rng, 3, 4), "relu")
        before = finished(e, "c")
        after = leave_no_affine(fold_affines(before))
        assert kinds(after)["Conv"] == expected
        assert kinds(after)["Affine"] == 0
        assert_same_function(before, after)


@pytest.mark.parametrize(
    "pool", [SumPool((2, 3), (2, 2)), MaxPool((3, 3), (2, 2), (1, 1, 1, 1)), Subsample((2, 2))]
)
def test_map_moves_behind_pooling_into_the_next_convolution(rng, pool):
    e = editor()
    e.put("join", Concat(), "image")
    e.put("bn", affine(rng, 3, signs=False), "join")
    e.put("pool", pool, "bn")
    e.put("c", conv(rng, 3, 2, kernel=(2, 2)), "pool")
    before = finished(e, "c")
    after = fold_affines(before)
    assert kinds(after)["Affine"] == 0
    assert_same_function(before, after)


def test_map_with_negative_factors_stays_before_a_max_pool(rng):
    e = editor()
    e.put("join", Concat(), "image")
    e.put("bn", Affine(np.array([1.0, -1.0, 2.0]), np.zeros(3)), "join")
    e.put("pool", MaxPool((2, 2), (2, 2)), "bn")
    before = finished(e, "pool")
    after = leave_no_affine(fold_affines(before))
    assert kinds(after) == {"Image": 1, "Concat": 1, "Conv": 1, "MaxPool": 1}
    assert_same_function(before, after)


def test_maps_before_a_concatenation_meet_behind_it(rng):
    e = editor()
    e.put("a", affine(rng, 3), "image")
    e.put("r", Relu.plain(3), "image")
    e.put("join", Concat(), "a", "r", "image")
    e.put("c", conv(rng, 9, 2, padding=(1, 1, 1, 1)), "join")
    before = finished(e, "c")
    after = fold_affines(before)
    assert kinds(after) == {"Image": 1, "Relu": 1, "Concat": 1, "Conv": 1}
    assert_same_function(before, after)


def test_map_before_a_sum_becomes_a_convolution_of_single_channels(rng):
    e = editor()
    e.put("a", affine(rng, 3), "image")
    e.put("sum", Add(), "a", "image")
    before = finished(e, "sum")
    after = simplify(before)
    assert kinds(after) == {"Image": 1, "Conv": 1, "Add": 1}
    op = after.nodes["a"].op
    assert isinstance(op, Conv)
    assert op.groups == 3
    assert_same_function(before, after)
