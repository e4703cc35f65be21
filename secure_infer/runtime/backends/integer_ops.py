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

from secure_infer.runtime.steps import Linear, SumPool, output_extent

Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]

_EXACT: Final = float(1 << 53)
_DIGIT_BITS: Final = 15
_TILE_ELEMENTS: Final = 1 << 22
_WEIGHT_BLOCK: Final = 1 << 22


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


def correlate(step: Linear, x: Float64, weights: NDArray[np.int16]) -> Float64:
    """Cross-correlation of a step in float64, zero padding, no bias: [C, H, W] -> [O, Ho, Wo]."""
    top, bottom, left, right = step.padding
    if any(step.padding):
        x = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    if step.groups == 1:
        return _dense(step, x, weights)
    if weights.shape[1] == 1:
        return _depthwise(step, x, weights)
    inputs, outputs = weights.shape[1], weights.shape[0] // step.groups
    parts = [
        _dense(step, x[g * inputs : (g + 1) * inputs], weights[g * outputs : (g + 1) * outputs])
        for g in range(step.groups)
    ]
    return np.concatenate(parts)


def _extents(step: Linear | SumPool, kernel: tuple[int, int], x: NDArray[np.generic]) -> tuple[int, int]:
    dilation = step.dilation if isinstance(step, Linear) else (1, 1)
    return (
        output_extent(x.shape[1], kernel[0], step.stride[0], dilation[0], 0),
        output_extent(x.shape[2], kernel[1], step.stride[1], dilation[1], 0),
    )


def _dense(step: Linear, x: Float64, weights: NDArray[np.int16]) -> Float64:
    high, wide = _extents(step, step.kernel, x)
    outputs = weights.shape[0]
    matrix = weights.reshape(outputs, -1)
    out = np.empty((outputs, high, wide))
    block = max(1, _WEIGHT_BLOCK // matrix.shape[1])
    for rows, columns in _columns(step, x, high, wide):
        for o in range(0, outputs, block):
            product = matrix[o : o + block].astype(np.float64) @ columns
            out[o : o + block, rows] = product.reshape(-1, rows.stop - rows.start, wide)
    return out


def _columns(step: Linear, x: Float64, high: int, wide: int) -> Iterator[tuple[slice, Float64]]:
    """Tiles of output rows, each with the matrix [C*kh*kw, positions] of what its taps see."""
    channels = x.shape[0]
    (kh, kw), (sh, sw), (dh, dw) = step.kernel, step.stride, step.dilation
    tile = max(1, _TILE_ELEMENTS // max(1, channels * kh * kw * wide))
    for first in range(0, high, tile):
        count = min(tile, high - first)
        columns = np.empty((channels, kh, kw, count, wide))
        for i in range(kh):
            top = first * sh + i * dh
            for j in range(kw):
                left = j * dw
                columns[:, i, j] = x[
                    :, top : top + (count - 1) * sh + 1 : sh, left : left + (wide - 1) * sw + 1 : sw
                ]
        yield slice(first, first + count), columns.reshape(channels * kh * kw, count * wide)


def _depthwise(step: Linear, x: Float64, weights: NDArray[np.int16]) -> Float64:
    high, wide = _extents(step, step.kernel, x)
    multiplier = weights.shape[0] // step.groups
    (sh, sw), (dh, dw) = step.stride, step.dilation
    out = np.zeros((step.groups, multiplier, high, wide))
    taps = weights.astype(np.float64).reshape(step.groups, multiplier, *step.kernel)
    for i in range(step.kernel[0]):
        for j in range(step.kernel[1]):
            seen = x[
                :, i * dh : i * dh + (high - 1) * sh + 1 : sh, j * dw : j * dw + (wide - 1) * sw + 1 : sw
            ]
            out += taps[:, :, i, j, None, None] * seen[:, None]
    return out.reshape(-1, high, wide)


def sum_pool(step: SumPool, x: Int64) -> Int64:
    """Sum over a window, zero padding: [C, H, W] -> [C, Ho, Wo]."""
    top, bottom, left, right = step.padding
    if any(step.padding):
        x = np.pad(x, ((0, 0), (top, bottom), (left, right)))
    high, wide = _extents(step, step.pool, x)
    sh, sw = step.stride
    rows = sum_of(x[:, i : i + (high - 1) * sh + 1 : sh] for i in range(step.pool[0]))
    return sum_of(rows[:, :, j : j + (wide - 1) * sw + 1 : sw] for j in range(step.pool[1]))


def sum_of(parts: Iterator[Int64]) -> Int64:
    """Sum of at least one array, into a new one."""
    total = next(parts).copy()
    for part in parts:
        total += part
    return total
