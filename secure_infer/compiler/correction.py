"""Biases that make the integer program right on average.

Rounding before a ReLU pushes its mean up, comparisons that draw the sign of small values push it down, and
what is small but of one sign adds up over a hundred layers. So the program is executed on calibration images
with the protocol's roundings, beside the float graph; where a linear layer's channel is off on average, its
bias is changed before the next layer is looked at (bias correction: M. Nagel and others, "Data-free
quantization through weight equalization and bias correction", ICCV 2019, section 4.2, with measured means).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_infer.compiler.emit import Emitted
from secure_infer.compiler.graph import Graph, evaluate
from secure_infer.compiler.precision.layout import Layout
from secure_infer.compiler.precision.scales import Scales
from secure_infer.runtime.backends.reference import ReferenceBackend
from secure_infer.runtime.steps import Linear, Output, Truncate

IMAGES = 8
"""Calibration images to average over."""


def correct_biases(
    emitted: Emitted, graph: Graph, layout: Layout, scales: Scales, images: Sequence[NDArray[Any]]
) -> None:
    """Change the biases of a program, in place.

    Parameters
    ----------
    emitted : Emitted
        Made of `graph` with `layout` and `scales`; its biases change.
    graph : Graph
    layout : Layout
    scales : Scales
    images : arrays [C, H, W]
        Calibration images in pixel levels; the first `IMAGES` of them are used.
    """
    images = images[:IMAGES]
    backend = ReferenceBackend(emitted.program, emitted.parameters)
    integers = [np.rint(image * emitted.input_scale).astype(np.int64) for image in images]
    rngs = [np.random.default_rng(index) for index in range(len(images))]
    walks = [backend.steps(x, rng=rng) for x, rng in zip(integers, rngs, strict=True)]
    floats = [iter(evaluate(graph, image.astype(np.float32))) for image in images]
    for made in zip(*walks, strict=True):
        step = made[0][0]
        if isinstance(step, Truncate | Output):
            continue  # not nodes of the graph
        wanted = [next(values) for values in floats]
        if isinstance(step, Linear):
            node = wanted[0][0]
            scale = scales.at(node.name, layout[node.name].made_exponent)
            errors = [
                out.mean(axis=(1, 2)) - right.mean(axis=(1, 2)) * scale
                for (_, out), (_, right) in zip(made, wanted, strict=True)
            ]
            excess = np.rint(np.mean(errors, axis=0)).astype(np.int64)
            bias = emitted.parameters[step.name]["bias"]
            np.subtract(bias, excess if bias.ndim == 1 else excess[:, None, None], out=bias)
            for _, out in made:
                out -= excess[:, None, None]
