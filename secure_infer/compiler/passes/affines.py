"""Affine maps (batch-normalisation, rescaling, factors) vanish into their neighbours.

In order of preference: composed with another, folded into the convolution before, folded into the
convolution after (with a bias per position where that one pads, since padding is zero *after* the
map), moved behind pooling and concatenation, or split at a ReLU into a private threshold and sign
before it and a positive or negative factor behind it (protocol.md, section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from secure_infer.compiler.graph import (
    Affine,
    Concat,
    Conv,
    Editor,
    Graph,
    MaxPool,
    Node,
    Relu,
    Subsample,
    SumPool,
)
from secure_infer.runtime.backends.correlation import correlate
from secure_infer.runtime.steps import Shape


def fold_affines(graph: Graph) -> Graph:
    """Apply the rules below until none applies."""
    rules: tuple[Callable[[Editor, Node], bool], ...] = (
        _drop_identity,
        _into_convolution_before,
        _into_consumers,
    )
    changed = True
    while changed:
        changed = False
        editor = Editor.of(graph)
        for name in list(graph.nodes):
            node = editor.nodes.get(name)
            if node is not None and isinstance(node.op, Affine):
                changed = any(rule(editor, node) for rule in rules) or changed
        graph = editor.graph()
    return graph


def leave_no_affine(graph: Graph) -> Graph:
    """Turn the affine maps that remain into 1x1 convolutions of each channel by itself."""
    editor = Editor.of(graph)
    for node in graph.nodes.values():
        if isinstance(node.op, Affine):
            weights = node.op.scale[:, None, None, None]
            editor.put(node.name, Conv(weights, node.op.shift, groups=len(weights)), *node.inputs)
    return editor.graph()


def _drop_identity(editor: Editor, node: Node) -> bool:
    assert isinstance(node.op, Affine)
    if (node.op.scale == 1).all() and not node.op.shift.any():
        editor.redirect(node.name, node.inputs[0])
        return True
    return False


def _into_convolution_before(editor: Editor, node: Node) -> bool:
    assert isinstance(node.op, Affine)
    conv = editor.nodes[node.inputs[0]]
    if not isinstance(conv.op, Conv) or editor.only_user(conv.name) is None:
        return False
    editor.put(conv.name, scaled_conv(conv.op, node.op), *conv.inputs)
    editor.redirect(node.name, conv.name)
    return True


def scaled_conv(conv: Conv, affine: Affine) -> Conv:
    """The convolution followed by the affine map, as one convolution."""
    weights = conv.weights * affine.scale[:, None, None, None]
    if conv.bias.ndim == 3:
        bias = conv.bias * affine.scale[:, None, None] + affine.shift[:, None, None]
    else:
        bias = conv.bias * affine.scale + affine.shift
    return replace(conv, weights=weights, bias=bias)


def _into_consumers(editor: Editor, node: Node) -> bool:
    """Move the map behind (or into) each consumer that allows it."""
    changed = False
    for user in editor.users(node.name):
        if isinstance(user.op, Affine):
            changed = _compose(editor, node, user) or changed
        elif isinstance(user.op, Conv):
            changed = _into_convolution_behind(editor, node, user) or changed
        elif isinstance(user.op, Relu):
            changed = _split_at_relu(editor, node, user) or changed
        elif isinstance(user.op, MaxPool | SumPool | Subsample):
            changed = _behind_pool(editor, node, user) or changed
        elif isinstance(user.op, Concat):
            changed = _behind_concat(editor, node, user) or changed
    return changed


def _behind(editor: Editor, user: Node, affine: Affine) -> None:
    """Give a node's users an affine map of it instead."""
    name = editor.fresh(f"{user.name}:affine")
    editor.put(name, affine, user.name)
    editor.redirect(user.name, name)


def _compose(editor: Editor, node: Node, user: Node) -> bool:
    assert isinstance(node.op, Affine)
    assert isinstance(user.op, Affine)
    shift = user.op.scale * node.op.shift + user.op.shift
    editor.put(user.name, Affine(user.op.scale * node.op.scale, shift), node.inputs[0])
    return True


