"""The plain backend: a program executed on integers, exactly as the two-party protocol would.

With ``rng=None`` every step is the function written at its class (exact sums, truncations rounded
half up, exact comparisons inside the window). With a generator, the protocol's own roundings are
drawn as well: delta uniform on the inputs of linear layers but not at padding, the developer's
Gaussian g, the probabilistic truncation, and comparisons that ignore the bits below the window (centred:
``b`` is drawn where ``-2**(m-1) <= y < 2**(m-1)``).
Either way a value outside its window compares as the protocol would compare it, by bit k-1, and every value
is reduced to its ring: what a small ring can't hold wraps here as it does there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secure_infer.errors import InputRejected
from secure_infer.runtime.backends import integer_ops as ops
from secure_infer.runtime.backends.correlation import correlate
from secure_infer.runtime.program import Program, check_parameters
from secure_infer.runtime.steps import (
    Add,
    Concat,
    Input,
    Linear,
    MaxPool,
    Output,
    Relu,
    ReluClipped,
    Step,
    Subsample,
    SumPool,
    Truncate,
    sources,
)

Int64 = NDArray[np.int64]

MASK_NOISE_BITS: Final = 9
"""log2 of the standard deviation of g in a ring of `REFERENCE_RING_BITS`."""

REFERENCE_RING_BITS: Final = 27


@dataclass
class StepStatistics:
    """What the tests of one step saw, over all images of an observer.

    Attributes
    ----------
    tested : int
        Numbers compared or truncated.
    outside : int
        Of these, how many violated the step's requirement (window, or truncation range).
    below : int
        How many were below ``2**(m-1)`` in magnitude, where a comparison may go either way.
    peak : float
        Largest magnitude seen, as a fraction of the largest allowed.
    """

    tested: int = 0
    outside: int = 0
    below: int = 0
    peak: float = 0.0

    def add(self, y: Int64, limit: int, low: int) -> None:
        """Count the numbers y, which should be below ``limit`` in magnitude."""
        magnitude = np.abs(y)
        self.tested += y.size
        self.outside += int((magnitude >= limit).sum())
        self.below += int((magnitude < low).sum()) if low else 0
        self.peak = max(self.peak, float(magnitude.max(initial=0)) / limit)


@dataclass
class Observer:
    """Collects statistics per step, and every value where ``keep`` is set; reusable over images."""

    keep: bool = False
    statistics: dict[str, StepStatistics] = field(default_factory=dict)
    values: dict[str, Int64] = field(default_factory=dict)

    def tested(self, step: Step, y: Int64, limit: int, low: int = 0) -> None:
        """Take note of numbers that a step compares or truncates."""
        self.statistics.setdefault(step.name, StepStatistics()).add(y, limit, low)

    def made(self, step: Step, out: Int64) -> None:
        """Take note of a step's output."""
        if self.keep:
            self.values[step.name] = out

    @property
    def outside(self) -> int:
        """Violated requirements, over all steps and images."""
        return sum(s.outside for s in self.statistics.values())


