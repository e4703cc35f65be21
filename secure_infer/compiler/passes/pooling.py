"""Pooling goes first where it leaves less to do for what follows."""

from __future__ import annotations

import numpy as np

from secure_infer.compiler.graph import Conv, Editor, Graph, MaxPool, Relu, SumPool


def pool_before_relu(graph: Graph) -> Graph:
    """ReLU then max-pool -> max-pool then ReLU: a ReLU keeps order, and fewer of them remain.

    With ``flip`` the ReLU is ``min(y, 0)``, which keeps order as well; a clipped one does too.
    """
    editor = Editor.of(graph)
    for node in list(graph.nodes.values()):
        pool = editor.only_user(node.name)
        if isinstance(node.op, Relu) and pool is not None and isinstance(pool.op, MaxPool):
            source = editor.nodes[node.name].inputs[0]
            editor.redirect(pool.name, node.name)
            editor.put(pool.name, pool.op, source)
            editor.put(node.name, node.op, pool.name)
    return editor.graph()


def pool_before_pointwise(graph: Graph) -> Graph:
    """1x1 convolution then sum-pool -> sum-pool then 1x1 convolution (DenseNet's transitions).

    The sums are local for both parties, and what is truncated is smaller by the size of the window.
    """
    editor = Editor.of(graph)
    for node in list(graph.nodes.values()):
        pool = editor.only_user(node.name)
        if not isinstance(node.op, Conv) or pool is None or not isinstance(pool.op, SumPool):
            continue
        if not node.op.is_pointwise or node.op.bias.ndim != 1 or any(pool.op.padding):
            continue
        source = editor.nodes[node.name].inputs[0]
        taps = float(np.prod(pool.op.pool))
        editor.redirect(pool.name, node.name)
        editor.put(pool.name, pool.op, source)
        editor.put(node.name, Conv(node.op.weights, node.op.bias * taps), pool.name)
    return editor.graph()
