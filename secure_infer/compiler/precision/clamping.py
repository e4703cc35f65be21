"""Batch-norm thresholds far outside a value's range are clamped (protocol.md, section 4).

``y = x + theta`` must fit the window, but theta = b/g is unbounded when g is small. Where |theta|
exceeds what x can reach, the unit is always on or always off; theta is clamped to just outside that
range, and what an always-on unit then lacks, ``b - g*theta``, is added behind it as a constant.
Such units still run the protocol: which they are stays the developer's secret.
"""

from __future__ import annotations

import numpy as np

from secure_infer.compiler.graph import Affine, Editor, Graph, Relu
from secure_infer.compiler.passes import finish
from secure_infer.compiler.precision.calibration import Calibration

_BEYOND = 1.0 + 1.0 / 64
"""The clamped threshold, relative to the range of x: outside it by at least ``2**m`` units."""


def clamp_thresholds(graph: Graph, calibration: Calibration, margin: float) -> tuple[Graph, int]:
    """Clamp the thresholds of all ReLUs.

    Parameters
    ----------
    graph : Graph
        After `simplify`.
    calibration : Calibration
    margin : float
        The range of x, in calibration maxima.

    Returns
    -------
    (Graph, int)
        The graph, and the number of clamped units.
    """
    editor = Editor.of(graph)
    clamped = 0
    for node in graph.nodes.values():
        if not isinstance(node.op, Relu) or node.op.ceiling is not None:
            continue
        limit = margin * _BEYOND * calibration.maxima[node.inputs[0]]
        threshold = np.clip(node.op.threshold, -limit, limit)
        missing = node.op.threshold - threshold
        if not missing.any():
            continue
        clamped += int(np.count_nonzero(missing))
        always_on = (missing > 0) ^ node.op.flip
        constant = np.where((missing != 0) & always_on, missing, 0.0)
        editor.put(node.name, Relu(threshold, node.op.flip), *node.inputs)
        if constant.any():
            name = editor.fresh(f"{node.name}:constant")
            editor.put(name, Affine(np.ones_like(constant), constant), node.name)
            editor.redirect(node.name, name)
    return (finish(editor.graph()), clamped) if clamped else (graph, 0)
