"""Small graphs for tests of the compiler, and the comparison of two of them."""

from collections import Counter

import numpy as np

from secure_infer.compiler.graph import Conv, Editor, Graph, Image, outputs_of

SHAPE = (3, 9, 10)


def editor(shape=SHAPE) -> Editor:
    made = Editor()
    made.put("image", Image(shape))
    return made


def conv(rng, channels, outputs, kernel=(3, 3), bias=True, **geometry) -> Conv:
    groups = geometry.get("groups", 1)
    weights = rng.normal(0, 0.5, (outputs, channels // groups, *kernel))
    return Conv(weights, rng.normal(0, 0.5, outputs) if bias else np.zeros(outputs), **geometry)


def finished(made: Editor, *outputs: str) -> Graph:
    made.outputs = list(outputs)
    return made.graph()


def kinds(graph: Graph) -> Counter:
    return Counter(type(node.op).__name__ for node in graph.nodes.values())


def assert_same_function(before: Graph, after: Graph, seed=0, images=3) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(images):
        image = rng.normal(0.3, 1.0, before.image.shape)
        for a, b in zip(outputs_of(before, image), outputs_of(after, image), strict=True):
            assert a.shape == b.shape
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)
