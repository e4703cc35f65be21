"""The intermediate form: shapes, evaluation, rewriting."""

import numpy as np
import pytest

from secure_infer.compiler.graph import (
    Add,
    Affine,
    Concat,
    MaxPool,
    Pad,
    Relu,
    Subsample,
    SumPool,
    evaluate,
    outputs_of,
)
from secure_infer.errors import CompileError
from tests.secure_infer.compiler.graphs import conv, editor, finished

RNG = np.random.default_rng(0)


def test_shape_of_every_operation_is_that_of_its_result():
    e = editor()
    e.put("c", conv(RNG, 3, 4, stride=(2, 1), padding=(1, 2, 0, 1)), "image")
    e.put("a", Affine(np.ones(4), np.ones(4)), "c")
    e.put("r", Relu.plain(4), "a")
    e.put("m", MaxPool((3, 2), (1, 2), (1, 1, 0, 1)), "r")
    e.put("s", SumPool((2, 2), (2, 1)), "r")
    e.put("p", Pad((1, 0, 2, 3)), "r")
    e.put("add", Add(), "r", "r")
    e.put("cat", Concat(), "r", "add")
    e.put("sub", Subsample((2, 3)), "cat")
    graph = finished(e, "m", "s", "p", "sub")
    for node, out in evaluate(graph, RNG.normal(size=(3, 9, 10))):
        assert out.shape == node.shape


def test_convolution_of_other_channels_or_larger_than_the_image_is_refused():
    e = editor()
    with pytest.raises(CompileError, match="expected 2 channels, got 3"):
        e.put("c", conv(RNG, 2, 4), "image")
    with pytest.raises(CompileError, match="an output with pixels"):
        e.put("c", conv(RNG, 3, 4, kernel=(10, 3)), "image")


def test_editor_drops_dead_nodes_and_keeps_an_order_that_can_be_computed():
    e = editor()
    e.put("late", Relu.plain(3), "image")
    e.put("dead", Relu.plain(3), "image")
    e.put("early", Affine(np.full(3, 2.0), np.zeros(3)), "image")
    e.put("late", Relu.plain(3), "early")
    graph = finished(e, "late")
    assert list(graph.nodes) == ["image", "early", "late"]


def test_redirect_of_named_users_leaves_the_others_and_the_outputs():
    e = editor()
    for name in ("a", "b"):
        e.put(name, Relu.plain(3), "image")
    e.put("c", Add(), "a", "a")
    e.put("d", Add(), "a", "b")
    e.outputs = ["a", "c", "d"]
    e.redirect("a", "b", users=["c"])
    assert e.nodes["c"].inputs == ("b", "b")
    assert e.nodes["d"].inputs == ("a", "b")
    assert e.outputs == ["a", "c", "d"]


def test_relu_with_flip_and_ceiling_is_what_its_formula_says():
    e = editor((3, 1, 5))
    threshold, flip = np.array([0.5, 0.5, 0.0]), np.array([False, True, False])
    e.put("r", Relu(threshold, flip), "image")
    e.put("six", Relu.plain(3, 6.0), "image")
    x = np.tile(np.array([-7.0, -0.4, 0.0, 0.6, 9.0]), (3, 1, 1))
    kept, clipped = outputs_of(finished(e, "r", "six"), x)
    np.testing.assert_allclose(kept[0, 0], [0, 0.1, 0.5, 1.1, 9.5])
    np.testing.assert_allclose(kept[1, 0], [-6.5, 0, 0, 0, 0])
    np.testing.assert_allclose(clipped[2, 0], [0, 0, 0, 0.6, 6])
