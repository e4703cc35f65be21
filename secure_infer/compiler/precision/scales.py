"""One scale per channel, as large as every test of the channel allows.

Channels whose values meet in a sum share a scale, so scales are variables: every channel of a value
names its variable, sums unite them. Every truncation, comparison and pooling bounds the variables of
what it tests; the limit of 15 bits on a weight ties the scale of an output to the scales of its
inputs, and is applied until nothing changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secure_infer.compiler.graph import Concat, Conv, Graph, Image, MaxPool, Node, Relu
from secure_infer.compiler.precision.calibration import Calibration
from secure_infer.compiler.precision.layout import Layout
from secure_infer.compiler.precision.options import WEIGHT_LIMIT, PrecisionOptions
from secure_infer.errors import RangeError

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_ROUNDS = 64
_ROWS_THAT_FIT = 0.75
_FEWER_BITS = 4
_SMALLEST = 2.0**-16
"""How far the weight limit may press a scale below what the windows allow."""


@dataclass(frozen=True)
class Scales:
    """Units per real number, per channel of every node.

    Attributes
    ----------
    units : dict of node name to float64 array [C]
        The scale at exponent 0 of the layout.
    wanted : dict of node name to float64 array [C]
        What the windows alone would allow.
    """

    units: dict[str, Array]
    wanted: dict[str, Array]

    def pressed(self, name: str) -> int:
        """How many channels the weight limit pressed below their windows."""
        return int((self.units[name] < self.wanted[name]).sum())

    def at(self, name: str, exponent: int) -> Array:
        """Integers per real number, per channel, at an exponent."""
        return self.units[name] * 2.0**exponent


def pool_window(options: PrecisionOptions, exponent: int, ring_bits: int) -> tuple[int, int]:
    """The window of a max-pool over values of an exponent: one bit up, for the range of a difference."""
    high = min(options.window_high + 1 + exponent, ring_bits)
    return (max(options.pool_low + exponent, 0), high)


def choose_scales(
    graph: Graph, layout: Layout, calibration: Calibration, options: PrecisionOptions
) -> Scales:
    """Solve for the scales.

    Raises
    ------
    RangeError
        When the weight limit leaves a channel no usable scale.
    """
    variables = _variables(graph)
    count = 1 + max(int(v.max()) for v in variables.values())
    bounds = np.full(count, np.inf)
    for node in graph.nodes.values():
        _bound(graph, node, layout, calibration, options, variables, bounds)
    image = variables[graph.image.name]
    bounds[image] = _power_of_two_below(bounds[image].min())
    wanted = np.where(np.isfinite(bounds), bounds, 1.0)
    scales = _apply_weight_limit(graph, layout, variables, wanted)
    return Scales(
        {name: scales[v] for name, v in variables.items()},
        {name: wanted[v] for name, v in variables.items()},
    )


def _power_of_two_below(x: float) -> float:
    return float(2.0 ** np.floor(np.log2(x)))


def _variables(graph: Graph) -> dict[str, Indices]:
    """The scale variable of every channel of every node."""
    parent: list[int] = []

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    found: dict[str, Indices] = {}
    for node in graph.nodes.values():
        if isinstance(node.op, Image | Conv):
            first = len(parent)
            parent.extend(range(first, first + node.shape[0]))
            found[node.name] = np.arange(first, first + node.shape[0])
        elif isinstance(node.op, Concat):
            found[node.name] = np.concatenate([found[i] for i in node.inputs])
        else:
            found[node.name] = found[node.inputs[0]]
            for other in node.inputs[1:]:
                for a, b in zip(found[node.name], found[other], strict=True):
                    parent[find(int(b))] = find(int(a))
    roots = np.array([find(i) for i in range(len(parent))], dtype=np.intp)
    return {name: roots[v] for name, v in found.items()}


def _bound(
    graph: Graph,
    node: Node,
    layout: Layout,
    calibration: Calibration,
    options: PrecisionOptions,
    variables: dict[str, Indices],
    bounds: Array,
) -> None:
    """Lower the bounds of the variables that a node tests."""
    place, largest = layout[node.name], calibration.maxima[node.name]

    def at_most(name: str, reach: Array, exponent: int, limit: float) -> None:
        np.minimum.at(bounds, variables[name], limit / (reach * 2.0**exponent))

    if isinstance(node.op, Image):
        at_most(node.name, np.full(node.shape[0], largest.max()), 0, 2.0**options.input_bits)
    if place.shift:
        limit = 2.0 ** (place.made_ring - 2) - 2.0**place.shift - 1
        at_most(node.name, options.margin * largest, place.made_exponent, limit)
    if node.name in graph.outputs:
        at_most(node.name, options.final_margin * largest, place.exponent, 2.0 ** (place.ring - 1) - 1)
    source = node.inputs[0] if node.inputs else ""
    if isinstance(node.op, Relu):
        reach = options.margin * calibration.maxima[source] + np.abs(node.op.threshold)
        if node.op.ceiling is not None:
            reach = reach + node.op.ceiling
        limit = 2.0 ** (options.window_high - 1) - 2.0**options.window_low - 1
        at_most(source, reach, layout[source].exponent, limit)
    if isinstance(node.op, MaxPool):
        low, high = pool_window(options, layout[source].exponent, layout[source].ring)
        reach = 2 * options.margin * calibration.maxima[source]
        at_most(source, reach, layout[source].exponent, 2.0 ** (high - 1) - 2.0**low - 1)


def input_channels(conv: Conv) -> Indices:
    """For each weight [O, C/groups], the channel of the input it multiplies."""
    outputs, per_group = conv.weights.shape[:2]
    groups = np.arange(outputs) // (outputs // conv.groups)
    return np.asarray(groups[:, None] * per_group + np.arange(per_group))


def largest_weights(conv: Conv, input_scale: Array) -> Array:
    """Per row, the largest weight relative to its input's scale."""
    return _largest(np.abs(conv.weights).max(axis=(2, 3)), conv, input_scale)


