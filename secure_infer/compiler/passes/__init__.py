"""Rewrites of the float graph, one a file; `simplify` applies them in order.

Every pass keeps the function of the graph (the tests evaluate both sides) and leaves fewer kinds of
operations, or cheaper ones. Afterwards there are only Image, Conv, Relu, MaxPool, SumPool, Add,
Concat and Subsample: what a program can say.
"""

from secure_infer.compiler.graph import Graph
from secure_infer.compiler.passes.affines import fold_affines, leave_no_affine
from secure_infer.compiler.passes.channels import compose_pointwise, merge_repeated_channels
from secure_infer.compiler.passes.padding import fold_padding
from secure_infer.compiler.passes.pooling import pool_before_pointwise, pool_before_relu
from secure_infer.compiler.passes.subsampling import subsample_early

__all__ = ["finish", "simplify"]


def simplify(graph: Graph) -> Graph:
    """All passes that need no calibration, in their order."""
    for rewrite in (
        fold_padding,
        pool_before_relu,
        pool_before_pointwise,
        fold_affines,
        compose_pointwise,
        merge_repeated_channels,
        subsample_early,
    ):
        graph = rewrite(graph)
    return finish(graph)


def finish(graph: Graph) -> Graph:
    """Fold affine maps again, and turn those that remain into convolutions."""
    return leave_no_affine(fold_affines(graph))