class ReferenceBackend:
    """Executes a program on one image at a time, in the clear.

    Parameters
    ----------
    program : Program
    parameters : mapping of step name to mapping of array name to array
        The private parameters; checked against the program.

    Raises
    ------
    ProgramError
        When the parameters don't fit the program.
    """

    def __init__(self, program: Program, parameters: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        check_parameters(program, parameters)
        self.program = program
        self._parameters = parameters
        self._last_use = {v: i for i, step in enumerate(program.steps) for v in sources(step)}

    def run(
        self,
        x: NDArray[np.integer[Any]],
        *,
        rng: np.random.Generator | None = None,
        observer: Observer | None = None,
    ) -> dict[str, Int64]:
        """Execute the program.

        Parameters
        ----------
        x : integer array [C, H, W]
            The image as the hospital would share it.
        rng : Generator, optional
            Source of the protocol's roundings; None for the exact function.
        observer : Observer, optional
            Collects window statistics and intermediate values.

        Returns
        -------
        dict of output name to int64 array [C, H, W]
            Signed values of the opened outputs.

        Raises
        ------
        InputRejected
            When x has another shape than the program's input, or isn't of integers.
        """
        made = self.steps(x, rng=rng, observer=observer)
        return {step.name: out for step, out in made if isinstance(step, Output)}

    def steps(
        self,
        x: NDArray[np.integer[Any]],
        *,
        rng: np.random.Generator | None = None,
        observer: Observer | None = None,
    ) -> Iterator[tuple[Step, Int64]]:
        """As `run`, step by step.

        Yields
        ------
        (Step, int64 array [C, H, W])
            What the step makes, or opens. It may be changed in place before the next step is asked for.
        """
        if x.shape != self.program.input_value.shape or not np.issubdtype(x.dtype, np.integer):
            expected = f"integers of shape {list(self.program.input_value.shape)}"
            raise InputRejected("image", expected=expected, got=f"{x.dtype} of shape {list(x.shape)}")
        walk = _Walk(self.program, self._parameters, rng, observer)
        values: dict[int, Int64] = {}
        for index, step in enumerate(self.program.steps):
            if isinstance(step, Output):
                yield step, values[step.source].copy()
            else:
                read = [x.astype(np.int64)] if isinstance(step, Input) else [values[i] for i in sources(step)]
                out = ops.signed(walk.step(step, read), self.program.values[step.out].ring_bits)
                values[step.out] = out
                yield step, out
                if observer is not None:
                    observer.made(step, out)
            for source in sources(step):
                if self._last_use[source] == index:
                    values.pop(source, None)


class _Walk:
    """One execution; every method returns a step's output before its reduction modulo the ring."""

    def __init__(
        self,
        program: Program,
        parameters: Mapping[str, Mapping[str, NDArray[Any]]],
        rng: np.random.Generator | None,
        observer: Observer | None,
    ) -> None:
        self.values = program.values
        self.parameters = parameters
        self.rng = rng
        self.observer = observer

    def step(self, step: Step, read: list[Int64]) -> Int64:
        if isinstance(step, Linear):
            return self.linear(step, read[0])
        if isinstance(step, Truncate):
            return self.truncate(step, read[0])
        if isinstance(step, Relu | ReluClipped):
            return self.relu(step, read[0])
        if isinstance(step, MaxPool):
            return self.max_pool(step, read[0])
        if isinstance(step, SumPool):
            return ops.sum_pool(step, read[0])
        if isinstance(step, Add):
            return ops.sum_of(x << s for x, s in zip(read, step.shift, strict=True))
        if isinstance(step, Concat):
            return np.concatenate(read)
        if isinstance(step, Subsample):
            return read[0][:, :: step.stride[0], :: step.stride[1]].copy()
        return read[0]

    def linear(self, step: Linear, x: Int64) -> Int64:
        arrays = self.parameters[step.name]
        if self.rng is None:
            return ops.linear(step, x, arrays["weights"], arrays["bias"])
        top, bottom, left, right = step.padding
        rounded = np.pad(x.astype(np.float64), ((0, 0), (top, bottom), (left, right)))
        rounded += self.rng.random(rounded.shape) - 0.5  # the padding's masks are rounded too
        y = correlate(replace(step, padding=(0, 0, 0, 0)), rounded, arrays["weights"])
        bits = self.values[step.out].ring_bits
        y += 2.0 ** (MASK_NOISE_BITS + bits - REFERENCE_RING_BITS) * self.rng.standard_normal(y.shape)
        bias: Int64 = arrays["bias"] if arrays["bias"].ndim == 3 else arrays["bias"][:, None, None]
        return np.rint(y).astype(np.int64) + bias

    def truncate(self, step: Truncate, y: Int64) -> Int64:
        limit = (1 << (self.values[step.source].ring_bits - 2)) - (1 << step.shift)
        if self.observer is not None:
            held = 1 << (self.values[step.out].ring_bits - 1 + step.shift)
            self.observer.tested(step, y, min(limit, held))
        if self.rng is None:
            return (y + (1 << (step.shift - 1))) >> step.shift
        dropped = self.rng.integers(0, 1 << step.shift, y.shape)
        return ((y - dropped) >> step.shift) + 1

    def not_negative(self, step: Relu | ReluClipped | MaxPool, y: Int64) -> NDArray[np.bool_]:
        """[y >= 0] as the masked carry chain finds it from the bits of the window."""
        low, high = step.window
        centre = (1 << low) >> 1
        if self.observer is not None:
            self.observer.tested(step, y, (1 << (high - 1)) - (1 << low), centre)
        if self.rng is not None and low:
            y = ((y + centre - self.rng.integers(0, 1 << low, y.shape)) >> low) << low
        positive: NDArray[np.bool_] = (y >> (high - 1)) & 1 == 0
        return positive

    def relu(self, step: Relu | ReluClipped, x: Int64) -> Int64:
        arrays = self.parameters[step.name]
        y = ops.signed(x + arrays["threshold"][:, None, None], self.values[step.source].ring_bits)
        positive = self.not_negative(step, y)
        if isinstance(step, Relu):
            out: Int64 = y * (positive ^ (arrays["flip"] != 0)[:, None, None])
        else:
            above = y - arrays["ceiling"][:, None, None]
            out = y * positive - above * self.not_negative(step, above)
        return self.extended(step, out)

    def extended(self, step: Relu | ReluClipped, x: Int64) -> Int64:
        """The product in the smaller ring, as the protocol reads it when it extends it to a larger one.

        It adds a quarter of the ring, so that the top bit is clear, and takes the shares to wrap unless both
        of their top bits are clear: for numbers beyond that quarter this is right for some shares only.
        """
        bits = self.values[step.source].ring_bits
        if self.values[step.out].ring_bits <= bits:
            return x
        x = ops.signed(x, bits)
        quarter = 1 << (bits - 2)
        beyond = (x < -quarter) | (x >= quarter)
        if self.rng is not None and beyond.any():
            whole = (x[beyond] + quarter) & (4 * quarter - 1)
            share = self.rng.integers(0, 4 * quarter, whole.shape)
            other = (whole - share) & (4 * quarter - 1)
            wrapped = (share | other) >> (bits - 1)
            x[beyond] = share + other - wrapped * 4 * quarter - quarter
        return x

    def max_pool(self, step: MaxPool, x: Int64) -> Int64:
        _, high, wide = self.values[step.out].shape
        across = self._maxima(step, x, axis=2, count=wide)
        return self._maxima(step, across, axis=1, count=high)

    def _maxima(self, step: MaxPool, x: Int64, axis: int, count: int) -> Int64:
        """Maxima along one axis: the first tap that is a pixel, then ``b + ReLU(a - b)`` with the others."""
        pool, stride, before = step.pool[axis - 1], step.stride[axis - 1], step.padding[2 * axis - 2]
        bits = self.values[step.source].ring_bits
        x = np.moveaxis(x, axis, 0)
        best = np.empty((count, *x.shape[1:]), np.int64)
        started = np.zeros(count, bool)
        for tap in range(pool):
            at = np.arange(count) * stride + tap - before
            inside = (at >= 0) & (at < x.shape[0])
            fresh, again = inside & ~started, inside & started
            best[fresh] = x[at[fresh]]
            held = best[again]
            difference = ops.signed(x[at[again]] - held, bits)
            best[again] = ops.signed(held + difference * self.not_negative(step, difference), bits)
            started |= inside
        return np.moveaxis(best, 0, axis)