def _largest(peaks: Array, conv: Conv, input_scale: Array) -> Array:
    return np.asarray((peaks / input_scale[input_channels(conv)]).max(axis=1))


def _apply_weight_limit(graph: Graph, layout: Layout, variables: dict[str, Indices], wanted: Array) -> Array:
    scales = wanted.copy()
    convs = [(node, node.op) for node in graph.nodes.values() if isinstance(node.op, Conv)]
    peaks = [np.abs(conv.weights).max(axis=(2, 3)) for _, conv in convs]
    for _ in range(_ROUNDS):
        before = scales.copy()
        for (node, conv), peak in zip(convs, peaks, strict=True):
            source = node.inputs[0]
            largest = _largest(peak, conv, scales[variables[source]] * 2.0 ** layout[source].exponent)
            limit = (WEIGHT_LIMIT - 0.5) / np.maximum(largest, 1e-300)
            np.minimum.at(scales, variables[node.name], limit / 2.0 ** layout[node.name].made_exponent)
        if (scales == before).all():
            break
    for node, _ in convs:
        own = variables[node.name]
        if (scales[own] < wanted[own] * _SMALLEST).any():
            expected = f"weights that fit {WEIGHT_LIMIT} at a usable scale"
            raise RangeError(
                f"layer {node.name!r}", expected=expected, got="weights far larger than its output"
            )
    return scales


def raw_shifts(graph: Graph, layout: Layout, scales: Scales, options: PrecisionOptions) -> dict[str, int]:
    """Fewer fraction bits for the raw sums of convolutions most of whose rows would exceed the limit."""
    shifts: dict[str, int] = {}
    for node in graph.nodes.values():
        if not isinstance(node.op, Conv) or not scales.pressed(node.name):
            continue
        peaks = largest_weights(node.op, scales.at(node.inputs[0], layout[node.inputs[0]].exponent))
        raw = scales.wanted[node.name] * 2.0**options.shift
        excess = float(np.quantile(peaks * raw / WEIGHT_LIMIT, _ROWS_THAT_FIT))
        if excess > 1:
            fewer = min(int(np.ceil(np.log2(excess))), _FEWER_BITS)
            shifts[node.name] = options.shift - fewer
    return shifts
