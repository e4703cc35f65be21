"""Cross-correlation on numpy arrays: tiles of columns times weights through BLAS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from secure_infer.runtime.steps import Padding, Pair, output_extent

Float = NDArray[Any]

_TILE_ELEMENTS: Final = 1 << 22
_WEIGHT_BLOCK: Final = 1 << 22


class Geometry(Protocol):
    """How a kernel moves over an image; padding is [top, bottom, left, right]."""

    @property
    def kernel(self) -> Pair:
        """Taps, high and wide."""
        ...

    @property
    def stride(self) -> Pair:
        """Steps between positions, down and right."""
        ...

    @property
    def dilation(self) -> Pair:
        """Distance of taps, down and right."""
        ...

    @property
    def padding(self) -> Padding:
        """Zeros at the top, bottom, left, right."""
        ...

    @property
    def groups(self) -> int:
        """Number of groups of channels."""
        ...


def correlate(step: Geometry, x: Float, weights: NDArray[Any]) -> Float:
    """Cross-correlation with zero padding and no bias.

    Parameters
    ----------
    step : Geometry
        A linear step, or an operation of the compiler's graph.
    x : float array [C, H, W]
        Its dtype is the one everything is computed in.
    weights : array [O, C/groups, kh, kw]
        Converted to the dtype of x, a block of rows at a time.

    Returns
    -------
    float array [O, Ho, Wo]
    """
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


def _extents(step: Geometry, x: Float) -> tuple[int, int]:
    return (
        output_extent(x.shape[1], step.kernel[0], step.stride[0], step.dilation[0], 0),
        output_extent(x.shape[2], step.kernel[1], step.stride[1], step.dilation[1], 0),
    )


def _dense(step: Geometry, x: Float, weights: NDArray[Any]) -> Float:
    high, wide = _extents(step, x)
    outputs = weights.shape[0]
    matrix = weights.reshape(outputs, -1)
    out = np.empty((outputs, high, wide), x.dtype)
    block = max(1, _WEIGHT_BLOCK // matrix.shape[1])
    for rows, columns in _columns(step, x, high, wide):
        for o in range(0, outputs, block):
            product = matrix[o : o + block].astype(x.dtype) @ columns
            out[o : o + block, rows] = product.reshape(-1, rows.stop - rows.start, wide)
    return out


def _columns(step: Geometry, x: Float, high: int, wide: int) -> Iterator[tuple[slice, Float]]:
    """Tiles of output rows, each with the matrix [C*kh*kw, positions] of what its taps see."""
    channels = x.shape[0]
    (kh, kw), (sh, sw), (dh, dw) = step.kernel, step.stride, step.dilation
    if step.kernel == (1, 1) and step.stride == (1, 1):
        yield slice(0, high), x.reshape(channels, -1)
        return
    tile = max(1, _TILE_ELEMENTS // max(1, channels * kh * kw * wide))
    for first in range(0, high, tile):
        count = min(tile, high - first)
        columns = np.empty((channels, kh, kw, count, wide), x.dtype)
        for i in range(kh):
            top = first * sh + i * dh
            for j in range(kw):
                left = j * dw
                columns[:, i, j] = x[
                    :, top : top + (count - 1) * sh + 1 : sh, left : left + (wide - 1) * sw + 1 : sw
                ]
        yield slice(first, first + count), columns.reshape(channels * kh * kw, count * wide)


def _depthwise(step: Geometry, x: Float, weights: NDArray[Any]) -> Float:
    high, wide = _extents(step, x)
    multiplier = weights.shape[0] // step.groups
    (sh, sw), (dh, dw) = step.stride, step.dilation
    out = np.zeros((step.groups, multiplier, high, wide), x.dtype)
    taps = weights.astype(x.dtype).reshape(step.groups, multiplier, *step.kernel)
    for i in range(step.kernel[0]):
        for j in range(step.kernel[1]):
            seen = x[
                :, i * dh : i * dh + (high - 1) * sh + 1 : sh, j * dw : j * dw + (wide - 1) * sw + 1 : sw
            ]
            out += taps[:, :, i, j, None, None] * seen[:, None]
    return out.reshape(-1, high, wide)
