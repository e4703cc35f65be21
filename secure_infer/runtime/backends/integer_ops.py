"""Exact integer tensor operations on numpy arrays, through float64 BLAS where that is exact.

Tensors are [C, H, W] int64. A float64 holds every integer below 2**53, so a product of matrices is
exact as long as every partial sum stays below; `linear` checks that bound and splits its input into
15-bit digits where it doesn't hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from secure_infer.runtime.backends.correlation import correlate
from secure_infer.runtime.steps import Linear, SumPool, output_extent

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

_EXACT: Final = float(1 << 53)
_DIGIT_BITS: Final = 15


def signed(x: Int64, ring_bits: int) -> Int64:
    """The representative of x modulo ``2**ring_bits`` in ``[-2**(ring_bits-1), 2**(ring_bits-1))``."""
    half = np.int64(1 << (ring_bits - 1))
    mask = np.int64((1 << ring_bits) - 1)
    return ((x + half) & mask) - half


def linear(step: Linear, x: Int64, weights: NDArray[np.int16], bias: Int64) -> Int64:
    """A linear step without noise, modulo 2**64.

    Parameters
    ----------
    step : Linear
        Kernel, stride, dilation, padding and groups.
    x : int64 array [C, H, W]
        Signed values, below 2**31 in magnitude.
    weights : int16 array [O, C/groups, kh, kw]
    bias : int64 array [O] or [O, Ho, Wo]

    Returns
    -------
    int64 array [O, Ho, Wo]
        Not yet reduced modulo the ring.
    """
    row = np.abs(weights.astype(np.int64)).sum(axis=(1, 2, 3)).max(initial=0)
    if float(np.abs(x).max(initial=0)) * float(row) < _EXACT:
        out = _exact(correlate(step, x.astype(np.float64), weights))
    else:
        high = x >> _DIGIT_BITS
        low = x - (high << _DIGIT_BITS)
        out = _exact(correlate(step, low.astype(np.float64), weights))
        out += _exact(correlate(step, high.astype(np.float64), weights)) << _DIGIT_BITS
    out += bias if bias.ndim == 3 else bias[:, None, None]
    return out


def _exact(x: Float64) -> Int64:
    return np.rint(x).astype(np.int64)


def sum_pool(step: SumPool, x: Int64) -> Int64:
    """Sum over a window, zero padding: [C, H, W] -> [C, Ho, Wo]."""
    top, bottom, left, right = step.padding
    if any(step.padding):
        x = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    sh, sw = step.stride
    high = output_extent(x.shape[1], step.pool[0], sh, 1, 0)
    wide = output_extent(x.shape[2], step.pool[1], sw, 1, 0)
    rows = sum_of(x[:, i : i + (high - 1) * sh + 1 : sh] for i in range(step.pool[0]))
    return sum_of(rows[:, :, j : j + (wide - 1) * sw + 1 : sw] for j in range(step.pool[1]))


def sum_of(parts: Iterator[Int64]) -> Int64:
    """Sum of at least one array, into a new one."""
    total = next(parts).copy()
    for part in parts:
        total += part
    return total
