"""Where values are truncated, how many fraction bits they carry, and in which ring they live.

Every channel c of a value has a scale ``u[c] * 2**exponent``: an integer is the real number times
that. Units (exponent 0) are what comparisons and linear layers read; a linear layer makes raw sums of
exponent f, which sum-pools, residual sums and some max-pools pass on, so that one truncation happens
where the value is smallest.

Linear layers need a large ring. Values that are compared before anything else reads them live in a small one:
the truncation to it is local, and a comparison's multiplexer moves fewer bits. The ReLU then makes its result
in the ring that its own readers need.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from secure_infer.compiler.graph import (
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
    users = {name: [graph.nodes[u] for u in found] for name, found in graph.consumers().items()}
    compared = _only_compared(graph, users)
    made: dict[str, int] = {}
    cuts: dict[str, int] = {}
    for node in graph.nodes.values():
        made[node.name] = _exponent(node, [made[i] - cuts[i] for i in node.inputs], options, shifts)
        cuts[node.name] = _truncation(node, made[node.name], users[node.name], compared, options)
    needs = _needs(graph, users, cuts, options)
    layout = Layout()
    for node in graph.nodes.values():
        name, need = node.name, needs[node.name]
        if isinstance(node.op, Image):
            ring = options.ring_bits
        elif isinstance(node.op, Relu):
            ring = need
        else:
            ring = min(layout[i].ring for i in node.inputs)
        after = need if cuts[name] else ring
        layout.places[name] = Place(made[name], ring, cuts[name], made[name] - cuts[name], after)
    return layout


def _exponent(node: Node, read: list[int], options: PrecisionOptions, shifts: dict[str, int]) -> int:
    """Exponent of what a node makes of values with the exponents `read`."""
    if isinstance(node.op, Conv):
        return shifts.get(node.name, options.shift)
    return max(read, default=0)


def _truncation(
    node: Node, exponent: int, users: list[Node], compared: set[str], options: PrecisionOptions
) -> int:
    """How many bits to drop behind a node."""
    if exponent > 0:
        if any(isinstance(u.op, Conv | Relu | Concat) for u in users):
            return exponent
        # A max-pool leaves fewer values to truncate; where that costs nothing, it works in a small ring.
        return exponent if node.name in compared and any(isinstance(u.op, MaxPool) for u in users) else 0
    if isinstance(node.op, SumPool) and users and all(isinstance(u.op, Conv) for u in users):
        return options.pooled_shift if node.op.pool[0] * node.op.pool[1] >= _LARGE_WINDOW else 0
    return 0


def _only_compared(graph: Graph, users: dict[str, list[Node]]) -> set[str]:
    """Nodes that reach nothing but ReLUs, straight or through max-pools and steps that rearrange."""
    found: set[str] = set()
    for node in reversed(list(graph.nodes.values())):
        if node.name not in graph.outputs and all(
            isinstance(u.op, Relu) or (isinstance(u.op, MaxPool | Concat | Subsample) and u.name in found)
            for u in users[node.name]
        ):
            found.add(node.name)
    return found


def _needs(
    graph: Graph, users: dict[str, list[Node]], cuts: dict[str, int], options: PrecisionOptions
) -> dict[str, int]:
    """Bits of the ring in which a node's readers need its value: the largest that any of them asks for."""
    needs: dict[str, int] = {}
    late = _late(graph, cuts)

    def asked(user: Node) -> int:
        if isinstance(user.op, Relu):
            return options.compared_ring_bits
        if isinstance(user.op, Conv) or cuts[user.name]:
            return options.ring_bits
        return needs[user.name]

    for node in reversed(list(graph.nodes.values())):
        bits = [asked(user) for user in users[node.name]]
        if node.name in graph.outputs:
            bits.append(options.ring_bits)
        needs[node.name] = options.final_ring_bits if node.name in late else max(bits)
    return needs


def _late(graph: Graph, cuts: dict[str, int]) -> set[str]:
    """Nodes that make the ring of the logits: the last truncation or ReLU before them, where that is cheap.

    A node qualifies when everything that is made of it, up to the logits, is made of it alone.
    """
    late: set[str] = set()
    for output in graph.outputs:
        node = graph.nodes[output]
        if not isinstance(node.op, Conv):
            continue
        node = graph.nodes[node.inputs[0]]
        while node.shape[0] * node.shape[1] * node.shape[2] <= _LATE_ELEMENTS:
            if cuts[node.name] or isinstance(node.op, Relu):
                late.add(node.name)
                break
            if not isinstance(node.op, SumPool | Subsample):
                break
            node = graph.nodes[node.inputs[0]]
    return late
