"""Padding, pooling, channels, subsampling: each pass keeps the function and does what it is for."""

import numpy as np
import pytest

from secure_infer.compiler.graph import Add, Concat, Conv, MaxPool, Pad, Relu, SumPool
from secure_infer.compiler.passes import simplify
from secure_infer.compiler.passes.channels import compose_pointwise, merge_repeated_channels
from secure_infer.compiler.passes.padding import fold_padding
from secure_infer.compiler.passes.pooling import pool_before_pointwise, pool_before_relu
from secure_infer.compiler.passes.subsampling import subsample_early
from tests.secure_infer.compiler.graphs import assert_same_function, conv, editor, finished, kinds


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def test_padding_goes_into_convolutions_sums_and_max_pools_of_what_is_not_negative(rng):
    e = editor()
    e.put("relu", Relu.plain(3), "image")
    e.put("pad", Pad((1, 2, 0, 1)), "relu")
    e.put("c", conv(rng, 3, 2, padding=(1, 0, 0, 0)), "pad")
    e.put("m", MaxPool((3, 3), (2, 2)), "pad")
    e.put("s", SumPool((3, 3), (1, 1)), "pad")
    before = finished(e, "c", "m", "s")
    after = fold_padding(before)
    assert kinds(after)["Pad"] == 0
    assert kinds(after)["Conv"] == 1
    assert_same_function(before, after)


def test_padding_before_a_max_pool_of_negative_values_becomes_a_convolution():
    e = editor()
    e.put("pad", Pad((1, 1, 1, 1)), "image")
    e.put("m", MaxPool((3, 3), (2, 2)), "pad")
    before = finished(e, "m")
    after = fold_padding(before)
    assert kinds(after) == {"Image": 1, "Conv": 1, "MaxPool": 1}
    assert_same_function(before, after)


@pytest.mark.parametrize("ceiling", [None, 0.7])
def test_relu_goes_behind_the_max_pool(ceiling):
    e = editor()
    e.put("relu", Relu.plain(3, ceiling), "image")
    e.put("m", MaxPool((3, 2), (2, 2), (1, 1, 0, 0)), "relu")
    before = finished(e, "m")
    after = pool_before_relu(before)
    assert after.nodes["relu"].inputs == ("m",)
    assert_same_function(before, after)


def test_relu_that_others_read_stays_before_the_max_pool():
    e = editor()
    e.put("relu", Relu.plain(3), "image")
    e.put("m", MaxPool((2, 2), (2, 2)), "relu")
    before = finished(e, "m", "relu")
    assert pool_before_relu(before).nodes["m"].inputs == ("relu",)


def test_sum_pool_goes_before_the_pointwise_convolution(rng):
    e = editor()
    e.put("c", conv(rng, 3, 4, kernel=(1, 1)), "image")
    e.put("s", SumPool((2, 2), (2, 2)), "c")
    before = finished(e, "s")
    after = pool_before_pointwise(before)
    assert after.nodes["s"].inputs == ("image",)
    assert_same_function(before, after)


def test_sum_pool_stays_behind_a_larger_convolution(rng):
    e = editor()
    e.put("c", conv(rng, 3, 4), "image")
    e.put("s", SumPool((2, 2), (2, 2)), "c")
    before = finished(e, "s")
    assert pool_before_pointwise(before).nodes["s"].inputs == ("c",)


def test_grey_copied_to_three_channels_becomes_one_channel(rng):
    e = editor((1, 8, 8))
    e.put("rgb", Concat(), "image", "image", "image")
    e.put("c", conv(rng, 3, 4, padding=(1, 1, 1, 1)), "rgb")
    before = finished(e, "c")
    after = merge_repeated_channels(before)
    assert kinds(after) == {"Image": 1, "Conv": 1}
    assert_same_function(before, after)


def test_concatenation_with_some_repeated_parts_keeps_each_once(rng):
    e = editor()
    e.put("r", Relu.plain(3), "image")
    e.put("j", Concat(), "image", "r", "image")
    e.put("c", conv(rng, 9, 4), "j")
    before = finished(e, "c")
    after = merge_repeated_channels(before)
    assert after.nodes["c"].op.weights.shape[1] == 6
    assert_same_function(before, after)


def test_choice_and_order_of_channels_vanish_into_the_convolution(rng):
    e = editor()
    for i, c in enumerate((2, 1, 0)):
        e.put(f"take{i}", Conv(np.eye(3)[[c], :, None, None], np.zeros(1)), "image")
    e.put("bgr", Concat(), "take0", "take1", "take2")
    e.put("c", conv(rng, 3, 4, padding=(1, 1, 1, 1)), "bgr")
    before = finished(e, "c")
    after = simplify(before)
    assert kinds(after) == {"Image": 1, "Conv": 1}
    assert_same_function(before, after)


def test_learned_mixture_of_the_input_channels_goes_into_the_convolution(rng):
    e = editor((1, 8, 8))
    e.put("mix", conv(rng, 1, 3, kernel=(1, 1), bias=False), "image")
    e.put("c", conv(rng, 3, 4, padding=(1, 1, 1, 1)), "mix")
    before = finished(e, "c")
    assert kinds(compose_pointwise(before)) == {"Image": 1, "Conv": 1}
    assert_same_function(before, compose_pointwise(before))


def residual_stage(rng, shortcut_stride):
    """A residual block, and a first block of the next stage that reads a quarter of it."""
    e = editor()
    e.put("c1", conv(rng, 3, 4, padding=(1, 1, 1, 1)), "image")
    e.put("r1", Relu.plain(4), "c1")
    e.put("c2", conv(rng, 4, 4, padding=(1, 1, 1, 1)), "r1")
    e.put("add", Add(), "c2", "r1")
    e.put("r2", Relu.plain(4), "add")
    e.put("down", conv(rng, 4, 6, kernel=(1, 1), stride=(2, 2)), "r2")
    e.put("short", conv(rng, 4, 6, kernel=(1, 1), stride=shortcut_stride), "r2")
    return finished(e, "down", "short")


def test_pixels_that_no_strided_block_reads_are_not_made(rng):
    before = residual_stage(rng, (2, 2))
    after = subsample_early(before)
    assert after.nodes["r2"].shape == (4, 5, 5)
    assert after.nodes["add"].shape == (4, 5, 5)
    assert after.nodes["c2"].op.stride == (2, 2)
    assert after.nodes["r1"].shape == (4, 9, 10)  # the convolution c2 reads all of it
    assert_same_function(before, after)


def test_pixels_that_one_block_reads_are_made(rng):
    before = residual_stage(rng, (1, 1))
    after = subsample_early(before)
    assert after.nodes["r2"].shape == (4, 9, 10)
    assert kinds(after)["Subsample"] == 0
    assert_same_function(before, after)


def test_subsampling_takes_the_border_biases_along(rng):
    e = editor()
    weights = rng.normal(size=(4, 3, 3, 3))
    e.put("c", Conv(weights, rng.normal(size=(4, 9, 10)), padding=(1, 1, 1, 1)), "image")
    e.put("r", Relu.plain(4), "c")
    e.put("down", conv(rng, 4, 6, kernel=(1, 1), stride=(2, 2)), "r")
    before = finished(e, "down")
    after = subsample_early(before)
    assert after.nodes["c"].op.bias.shape == (4, 5, 5)
    assert_same_function(before, after)
