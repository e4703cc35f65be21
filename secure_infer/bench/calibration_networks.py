"""Small networks that are measured to calibrate the cost model: every kind of work, in several sizes.

They need no TensorFlow: programs with random parameters, whose results mean nothing.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secure_infer.bundle import Finding, write_bundle
from secure_infer.runtime.program import Program
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
    SumPool,
    Truncate,
    Value,
    output_extent,
)

RING_BITS: Final = 27
"""Of what linear layers read and make; what is only compared is in a smaller one, as the compiler does it."""
SHIFT: Final = 14
Parameters = dict[str, dict[str, Any]]


class _Builder:
    """Adds steps one after the other; `value` is the last one's result."""

    def __init__(self, channels: int, side: int) -> None:
        self.values = [Value((channels, side, side), RING_BITS)]
        self.steps: list[Step] = [Input("image", 0)]
        self.parameters: Parameters = {}
        self._rng = np.random.default_rng(1)

    @property
    def value(self) -> int:
        return len(self.values) - 1

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.values[-1].shape

    def _name(self, op: str) -> str:
        return f"{len(self.steps)}/{op}"

    def _result(self, channels: int, height: int, width: int, ring_bits: int = RING_BITS) -> int:
        self.values.append(Value((channels, height, width), ring_bits))
        return self.value

    def linear(self, out: int, kernel: int = 1, stride: int = 1, groups: int = 1, padding: int = -1) -> None:
        """A convolution; "same" padding unless it is given."""
        source, (channels, height, width) = self.value, self.shape
        pad = kernel // 2 if padding < 0 else padding
        extent = [output_extent(size, kernel, stride, 1, 2 * pad) for size in (height, width)]
        name = self._name("linear")
        result = self._result(out, *extent)
        self.steps.append(
            Linear(name, source, result, (kernel, kernel), (stride, stride), (1, 1), (pad,) * 4, groups)
        )
        weights = self._rng.integers(-99, 99, (out, channels // groups, kernel, kernel), np.int16)
        self.parameters[name] = {"weights": weights, "bias": np.zeros(out, np.int64)}

    def truncate(self, ring_bits: int = RING_BITS) -> None:
        source = self.value
        result = self._result(*self.shape, ring_bits)
        self.steps.append(Truncate(self._name("truncate"), source, result, SHIFT))

    def relu(self, window: tuple[int, int]) -> None:
        source, name = self.value, self._name("relu")
        self.steps.append(Relu(name, source, self._result(*self.shape), window))
        channels = self.shape[0]
        self.parameters[name] = {
            "threshold": np.zeros(channels, np.int32),
            "flip": np.zeros(channels, np.uint8),
        }

    def clipped(self, window: tuple[int, int]) -> None:
        source, name = self.value, self._name("clipped")
        self.steps.append(ReluClipped(name, source, self._result(*self.shape), window))
        channels = self.shape[0]
        self.parameters[name] = {
            "threshold": np.zeros(channels, np.int32),
            "ceiling": np.full(channels, 99, np.int32),
        }

    def block(self, out: int, window: tuple[int, int], kernel: int = 1, stride: int = 1) -> None:
        """Convolution, truncation to a small ring, ReLU that leaves it."""
        self.linear(out, kernel, stride)
        self.truncate(_small(window))
        self.relu(window)

    def max_pool(self, window: tuple[int, int]) -> None:
        source, (channels, height, width) = self.value, self.shape
        result = self._result(channels, height // 2, width // 2, self.values[source].ring_bits)
        pool = MaxPool(self._name("pool"), source, result, (3, 3), (2, 2), (0, 1, 0, 1), window)
        self.steps.append(pool)

    def add(self, other: int) -> None:
        source = self.value
        self.steps.append(Add(self._name("add"), (source, other), self._result(*self.shape), (0, 0)))

    def concat(self, other: int) -> None:
        source, (channels, height, width) = self.value, self.shape
        result = self._result(channels + self.values[other].shape[0], height, width)
        self.steps.append(Concat(self._name("concat"), (source, other), result))

    def finish(self) -> tuple[Program, Parameters]:
        """Sums over what is left of the map, two logits."""
        source, (channels, height, width) = self.value, self.shape
        result = self._result(channels, 1, 1)
        self.steps.append(SumPool(self._name("sum"), source, result, (height, width), (height, width)))
        self.truncate()
        self.linear(2)
        self.steps.append(Output("logits", self.value))
        return Program(tuple(self.values), tuple(self.steps)), self.parameters


def _small(window: tuple[int, int]) -> int:
    """The ring of values that only comparisons with this window read."""
    return max(window[1] + 1, 8)


def wide() -> tuple[Program, Parameters]:
    """Few layers of large maps, as the first ones of a large network, with the windows of the compiler."""
    build = _Builder(1, 192)
    build.linear(48, 7, 2)
    build.truncate(_small((3, 11)))
    build.max_pool((1, 12))
    build.relu((3, 11))
    build.block(224, (3, 11))
    build.block(48, (3, 11), 3)
    build.block(256, (3, 11), 1, 2)
    return build.finish()


def mixed() -> tuple[Program, Parameters]:
    """Windows of two to five chunks, depthwise convolutions, sums, concatenations, truncations with OTs."""
    build = _Builder(1, 64)
    build.block(64, (1, 12), 3, 2)
    build.block(256, (3, 10))
    before = build.value
    build.block(256, (0, 13))
    build.add(before)
    build.linear(256, 3, groups=256)
    build.truncate()
    build.clipped((1, 13))
    build.linear(128)
    build.truncate(_small((1, 12)))
    build.clipped((1, 12))
    build.block(128, (0, 16))
    build.concat(build.value - 3)
    build.linear(256)
    build.truncate()
    build.linear(256, 3)
    build.truncate()
    build.relu((1, 9))
    build.block(384, (1, 12), 3, 2)
    return build.finish()


def narrow() -> tuple[Program, Parameters]:
    """Many layers of small maps, as the last ones of a large network: round trips and messages."""
    build = _Builder(1, 16)
    build.block(256, (3, 11), 3)
    for _ in range(12):
        build.block(256, (3, 11))
        build.block(64, (3, 11), 3)
    return build.finish()


NETWORKS: Final[dict[str, Callable[[], tuple[Program, Parameters]]]] = {
    "wide": wide,
    "mixed": mixed,
    "narrow": narrow,
}


def write(name: str, path: Path) -> Program:
    """Write the bundle of one of `NETWORKS` to `path`; returns its program."""
    program, parameters = NETWORKS[name]()
    channels, height, width = program.input_value.shape
    card = {
        "name": f"Calibration network {name}",
        "version": "1",
        "description": "Random weights, for measuring.",
        "manufacturer": "blindread",
        "device_uid": "2.25.1",
        "clinical_use": False,
        "intended_use": {
            "modalities": ["DX"],
            "body_parts": ["CHEST"],
            "views": ["PA"],
            "purpose": "Measuring.",
        },
        "training_data": "None.",
        "licence": "Apache-2.0",
    }
    write_bundle(
        path,
        program_json=program.to_json(),
        parameters=parameters,
        preprocessing={
            "height": height,
            "width": width,
            "channels": channels,
            "input_scale": 1.0,
            "input_offset": 0.0,
        },
        findings=[Finding("A", 1e-4), Finding("B", 1e-4)],
        model_card=card,
        signing_key=Ed25519PrivateKey.generate(),
    )
    return program
