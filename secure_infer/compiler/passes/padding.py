"""Zero padding becomes part of the convolution or pooling behind it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from secure_infer.compiler.graph import Concat, Conv, Editor, Graph, MaxPool, Node, Op, Pad, Relu, SumPool
from secure_infer.runtime.steps import Padding


def fold_padding(graph: Graph) -> Graph:
    """Move every Pad into its consumers.

    A max-pool ignores its own padding, so a Pad before it may go in only where zeros can't win: where
    all its values are known to be non-negative. A Pad that can't be folded becomes a convolution
    with the identity.
    """
    editor = Editor.of(graph)
    for pad in [node for node in graph.nodes.values() if isinstance(node.op, Pad)]:
        assert isinstance(pad.op, Pad)
        before = editor.nodes[pad.name].inputs[0]
        for user in editor.users(pad.name):
            folded = _with_padding(user.op, pad.op.padding, not_negative=_is_not_negative(editor, before))
            if folded is not None:
                editor.put(user.name, folded, *[before if i == pad.name else i for i in user.inputs])
        if editor.users(pad.name) or pad.name in editor.outputs:
            channels = pad.shape[0]
            identity = Conv(
                np.ones((channels, 1, 1, 1)), np.zeros(channels), padding=pad.op.padding, groups=channels
            )
            editor.put(pad.name, identity, before)
    return editor.graph()


def _with_padding(op: Op, extra: Padding, *, not_negative: bool) -> Op | None:
    if isinstance(op, Conv | SumPool | Pad):
        return replace(op, padding=_sum(op.padding, extra))
    if isinstance(op, MaxPool):
        padding = _sum(op.padding, extra)
        seen = all(p < op.pool[i // 2] for i, p in enumerate(padding))
        if not_negative and seen:
            return replace(op, padding=padding)
    return None


def _sum(left: Padding, right: Padding) -> Padding:
    return (left[0] + right[0], left[1] + right[1], left[2] + right[2], left[3] + right[3])


def _is_not_negative(editor: Editor, name: str) -> bool:
    """Whether a node can have no negative values: a ReLU, or what keeps the sign of one."""
    node: Node = editor.nodes[name]
    if isinstance(node.op, Relu):
        return not node.op.flip.any()
    if isinstance(node.op, MaxPool | SumPool | Concat | Pad):
        return all(_is_not_negative(editor, i) for i in node.inputs)
    return False
