"""The compiler's one intermediate form: a graph of typed float operations on [C, H, W] tensors.

A front end makes a graph, passes rewrite it, the planner gives it scales and rings, and `emit` turns
it into a program. Every operation knows its output shape and how to compute itself (`apply`), so any
graph can be evaluated before and after a pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_infer.errors import CompileError
from secure_infer.runtime.backends.correlation import correlate
from secure_infer.runtime.steps import Padding, Pair, Shape, output_extent

Float = NDArray[Any]
Array = NDArray[np.float64]


class Op:
    """Base of the operations: what a node does with its inputs' values."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Output shape for input shapes."""
        raise NotImplementedError

    def apply(self, inputs: Sequence[Float]) -> Float:
        """Output for inputs [C, H, W], in their dtype."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Image(Op):
    """The input, in the model's own units."""

    of: Shape

    def shape(self, inputs: Sequence[Shape]) -> Shape:  # noqa: ARG002  (it has none)
        """The shape it was made for."""
        return self.of

    def apply(self, inputs: Sequence[Float]) -> Float:
        """The image itself, handed in by the evaluation."""
        return inputs[0]


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """Cross-correlation with weights [O, C/groups, kh, kw], zero padding, then a bias [O] or [O, Ho, Wo]."""

    weights: Array
    bias: Array
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    groups: int = 1

    @property
    def kernel(self) -> Pair:
        """Height and width of the kernel."""
        return (self.weights.shape[2], self.weights.shape[3])

    @property
    def bias_map(self) -> Array:
        """The bias, broadcastable to [O, Ho, Wo]."""
        return self.bias if self.bias.ndim == 3 else self.bias[:, None, None]

    @property
    def is_pointwise(self) -> bool:
        """Whether it is a 1x1 convolution with stride 1 and no padding, over all channels."""
        return self.kernel == (1, 1) and self.stride == (1, 1) and not any(self.padding) and self.groups == 1

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """[O, Ho, Wo]."""
        channels, height, width = inputs[0]
        if channels != self.weights.shape[1] * self.groups:
            raise CompileError(
                "convolution", expected=f"{self.weights.shape[1] * self.groups} channels", got=channels
            )
        top, bottom, left, right = self.padding
        high = output_extent(height, self.kernel[0], self.stride[0], self.dilation[0], top + bottom)
        wide = output_extent(width, self.kernel[1], self.stride[1], self.dilation[1], left + right)
        return (self.weights.shape[0], high, wide)

    def apply(self, inputs: Sequence[Float]) -> Float:
        """Correlate and add the bias."""
        x = inputs[0]
        out: Float = correlate(self, x, self.weights)
        out += self.bias_map.astype(x.dtype)
        return out


class _SameShape(Op):
    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """The shape of the input."""
        return inputs[0]


@dataclass(frozen=True, eq=False)
class Affine(_SameShape):
    """``scale[c] * x + shift[c]``: batch-normalisation, rescaling, factors left over by passes."""

    scale: Array
    shift: Array

    def apply(self, inputs: Sequence[Float]) -> Float:
        """Scale and shift each channel."""
        x = inputs[0]
        out: Float = self.scale.astype(x.dtype)[:, None, None] * x
        out += self.shift.astype(x.dtype)[:, None, None]
        return out


@dataclass(frozen=True, eq=False)
class Relu(_SameShape):
    """``y = x + threshold[c]``, kept where ``[y >= 0] xor flip[c]``, else 0; clipped at ``ceiling[c]``."""

    threshold: Array
    flip: NDArray[np.bool_]
    ceiling: Array | None = None

    @classmethod
    def plain(cls, channels: int, ceiling: float | None = None) -> Relu:
        """ReLU, or ReLU clipped at a ceiling."""
        top = None if ceiling is None else np.full(channels, float(ceiling))
        return cls(np.zeros(channels), np.zeros(channels, bool), top)

    def apply(self, inputs: Sequence[Float]) -> Float:
        """Apply threshold, sign and ceiling."""
        x = inputs[0]
        y: Float = x + self.threshold.astype(x.dtype)[:, None, None]
        y *= (y >= 0) ^ self.flip[:, None, None]
        if self.ceiling is not None:
            y = np.minimum(y, self.ceiling.astype(x.dtype)[:, None, None])
        return y


