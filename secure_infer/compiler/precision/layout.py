"""Where values are truncated, how many fraction bits they carry, and in which ring they live.

Every channel c of a value has a scale ``u[c] * 2**exponent``: an integer is the real number times
that. Units (exponent 0) are what comparisons and linear layers read; a linear layer makes raw sums of
exponent f, which max-pools, sum-pools and residual sums pass on, so that one truncation happens
where the value is smallest.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from secure_infer.compiler.graph import (
    Add,
    Concat,
    Conv,
    Graph,
    Image,
    MaxPool,
    Node,
    Relu,
    Subsample,
    SumPool,
)
from secure_infer.compiler.precision.options import PrecisionOptions

_LATE_ELEMENTS = 1 << 18
"""Largest value whose ring grows for the sake of the logits."""

_LARGE_WINDOW = 16
"""Taps from which on a pooled sum is truncated before it is read."""


@dataclass(frozen=True)
class Place:
    """Where a node's value lives: before its truncation, and after.

    Attributes
    ----------
    made_exponent, made_ring : int
        Of what the node itself makes.
    shift : int
        Bits dropped behind it; 0 for no truncation.
    exponent, ring : int
        Of what its consumers read.
    """

    made_exponent: int
    made_ring: int
    shift: int
    exponent: int
    ring: int


@dataclass
class Layout:
    """The places of all nodes."""

    places: dict[str, Place] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Place:
        return self.places[name]


def lay_out(graph: Graph, options: PrecisionOptions, shifts: dict[str, int]) -> Layout:
    """Place every node.

    Parameters
    ----------
    graph : Graph
        After `simplify`.
    options : PrecisionOptions
    shifts : dict of node name to int
        Fraction bits of the raw sums of single convolutions, where not `options.shift`.
    """
    layout = Layout()
    late = _late_truncations(graph)
    consumers = graph.consumers()
    for node in graph.nodes.values():
        exponent, ring = _made(node, layout, options, shifts)
        users = [graph.nodes[name] for name in consumers[node.name]]
        shift = _truncation(node, exponent, users, options)
        after = options.final_ring_bits if shift and node.name in late else ring
        layout.places[node.name] = Place(exponent, ring, shift, exponent - shift, after)
    return layout


def _made(node: Node, layout: Layout, options: PrecisionOptions, shifts: dict[str, int]) -> tuple[int, int]:
    """Exponent and ring of what a node makes."""
    if isinstance(node.op, Image):
        return 0, options.ring_bits
    read = [layout[name] for name in node.inputs]
    ring = min(place.ring for place in read)
    if isinstance(node.op, Conv):
        return shifts.get(node.name, options.shift), ring
    return max(place.exponent for place in read), ring


def _truncation(node: Node, exponent: int, users: list[Node], options: PrecisionOptions) -> int:
    """How many bits to drop behind a node."""
    if exponent > 0:
        return exponent if any(isinstance(u.op, Conv | Relu | Concat) for u in users) else 0
    if isinstance(node.op, SumPool) and users and all(isinstance(u.op, Conv) for u in users):
        return options.pooled_shift if node.op.pool[0] * node.op.pool[1] >= _LARGE_WINDOW else 0
    return 0


def _late_truncations(graph: Graph) -> set[str]:
    """Nodes whose truncation may grow the ring: the last before the logits, where that is cheap.

    A node qualifies when everything that is made of it, up to the logits, is made of it alone.
    """
    late: set[str] = set()
    for output in graph.outputs:
        node = graph.nodes[output]
        if not isinstance(node.op, Conv):
            continue
        node = graph.nodes[node.inputs[0]]
        while True:
            if node.shape[0] * node.shape[1] * node.shape[2] > _LATE_ELEMENTS:
                break
            if isinstance(node.op, Conv | SumPool | Add | MaxPool):
                late.add(node.name)
                break
            if not isinstance(node.op, Relu | Subsample):
                break
            node = graph.nodes[node.inputs[0]]
    return late
