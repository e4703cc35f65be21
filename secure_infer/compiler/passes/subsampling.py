"""Pixels that nobody reads are never made.

A 1x1 convolution with stride 2 reads a quarter of its input. Where all consumers of a value do so
(ResNet's first block of a stage), the ReLU, the residual sum and the convolutions before it need to
be computed at that quarter only.
"""

from __future__ import annotations

from dataclasses import replace

from secure_infer.compiler.graph import (
    Add,
    Affine,
    Conv,
    Editor,
    Graph,
    MaxPool,
    Node,
    Relu,
    Subsample,
    SumPool,
)
from secure_infer.runtime.steps import Pair


def subsample_early(graph: Graph) -> Graph:
    """Split strides off 1x1 convolutions, and move the subsampling towards the input as far as it goes."""
    editor = Editor.of(graph)
    for node in graph.nodes.values():
        if isinstance(node.op, Conv) and _reads_a_part(node.op) and _shared_stride(editor, node.inputs[0]):
            name = editor.put(editor.fresh(f"{node.name}:subsample"), Subsample(node.op.stride), *node.inputs)
            editor.put(node.name, replace(node.op, stride=(1, 1)), name)
    for name in reversed(list(editor.graph().nodes)):
        stride = _wanted_stride(editor, name)
        if stride is not None:
            _take_over(editor, editor.nodes[name], stride)
    return editor.graph()


def _reads_a_part(conv: Conv) -> bool:
    return conv.kernel == (1, 1) and max(conv.stride) > 1 and not any(conv.padding)


def _shared_stride(editor: Editor, name: str) -> bool:
    """Whether every consumer of a node reads the same part of it."""
    return _stride_of_users(editor, name) is not None


def _stride_of_users(editor: Editor, name: str) -> Pair | None:
    strides: set[Pair | None] = set()
    for user in editor.users(name):
        part = isinstance(user.op, Subsample) or (isinstance(user.op, Conv) and _reads_a_part(user.op))
        strides.add(user.op.stride if part and isinstance(user.op, Subsample | Conv) else None)
    return strides.pop() if len(strides) == 1 and name not in editor.outputs else None


def _wanted_stride(editor: Editor, name: str) -> Pair | None:
    if all(isinstance(user.op, Subsample) for user in editor.users(name)):
        return _stride_of_users(editor, name)
    return None


def _take_over(editor: Editor, node: Node, stride: Pair) -> None:
    """Let a node make only the part that is read, if it can."""
    users = [u.name for u in editor.users(node.name)]
    if isinstance(node.op, Conv | MaxPool | SumPool):
        op = replace(node.op, stride=(node.op.stride[0] * stride[0], node.op.stride[1] * stride[1]))
        if isinstance(op, Conv) and op.bias.ndim == 3:
            op = replace(op, bias=op.bias[:, :: stride[0], :: stride[1]].copy())
        editor.put(node.name, op, *node.inputs)
    elif isinstance(node.op, Relu | Affine | Add):
        inputs = [
            editor.put(editor.fresh(f"{node.name}:subsample"), Subsample(stride), source)
            for source in node.inputs
        ]
        editor.put(node.name, node.op, *inputs)
    else:
        return
    for user in users:
        editor.redirect(user, node.name)