@dataclass(frozen=True, eq=False)
class _Pool(Op):
    pool: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """[C, Ho, Wo]."""
        channels, height, width = inputs[0]
        top, bottom, left, right = self.padding
        high = output_extent(height, self.pool[0], self.stride[0], 1, top + bottom)
        return (channels, high, output_extent(width, self.pool[1], self.stride[1], 1, left + right))

    def taps(self, x: Float, fill: float) -> Iterable[Float]:
        """What each tap of the window sees: arrays [C, Ho, Wo]."""
        _, high, wide = self.shape([x.shape])
        top, bottom, left, right = self.padding
        x = np.pad(x, ((0, 0), (top, bottom), (left, right)), constant_values=fill)
        sh, sw = self.stride
        for i in range(self.pool[0]):
            for j in range(self.pool[1]):
                yield x[:, i : i + (high - 1) * sh + 1 : sh, j : j + (wide - 1) * sw + 1 : sw]


@dataclass(frozen=True, eq=False)
class MaxPool(_Pool):
    """Maximum over a window; the padding never wins."""

    def apply(self, inputs: Sequence[Float]) -> Float:
        """Maximum over the taps."""
        taps = iter(self.taps(inputs[0], -np.inf))
        out = next(taps).copy()
        for tap in taps:
            np.maximum(out, tap, out=out)
        return out


@dataclass(frozen=True, eq=False)
class SumPool(_Pool):
    """Sum over a window, zeros at the padding."""

    def apply(self, inputs: Sequence[Float]) -> Float:
        """Sum over the taps."""
        taps = iter(self.taps(inputs[0], 0.0))
        out = next(taps).copy()
        for tap in taps:
            out += tap
        return out


@dataclass(frozen=True, eq=False)
class Add(_SameShape):
    """Sum of its inputs."""

    def apply(self, inputs: Sequence[Float]) -> Float:
        """Add them up."""
        out = inputs[0].copy()
        for x in inputs[1:]:
            out += x
        return out


@dataclass(frozen=True, eq=False)
class Concat(Op):
    """Its inputs' channels, one after the other."""

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """Channels add up."""
        return (sum(s[0] for s in inputs), inputs[0][1], inputs[0][2])

    def apply(self, inputs: Sequence[Float]) -> Float:
        """Concatenate."""
        return np.concatenate(list(inputs))


@dataclass(frozen=True, eq=False)
class Pad(Op):
    """Zeros around the image: [top, bottom, left, right]."""

    padding: Padding

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """The image and its border."""
        channels, height, width = inputs[0]
        top, bottom, left, right = self.padding
        return (channels, height + top + bottom, width + left + right)

    def apply(self, inputs: Sequence[Float]) -> Float:
        """Pad with zeros."""
        top, bottom, left, right = self.padding
        return np.pad(inputs[0], ((0, 0), (top, bottom), (left, right)))


