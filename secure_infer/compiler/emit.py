"""A float graph with its layout and scales -> a program and its private parameters."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from secure_infer.compiler import graph as g
from secure_infer.compiler.graph import Graph, Node
from secure_infer.compiler.precision.layout import Layout
from secure_infer.compiler.precision.options import WEIGHT_LIMIT, PrecisionOptions
from secure_infer.compiler.precision.scales import Scales, input_channels, pool_window
from secure_infer.runtime import steps as s
from secure_infer.runtime.program import Program
from secure_infer.runtime.steps import Shape

Array = NDArray[np.float64]
Parameters = dict[str, dict[str, NDArray[np.generic]]]

_MAX_NAME = 240


@dataclass(frozen=True)
class Emitted:
    """What `emit` makes.

    Attributes
    ----------
    program : Program
    parameters : dict of step name to dict of array name to array
        Private to the developer.
    input_scale : float
        Integers per unit of the model's input.
    logit_scales : float64 array [classes]
        ``logit = integer * logit_scale``.
    """

    program: Program
    parameters: Parameters
    input_scale: float
    logit_scales: Array


def emit(graph: Graph, layout: Layout, scales: Scales, options: PrecisionOptions) -> Emitted:
    """Write the steps of a graph with one output."""
    (output,) = graph.outputs
    emitter = _Emitter(graph, layout, scales, options)
    for node in graph.nodes.values():
        emitter.node(node)
    emitter.steps.append(
        s.Output("logits" if "logits" not in emitter.names else "logits:output", emitter.read[output])
    )
    return Emitted(
        Program(tuple(emitter.values), tuple(emitter.steps)),
        emitter.parameters,
        float(scales.units[graph.image.name][0]),
        1.0 / scales.at(output, layout[output].exponent),
    )


@dataclass
class _Emitter:
    graph: Graph
    layout: Layout
    scales: Scales
    options: PrecisionOptions
    values: list[s.Value] = field(default_factory=list)
    steps: list[s.Step] = field(default_factory=list)
    parameters: Parameters = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    read: dict[str, int] = field(default_factory=dict)

    def node(self, node: Node) -> None:
        """Write a node, and the truncation behind it."""
        place = self.layout[node.name]
        made = self.value(node.shape, place.made_ring)
        name = self.name(node.name)
        self.steps.append(self.step(node, name, made))
        if place.shift:
            truncated = self.value(node.shape, place.ring)
            self.steps.append(s.Truncate(self.name(f"{name}:truncate"), made, truncated, place.shift))
            made = truncated
        self.read[node.name] = made

    def value(self, shape: Shape, ring_bits: int) -> int:
        self.values.append(s.Value(shape, ring_bits))
        return len(self.values) - 1

    def name(self, wanted: str) -> str:
        """A printable name that no other step has."""
        name = "".join(c if c.isprintable() else "_" for c in wanted)[-_MAX_NAME:] or "step"
        while name in self.names:
            name += "'"
        self.names.add(name)
        return name

    def step(self, node: Node, name: str, out: int) -> s.Step:
        op = node.op
        if isinstance(op, g.Image):
            return s.Input(name, out)
        sources = tuple(self.read[i] for i in node.inputs)
        first = node.inputs[0]
        exponent = self.layout[first].exponent
        if isinstance(op, g.Conv):
            self.parameters[name] = self.linear_parameters(node, op)
            return s.Linear(name, sources[0], out, op.kernel, op.stride, op.dilation, op.padding, op.groups)
        if isinstance(op, g.Relu):
            window = (self.options.window_low, self.options.window_high)
            self.parameters[name] = self.relu_parameters(first, op)
            kind = s.Relu if op.ceiling is None else s.ReluClipped
            return kind(name, sources[0], out, window)
        if isinstance(op, g.MaxPool):
            window = pool_window(self.options, exponent, self.layout[first].ring)
            return s.MaxPool(name, sources[0], out, op.pool, op.stride, op.padding, window)
        if isinstance(op, g.SumPool):
            return s.SumPool(name, sources[0], out, op.pool, op.stride, op.padding)
        if isinstance(op, g.Subsample):
            return s.Subsample(name, sources[0], out, op.stride)
        if isinstance(op, g.Concat):
            return s.Concat(name, sources, out)
        assert isinstance(op, g.Add)
        top = self.layout[node.name].made_exponent
        return s.Add(name, sources, out, tuple(top - self.layout[i].exponent for i in node.inputs))

    def linear_parameters(self, node: Node, conv: g.Conv) -> dict[str, NDArray[np.generic]]:
        source = node.inputs[0]
        read = self.scales.at(source, self.layout[source].exponent)
        made = self.scales.at(node.name, self.layout[node.name].made_exponent)
        factors = made[:, None] / read[input_channels(conv)]
        weights = np.rint(conv.weights * factors[:, :, None, None])
        assert np.abs(weights).max(initial=0) <= WEIGHT_LIMIT
        bias = np.rint(conv.bias * (made if conv.bias.ndim == 1 else made[:, None, None]))
        return {
            "weights": np.ascontiguousarray(weights, dtype=np.int16),
            "bias": np.ascontiguousarray(bias, dtype=np.int64),
        }

    def relu_parameters(self, source: str, relu: g.Relu) -> dict[str, NDArray[np.generic]]:
        scale = self.scales.at(source, self.layout[source].exponent)
        threshold = np.rint(relu.threshold * scale).astype(np.int32)
        if relu.ceiling is None:
            return {"threshold": threshold, "flip": relu.flip.astype(np.uint8)}
        ceiling = np.maximum(np.rint(relu.ceiling * scale), 1).astype(np.int32)
        return {"threshold": threshold, "ceiling": ceiling}
