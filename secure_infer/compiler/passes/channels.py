"""Choices and repetitions of channels (grey to RGB, RGB to BGR) vanish into the convolution behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from secure_infer.compiler.graph import Array, Concat, Conv, Editor, Graph, Node

_FEW_CHANNELS = 4


def compose_pointwise(graph: Graph) -> Graph:
    """Mixtures of a few channels (1x1 convolutions without bias) go into the convolutions behind them."""
    editor = Editor.of(graph)
    for name in list(graph.nodes):
        if isinstance(editor.nodes[name].op, Concat):
            _join_mixtures(editor, name)
        mixture = _mixture(editor.nodes[name])
        if mixture is None or name in editor.outputs or mixture.shape[1] > mixture.shape[0]:
            continue
        for user in editor.users(name):
            if isinstance(user.op, Conv) and user.op.groups == 1:
                weights = np.einsum("omhw,mi->oihw", user.op.weights, mixture)
                editor.put(user.name, replace(user.op, weights=weights), *editor.nodes[name].inputs)
    return editor.graph()


def _mixture(node: Node) -> Array | None:
    """The matrix [O, I] of a node that only mixes a few channels, None for others."""
    if not isinstance(node.op, Conv) or not node.op.is_pointwise or node.op.bias.any():
        return None
    return node.op.weights[:, :, 0, 0] if max(node.op.weights.shape[:2]) <= _FEW_CHANNELS else None


def _join_mixtures(editor: Editor, name: str) -> None:
    """Concat of mixtures of one image -> one mixture of that image."""
    sources = [editor.nodes[i] for i in editor.nodes[name].inputs]
    mixtures = [_mixture(source) for source in sources]
    rows = [m for m in mixtures if m is not None]
    if len(rows) == len(sources) and len({source.inputs for source in sources}) == 1:
        weights = np.concatenate(rows)[:, :, None, None]
        editor.put(name, Conv(weights, np.zeros(len(weights))), *sources[0].inputs)


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


def _summed(editor: Editor, inputs: tuple[str, ...], unique: list[str], conv: Conv) -> Array:
    ends = np.cumsum([editor.nodes[i].shape[0] for i in inputs])
    blocks = np.split(conv.weights, ends[:-1], axis=1)
    parts = [sum(b for b, i in zip(blocks, inputs, strict=True) if i == u) for u in unique]
    return np.concatenate(parts, axis=1)
