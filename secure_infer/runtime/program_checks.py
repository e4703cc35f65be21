"""The invariants of a program and of its private parameters, one function per rule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NoReturn

import numpy as np

from secure_infer.errors import ProgramError
from secure_infer.runtime.steps import (
    Add,
    Concat,
    Input,
    Linear,
    MaxPool,
    Output,
    Relu,
    ReluClipped,
    Shape,
    Step,
    Subsample,
    SumPool,
    Truncate,
    Value,
    output_extent,
    parameter_names,
    sources,
)

RING_BITS: Final = range(8, 32)
WINDOW_WIDTHS: Final = range(2, 17)
WEIGHT_LIMIT: Final = 32767
MAX_ELEMENTS: Final = 1 << 26
MAX_STEPS: Final = 4096
MAX_EXTENT: Final = 1 << 16
MAX_NAME: Final = 256


def check_program(values: Sequence[Value], steps: Sequence[Step]) -> None:
    """Check every invariant of a program.

    Raises
    ------
    ProgramError
        Naming the step (or value) and what was expected of it.
    """
    if not 2 <= len(steps) <= MAX_STEPS:
        raise ProgramError("program", expected=f"2 to {MAX_STEPS} steps", got=len(steps))
    for index, value in enumerate(values):
        _check_value(index, value)
    defined: set[int] = set()
    names: set[str] = set()
    for index, step in enumerate(steps):
        _check_name(step, names)
        if isinstance(step, Input) != (index == 0):
            _fail(step, "exactly one input, as the first step", f"op {step.op!r} at position {index}")
        for source in sources(step):
            if source not in defined:
                _fail(step, "sources made by earlier steps", f"value {source}")
        if not isinstance(step, Output):
            if not 0 <= step.out < len(values) or step.out in defined:
                _fail(step, "an output value of its own", f"value {step.out}")
            defined.add(step.out)
        _check_step(values, step)
    if len(defined) != len(values):
        raise ProgramError(
            "program", expected="a step for every value", got=f"{len(values) - len(defined)} without"
        )
    if not any(isinstance(step, Output) for step in steps):
        raise ProgramError("program", expected="at least one output", got="none")


def _fail(step: Step, expected: str, got: str) -> NoReturn:
    raise ProgramError(f"step {step.name!r} ({step.op})", expected=expected, got=got)


def _check_value(index: int, value: Value) -> None:
    if any(not 1 <= extent <= MAX_EXTENT for extent in value.shape):
        raise ProgramError(
            f"value {index}", expected=f"extents from 1 to {MAX_EXTENT}", got=list(value.shape)
        )
    if value.elements > MAX_ELEMENTS:
        raise ProgramError(f"value {index}", expected=f"at most {MAX_ELEMENTS} elements", got=value.elements)
    if value.ring_bits not in RING_BITS:
        expected = f"ring_bits from {RING_BITS[0]} to {RING_BITS[-1]}"
        raise ProgramError(f"value {index}", expected=expected, got=value.ring_bits)


def _check_name(step: Step, names: set[str]) -> None:
    if not step.name or len(step.name) > MAX_NAME or not step.name.isprintable():
        _fail(step, f"a printable name of 1 to {MAX_NAME} characters", f"{len(step.name)} characters")
    if step.name in names:
        _fail(step, "a name of its own", "one that an earlier step has")
    names.add(step.name)


def _check_step(values: Sequence[Value], step: Step) -> None:
    if isinstance(step, Input | Output):
        return
    read = [values[i] for i in sources(step)]
    made = values[step.out]
    if isinstance(step, Linear):
        _check_linear(step, read[0], made)
    elif isinstance(step, Truncate):
        _check_range(step, "shift", [step.shift], 1, read[0].ring_bits - 3)
        _check_shape(step, read[0].shape, made.shape)
    elif isinstance(step, Relu | ReluClipped):
        # What is extended may take half of its ring.
        room = int(made.ring_bits > read[0].ring_bits)
        _check_window(step, step.window, read[0].ring_bits - room)
        _check_shape(step, read[0].shape, made.shape)
    elif isinstance(step, MaxPool | SumPool):
        _check_pool(step, read[0], made)
    elif isinstance(step, Add | Concat):
        _check_joined(step, read, made)
    else:
        _check_subsample(step, read[0], made)


def _check_range(step: Step, what: str, values: Iterable[int], low: int, high: int) -> None:
    for value in values:
        if not low <= value <= high:
            _fail(step, f"{what} from {low} to {high}", str(value))


def _check_shape(step: Step, expected: Shape, got: Shape) -> None:
    if tuple(expected) != tuple(got):
        _fail(step, f"an output of shape {list(expected)}", str(list(got)))


def _check_ring_not_grown(step: Step, read: Value, made: Value) -> None:
    if made.ring_bits > read.ring_bits:
        _fail(
            step,
            f"ring_bits of at most {read.ring_bits} (rings grow in truncations and ReLUs only)",
            str(made.ring_bits),
        )


def _check_window(step: Step, window: tuple[int, int], ring_bits: int) -> None:
    low, high = window
    if low < 0 or high > ring_bits or high - low not in WINDOW_WIDTHS:
        widths = f"{WINDOW_WIDTHS[0]} to {WINDOW_WIDTHS[-1]}"
        _fail(step, f"a window [m, k) with 0 <= m, k <= {ring_bits}, k - m from {widths}", f"[{low}, {high})")


def _check_linear(step: Linear, read: Value, made: Value) -> None:
    channels, height, width = read.shape
    _check_range(step, "kernel", step.kernel, 1, MAX_EXTENT)
    _check_range(step, "stride", step.stride, 1, MAX_EXTENT)
    _check_range(step, "dilation", step.dilation, 1, MAX_EXTENT)
    _check_range(step, "padding", step.padding, 0, MAX_EXTENT)
    _check_range(step, "groups", [step.groups], 1, channels)
    if channels % step.groups or made.shape[0] % step.groups:
        _fail(step, f"channels divisible by {step.groups} groups", f"{channels} and {made.shape[0]}")
    if read.ring_bits != made.ring_bits:
        _fail(step, f"ring_bits {read.ring_bits} on both sides", str(made.ring_bits))
    top, bottom, left, right = step.padding
    high = output_extent(height, step.kernel[0], step.stride[0], step.dilation[0], top + bottom)
    wide = output_extent(width, step.kernel[1], step.stride[1], step.dilation[1], left + right)
    _check_shape(step, (made.shape[0], high, wide), made.shape)


def _check_pool(step: MaxPool | SumPool, read: Value, made: Value) -> None:
    channels, height, width = read.shape
    _check_range(step, "pool", step.pool, 1, MAX_EXTENT)
    _check_range(step, "stride", step.stride, 1, MAX_EXTENT)
    # Less padding than the window's size, so that every window sees a pixel.
    _check_range(step, "padding", step.padding[:2], 0, step.pool[0] - 1)
    _check_range(step, "padding", step.padding[2:], 0, step.pool[1] - 1)
    high = output_extent(height, step.pool[0], step.stride[0], 1, step.padding[0] + step.padding[1])
    wide = output_extent(width, step.pool[1], step.stride[1], 1, step.padding[2] + step.padding[3])
    _check_shape(step, (channels, high, wide), made.shape)
    _check_ring_not_grown(step, read, made)
    if isinstance(step, MaxPool):
        _check_window(step, step.window, read.ring_bits)


def _check_joined(step: Add | Concat, read: list[Value], made: Value) -> None:
    if not 1 <= len(read) <= 256:
        _fail(step, "1 to 256 sources", str(len(read)))
    ring = min(value.ring_bits for value in read)
    if made.ring_bits != ring:
        _fail(step, f"ring_bits {ring}, the smallest of its sources", str(made.ring_bits))
    first = read[0].shape
    if isinstance(step, Concat):
        if any(value.shape[1:] != first[1:] for value in read):
            _fail(step, f"sources of height and width {list(first[1:])}", "another")
        _check_shape(step, (sum(value.shape[0] for value in read), *first[1:]), made.shape)
        return
    if len(step.shift) != len(read):
        _fail(step, f"{len(read)} shifts", str(len(step.shift)))
    _check_range(step, "shift", step.shift, 0, ring - 1)
    if any(value.shape != first for value in read):
        _fail(step, f"sources of shape {list(first)}", "another")
    _check_shape(step, first, made.shape)


def _check_subsample(step: Subsample, read: Value, made: Value) -> None:
    _check_range(step, "stride", step.stride, 1, MAX_EXTENT)
    channels, height, width = read.shape
    _check_shape(step, (channels, -(-height // step.stride[0]), -(-width // step.stride[1])), made.shape)
    _check_ring_not_grown(step, read, made)


def check_step_parameters(
    values: Sequence[Value], step: Linear | Relu | ReluClipped, arrays: Mapping[str, Any]
) -> None:
    """Check the private arrays of one step: names, dtypes, shapes and ranges."""
    expected = parameter_names(step)
    if set(arrays) != set(expected):
        _fail(step, f"parameters {list(expected)}", str(sorted(arrays)[:4]))
    channels = values[step.source].shape[0]
    if not isinstance(step, Linear):
        _check_array(step, "threshold", arrays["threshold"], np.int32, [(channels,)])
        second = "flip" if isinstance(step, Relu) else "ceiling"
        dtype = np.uint8 if isinstance(step, Relu) else np.int32
        _check_array(step, second, arrays[second], dtype, [(channels,)])
        if isinstance(step, Relu) and int(arrays["flip"].max()) > 1:
            _fail(step, "flips of 0 or 1", "another")
        if isinstance(step, ReluClipped) and int(arrays["ceiling"].min()) < 1:
            _fail(step, "positive ceilings", "another")
        return
    out = values[step.out].shape
    _check_array(
        step, "weights", arrays["weights"], np.int16, [(out[0], channels // step.groups, *step.kernel)]
    )
    if int(arrays["weights"].min()) < -WEIGHT_LIMIT:
        _fail(step, f"weights of at least -{WEIGHT_LIMIT}", "-32768")
    _check_array(step, "bias", arrays["bias"], np.int64, [(out[0],), out])


def _check_array(step: Step, what: str, array: Any, dtype: Any, shapes: list[tuple[int, ...]]) -> None:
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        _fail(
            step,
            f"{what} of dtype {np.dtype(dtype).name}",
            str(getattr(array, "dtype", type(array).__name__)),
        )
    if array.shape not in shapes:
        _fail(step, f"{what} of shape {' or '.join(str(list(s)) for s in shapes)}", str(list(array.shape)))
    if not array.flags.c_contiguous:
        _fail(step, f"{what} in C order", "another memory layout")
