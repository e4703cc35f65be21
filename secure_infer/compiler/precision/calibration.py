"""How large the values of a graph get on real images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_infer.compiler.graph import Concat, Conv, Graph, Image, Relu, evaluate
from secure_infer.errors import CalibrationError

Array = NDArray[np.float64]

_QUIET_CHANNEL = 2.0**-9
"""A channel counts as at least this fraction of its worst case, so that one that was silent on the
calibration images still gets a sane scale."""


@dataclass(frozen=True)
class Calibration:
    """Largest magnitudes per channel, over the calibration images.

    Attributes
    ----------
    maxima : dict of node name to float64 array [C]
        In the model's units, never 0.
    images : int
    """

    maxima: dict[str, Array]
    images: int


def calibrate(graph: Graph, images: Iterable[NDArray[Any]]) -> Calibration:
    """Evaluate a graph on images [C, H, W] in the model's own units (in float32).

    Raises
    ------
    CalibrationError
        Without images, with ones of another shape, or when values aren't finite.
    """
    maxima: dict[str, Array] = {}
    count = 0
    for image in images:
        if tuple(image.shape) != graph.image.shape:
            expected = f"images of shape {list(graph.image.shape)}"
            raise CalibrationError("calibration", expected=expected, got=list(image.shape))
        count += 1
        for node, out in evaluate(graph, image.astype(np.float32)):
            largest = np.maximum(out.max(axis=(1, 2)), -out.min(axis=(1, 2))).astype(np.float64)
            if not np.isfinite(largest).all():
                raise CalibrationError(f"layer {node.name!r}", expected="finite values", got="others")
            previous = maxima.get(node.name)
            maxima[node.name] = largest if previous is None else np.maximum(previous, largest)
    if not count:
        raise CalibrationError("calibration", expected="at least one image", got="none")
    return Calibration(_lifted(graph, maxima), count)


def _lifted(graph: Graph, maxima: dict[str, Array]) -> dict[str, Array]:
    """Raise the maxima of quiet channels to a fraction of what their inputs could make of them.

    What a ReLU could pass on is as large as what it reads: a unit that was off on all calibration
    images isn't worth fewer bits for that.
    """
    lifted: dict[str, Array] = {}
    reach: dict[str, Array] = {}
    for node in graph.nodes.values():
        inputs = [reach[i] for i in node.inputs]
        if isinstance(node.op, Image):
            floor = np.full(node.shape[0], maxima[node.name].max() * _QUIET_CHANNEL)
        elif isinstance(node.op, Conv):
            floor = _worst_case(node.op, inputs[0]) * _QUIET_CHANNEL
        elif isinstance(node.op, Concat):
            floor = np.concatenate(inputs) * _QUIET_CHANNEL
        else:
            floor = np.max(inputs, axis=0) * _QUIET_CHANNEL
        lifted[node.name] = np.maximum(maxima[node.name], np.maximum(floor, np.finfo(np.float32).tiny))
        reach[node.name] = lifted[node.name]
        if isinstance(node.op, Relu):
            reach[node.name] = np.maximum(lifted[node.name], inputs[0])
    return lifted


def _worst_case(conv: Conv, maxima: Array) -> Array:
    gains = np.abs(conv.weights).sum(axis=(2, 3))
    outputs, per_group = gains.shape
    groups = np.arange(outputs) // (outputs // conv.groups)
    inputs = groups[:, None] * per_group + np.arange(per_group)
    bias = np.abs(conv.bias_map).reshape(outputs, -1).max(axis=1)
    return np.asarray((gains * maxima[inputs]).sum(axis=1) + bias)