@dataclass(frozen=True, eq=False)
class Subsample(Op):
    """Every ``stride``-th row and column, from the first."""

    stride: Pair

    def shape(self, inputs: Sequence[Shape]) -> Shape:
        """The rows and columns that remain."""
        channels, height, width = inputs[0]
        return (channels, -(-height // self.stride[0]), -(-width // self.stride[1]))

    def apply(self, inputs: Sequence[Float]) -> Float:
        """Slice."""
        return inputs[0][:, :: self.stride[0], :: self.stride[1]]


@dataclass(frozen=True)
class Node:
    """An operation in its place: its name, what it reads, and the shape it makes."""

    name: str
    op: Op
    inputs: tuple[str, ...]
    shape: Shape


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can be computed; one image, one or more outputs."""

    nodes: Mapping[str, Node]
    outputs: tuple[str, ...]

    @property
    def image(self) -> Node:
        """The node of the input."""
        return next(node for node in self.nodes.values() if isinstance(node.op, Image))

    def consumers(self) -> dict[str, list[str]]:
        """For every node, the names of the nodes that read it (once for each time they do)."""
        found: dict[str, list[str]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for source in node.inputs:
                found[source].append(node.name)
        return found


@dataclass
class Editor:
    """A graph being rewritten. Nodes may be put in any order; `graph` sorts them and drops dead ones."""

    nodes: dict[str, Node] = field(default_factory=dict)
    outputs: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, graph: Graph) -> Editor:
        """An editor that starts from a graph."""
        return cls(dict(graph.nodes), list(graph.outputs))

    def put(self, name: str, op: Op, *inputs: str) -> str:
        """Add or replace a node, and return its name."""
        shape = op.shape([self.nodes[i].shape for i in inputs])
        if any(extent < 1 for extent in shape):
            raise CompileError(f"layer {name!r}", expected="an output with pixels", got=list(shape))
        self.nodes[name] = Node(name, op, inputs, shape)
        return name

    def fresh(self, name: str) -> str:
        """A name that is free: the given one, or with a number."""
        if name not in self.nodes:
            return name
        number = 2
        while f"{name}.{number}" in self.nodes:
            number += 1
        return f"{name}.{number}"

    def users(self, name: str) -> list[Node]:
        """The nodes that read a node."""
        return [node for node in self.nodes.values() if name in node.inputs]

    def only_user(self, name: str) -> Node | None:
        """The one node that reads a node, None when there are several or it is an output."""
        users = self.users(name)
        return users[0] if len(users) == 1 and name not in self.outputs else None

    def redirect(self, old: str, new: str, *, users: Iterable[str] | None = None) -> None:
        """Let the users of one node (all, or the named ones) read another instead."""
        chosen = None if users is None else set(users)
        for node in list(self.nodes.values()):
            if old in node.inputs and node.name != new and (chosen is None or node.name in chosen):
                inputs = tuple(new if i == old else i for i in node.inputs)
                self.nodes[node.name] = Node(node.name, node.op, inputs, node.shape)
        if chosen is None:
            self.outputs = [new if o == old else o for o in self.outputs]

    def graph(self) -> Graph:
        """The graph of what the outputs need, in an order in which it can be computed."""
        order: dict[str, Node] = {}
        open_: list[tuple[str, bool]] = [(name, False) for name in reversed(self.outputs)]
        while open_:
            name, ready = open_.pop()
            if name in order:
                continue
            node = self.nodes[name]
            if ready:
                shape = node.op.shape([order[i].shape for i in node.inputs])
                order[name] = Node(name, node.op, node.inputs, shape)
            else:
                open_.append((name, True))
                open_.extend((i, False) for i in reversed(node.inputs) if i not in order)
        return Graph(order, tuple(self.outputs))


def evaluate(graph: Graph, image: Float) -> Iterable[tuple[Node, Float]]:
    """Compute a graph on one image, node by node, freeing what is no longer read.

    Parameters
    ----------
    graph : Graph
    image : float array [C, H, W]
        In the model's own units; its dtype is the one everything is computed in.

    Yields
    ------
    (Node, float array [C, H, W])
    """
    left = {name: len(users) for name, users in graph.consumers().items()}
    values: dict[str, Float] = {}
    for node in graph.nodes.values():
        inputs = [image] if isinstance(node.op, Image) else [values[i] for i in node.inputs]
        out = node.op.apply(inputs)
        yield node, out
        values[node.name] = out
        for source in node.inputs:
            left[source] -= 1
            if not left[source]:
                del values[source]


def outputs_of(graph: Graph, image: Float) -> list[Float]:
    """The outputs of a graph on one image [C, H, W]."""
    found = {node.name: out for node, out in evaluate(graph, image) if node.name in graph.outputs}
    return [found[name] for name in graph.outputs]
