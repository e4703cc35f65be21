"""Choices and repetitions of channels (grey to RGB, RGB to BGR) vanish into the convolution behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from secure_infer.compiler.graph import Concat, Conv, Editor, Graph

_FEW_CHANNELS = 4


def compose_pointwise(graph: Graph) -> Graph:
    """A 1x1 convolution of a few channels, without bias, goes into the convolutions behind it."""
    editor = Editor.of(graph)
    for name in list(graph.nodes):
        node = editor.nodes[name]
        if not isinstance(node.op, Conv) or not node.op.is_pointwise or node.op.bias.any():
            continue
        outputs, inputs = node.op.weights.shape[:2]
        users = editor.users(name)
        if outputs > _FEW_CHANNELS or inputs > outputs or name in editor.outputs:
            continue
        mixing = node.op.weights[:, :, 0, 0]
        for user in users:
            if isinstance(user.op, Conv) and user.op.groups == 1:
                weights = np.einsum("omhw,mi->oihw", user.op.weights, mixing)
                editor.put(user.name, replace(user.op, weights=weights), *node.inputs)
            elif isinstance(user.op, Concat):
                _mix_behind(editor, user.name)
    return editor.graph()


def _mix_behind(editor: Editor, name: str) -> None:
    """Concat of choices of one image -> one choice of that image."""
    node = editor.nodes[name]
    sources = [editor.nodes[i] for i in node.inputs]
    first = sources[0]
    same = all(
        isinstance(s.op, Conv) and s.op.is_pointwise and not s.op.bias.any() and s.inputs == first.inputs
        for s in sources
    )
    if same:
        weights = np.concatenate([s.op.weights for s in sources if isinstance(s.op, Conv)])
        editor.put(name, Conv(weights, np.zeros(len(weights))), *first.inputs)


def merge_repeated_channels(graph: Graph) -> Graph:
    """Concat([x, x, x]) -> convolution becomes a convolution of x with the summed weights."""
    editor = Editor.of(graph)
    for name in list(graph.nodes):
        node = editor.nodes[name]
        if not isinstance(node.op, Concat) or len(set(node.inputs)) == len(node.inputs):
            continue
        users = editor.users(name)
        if name in editor.outputs or not all(isinstance(u.op, Conv) and u.op.groups == 1 for u in users):
            continue
        unique = list(dict.fromkeys(node.inputs))
        source = unique[0]
        if len(unique) > 1:
            source = editor.put(editor.fresh(f"{name}:unique"), Concat(), *unique)
        for user in users:
            assert isinstance(user.op, Conv)
            weights = _summed(editor, node.inputs, unique, user.op)
            editor.put(user.name, replace(user.op, weights=weights), source)
    return editor.graph()


def _summed(editor: Editor, inputs: tuple[str, ...], unique: list[str], conv: Conv) -> np.ndarray:
    ends = np.cumsum([editor.nodes[i].shape[0] for i in inputs])
    blocks = np.split(conv.weights, ends[:-1], axis=1)
    parts = [sum(b for b, i in zip(blocks, inputs, strict=True) if i == u) for u in unique]
    return np.concatenate(parts, axis=1)
