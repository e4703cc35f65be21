"""The values and steps a program is made of, and what each step computes.

Values are tensors [C, H, W] of integers modulo ``2**ring_bits``, read as signed. The meaning of
every step is given at its class. ``delta`` and ``g`` are the protocol's roundings: delta is uniform
in (-1/2, 1/2) per input element and known to the hospital, g is Gaussian and the developer's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

Shape = tuple[int, int, int]
Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


@dataclass(frozen=True)
class Value:
    """A tensor of the network: shape [C, H, W], integers modulo ``2**ring_bits`` read as signed."""

    shape: Shape
    ring_bits: int

    @property
    def elements(self) -> int:
        """Number of integers in the value."""
        return self.shape[0] * self.shape[1] * self.shape[2]


@dataclass(frozen=True)
class Input:
    """The image, as integers the hospital holds. Exactly one, and first."""

    op: ClassVar[str] = "input"
    name: str
    out: int


@dataclass(frozen=True)
class Linear:
    """Cross-correlation with private int16 weights [O, C/groups, kh, kw] and an added private bias.

    ``out = sum(w * x) + bias`` with zero padding [top, bottom, left, right]; in two parties
    ``out = W(x + delta) + bias + g``, delta being 0 at padding and g of standard deviation
    ``2**(9 + ring_bits - 27)``. The bias is int64 [O] or [O, Ho, Wo].
    """

    op: ClassVar[str] = "linear"
    name: str
    source: int
    out: int
    kernel: Pair
    stride: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    groups: int = 1


@dataclass(frozen=True)
class Truncate:
    """Division by ``2**shift``, from a ring of ell bits to one of ell'.

    Requires ``-2**(ell-2) <= y + 2**shift < 2**(ell-2)`` and a result that the new ring can hold. Where
    ``ell' <= ell - shift`` it is local, else an OT an element finds the wrap of the shares. In two parties
    the error is in (-1, 1) with mean 0; the reference rounds half up.
    """

    op: ClassVar[str] = "truncate"
    name: str
    source: int
    out: int
    shift: int


@dataclass(frozen=True)
class MaxPool:
    """Maximum over a window; positions in the padding never win.

    Made of ``max(a, b) = b + ReLU(a - b)``, along the width and then along the height. With
    ``window = (m, k)``, every difference must be below ``2**(k-1) - 2**m`` in magnitude, and each
    comparison may be off by up to ``2**(m-1)``.
    """

    op: ClassVar[str] = "max_pool"
    name: str
    source: int
    out: int
    pool: Pair
    stride: Pair
    padding: Padding
    window: Pair


@dataclass(frozen=True)
class Relu:
    """``y = x + threshold[c]``; ``b = [y >= 0] xor flip[c]``; ``out = b * y``.

    With ``window = (m, k)``: requires ``|y| < 2**(k-1) - 2**m``, and b may be wrong where
    ``-2**(m-1) <= y < 2**(m-1)``. The threshold (int32 [C]) and flip (uint8 [C]) are private parameters.

    The product is made in the smaller one of both rings. Where the result's is the larger one, it is extended
    with an OT an element, which is exact; the window must then leave the top bit of the input's ring unread.
    """

    op: ClassVar[str] = "relu"
    name: str
    source: int
    out: int
    window: Pair


@dataclass(frozen=True)
class ReluClipped:
    """``y = x + threshold[c]``; ``out = ReLU(y) - ReLU(y - ceiling[c])`` (ReLU6).

    The window must hold for y and for ``y - ceiling``. Threshold and ceiling (int32 [C], the
    ceiling positive) are private parameters. The result is extended as that of `Relu`.
    """

    op: ClassVar[str] = "relu_clipped"
    name: str
    source: int
    out: int
    window: Pair


@dataclass(frozen=True)
class SumPool:
    """Sum over a window, zero padding. Local."""

    op: ClassVar[str] = "sum_pool"
    name: str
    source: int
    out: int
    pool: Pair
    stride: Pair
    padding: Padding = (0, 0, 0, 0)


@dataclass(frozen=True)
class Add:
    """``sum_i sources[i] << shift[i]``, in the smallest ring of the sources. Local."""

    op: ClassVar[str] = "add"
    name: str
    sources: tuple[int, ...]
    out: int
    shift: tuple[int, ...]


@dataclass(frozen=True)
class Concat:
    """The sources' channels one after the other, in their smallest ring. Local."""

    op: ClassVar[str] = "concat"
    name: str
    sources: tuple[int, ...]
    out: int


@dataclass(frozen=True)
class Subsample:
    """``x[:, ::stride[0], ::stride[1]]``. Local."""

    op: ClassVar[str] = "subsample"
    name: str
    source: int
    out: int
    stride: Pair


@dataclass(frozen=True)
class Output:
    """A value that is opened to the hospital, and to nobody else."""

    op: ClassVar[str] = "output"
    name: str
    source: int


Step = Input | Linear | Truncate | MaxPool | Relu | ReluClipped | SumPool | Add | Concat | Subsample | Output
STEP_TYPES: dict[str, type[Step]] = {
    kind.op: kind
    for kind in (
        Input, Linear, Truncate, MaxPool, Relu, ReluClipped, SumPool, Add, Concat, Subsample, Output,
    )
}  # fmt: skip


def sources(step: Step) -> tuple[int, ...]:
    """Indices of the values a step reads."""
    if isinstance(step, Input):
        return ()
    if isinstance(step, Add | Concat):
        return step.sources
    return (step.source,)


def output_extent(extent: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    """Positions of a window of ``kernel`` taps along an axis, 0 or less when it doesn't fit."""
    return (extent + padding - dilation * (kernel - 1) - 1) // stride + 1


def parameter_names(step: Step) -> tuple[str, ...]:
    """Names of the private arrays a step needs."""
    if isinstance(step, Linear):
        return ("weights", "bias")
    if isinstance(step, Relu):
        return ("threshold", "flip")
    if isinstance(step, ReluClipped):
        return ("threshold", "ceiling")
    return ()