def _into_convolution_behind(editor: Editor, node: Node, user: Node) -> bool:
    assert isinstance(node.op, Affine)
    assert isinstance(user.op, Conv)
    editor.put(user.name, conv_of_affine(user.op, node.op, node.shape), node.inputs[0])
    return True


def conv_of_affine(conv: Conv, affine: Affine, shape: Shape) -> Conv:
    """The affine map of an image of the given shape followed by the convolution, as one convolution.

    Where the convolution pads, the shift reaches an output only through the taps that see the
    image, so the new bias is one number per output position.
    """
    per_group = conv.weights.shape[1]
    outputs_per_group = len(conv.weights) // conv.groups
    channels = np.arange(len(conv.weights)) // outputs_per_group * per_group
    scale = affine.scale[channels[:, None] + np.arange(per_group)]
    weights = conv.weights * scale[:, :, None, None]
    if not affine.shift.any():
        return replace(conv, weights=weights)
    if any(conv.padding):
        constant = np.broadcast_to(affine.shift[:, None, None], shape)
        return replace(conv, weights=weights, bias=conv.bias_map + correlate(conv, constant, conv.weights))
    shift = affine.shift[channels[:, None] + np.arange(per_group)]
    added = (conv.weights.sum(axis=(2, 3)) * shift).sum(axis=1)
    if conv.bias.ndim == 3:
        added = added[:, None, None]
    return replace(conv, weights=weights, bias=conv.bias + added)


def _split_at_relu(editor: Editor, node: Node, user: Node) -> bool:
    """ReLU(g x + b) = g * (y kept where [y >= 0] xor [g < 0]) with y = x + b/g."""
    assert isinstance(node.op, Affine)
    assert isinstance(user.op, Relu)
    source = editor.nodes[node.inputs[0]]
    if isinstance(source.op, Conv) and editor.only_user(source.name) is not None:
        return False  # the map will go into that convolution
    parts = split_relu(user.op, node.op)
    if parts is None:
        return False
    editor.put(user.name, parts[0], node.inputs[0])
    _behind(editor, user, parts[1])
    return True


def split_relu(relu: Relu, affine: Affine) -> tuple[Relu, Affine] | None:
    """The affine map followed by the ReLU, as a ReLU followed by an affine map; None where it can't be.

    A ReLU with a ceiling needs positive factors; one with signs of its own isn't split again. A
    factor of 0 makes the output constant: it stays a unit like any other, with factor 0 behind it.
    """
    g = affine.scale
    if relu.flip.any() or (relu.ceiling is not None and (g <= 0).any()):
        return None
    shift = affine.shift + relu.threshold
    alive = g != 0
    threshold = np.divide(shift, g, out=np.zeros_like(shift), where=alive)
    constant = np.where(alive, 0.0, np.maximum(shift, 0.0))
    ceiling = None if relu.ceiling is None else relu.ceiling / g
    return Relu(threshold, g < 0, ceiling), Affine(g, constant)


def _behind_pool(editor: Editor, node: Node, user: Node) -> bool:
    assert isinstance(node.op, Affine)
    affine = node.op
    if isinstance(user.op, MaxPool) and (affine.scale < 0).any():
        return False
    if isinstance(user.op, SumPool):
        if any(user.op.padding) and affine.shift.any():
            return False
        affine = Affine(affine.scale, affine.shift * float(np.prod(user.op.pool)))
    editor.put(user.name, user.op, node.inputs[0])
    _behind(editor, user, affine)
    return True


def _behind_concat(editor: Editor, node: Node, user: Node) -> bool:
    """Move all affine maps in front of a concatenation behind it, as one."""
    scales, shifts, inputs = [], [], []
    for name in user.inputs:
        source = editor.nodes[name]
        if isinstance(source.op, Affine):
            scales.append(source.op.scale)
            shifts.append(source.op.shift)
            inputs.append(source.inputs[0])
        else:
            scales.append(np.ones(source.shape[0]))
            shifts.append(np.zeros(source.shape[0]))
            inputs.append(name)
    if node.name not in user.inputs or inputs == list(user.inputs):
        return False
    editor.put(user.name, user.op, *inputs)
    _behind(editor, user, Affine(np.concatenate(scales), np.concatenate(shifts)))
    return True
