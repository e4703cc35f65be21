"""The program: the public walk through a network, as data.

A program says what is done to one image, in order; every backend executes the same program, and
everybody who loads one checks the same invariants. It holds shapes, rings, windows and truncation
amounts, never weights: those are the developer's private parameters (see `check_parameters`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from secure_infer.errors import ProgramError
from secure_infer.runtime.program_checks import check_program, check_step_parameters
from secure_infer.runtime.steps import (
    STEP_TYPES,
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
    Value,
    parameter_names,
    sources,
)

__all__ = [
    "Add", "Concat", "Input", "Linear", "MaxPool", "Output", "Program", "Relu", "ReluClipped", "Step",
    "StepCost", "Subsample", "SumPool", "Truncate", "Value", "check_parameters", "parameter_names", "sources",
]  # fmt: skip

FORMAT: Final = "blindread.program"
VERSION: Final = 1
MAX_JSON_BYTES: Final = 1 << 24


@dataclass(frozen=True)
class StepCost:
    """What one step costs, in counts that don't depend on the machine."""

    name: str
    op: str
    relus: int = 0
    comparisons: int = 0
    truncations: int = 0
    multiply_adds: int = 0


@dataclass(frozen=True)
class Program:
    """A checked program: constructing one raises ProgramError unless every invariant holds."""

    values: tuple[Value, ...]
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        check_program(self.values, self.steps)

    @classmethod
    def from_json(cls, text: str | bytes) -> Program:
        """Read a program from its JSON text; unknown keys, types and versions are refused."""
        if len(text) > MAX_JSON_BYTES:
            raise ProgramError("program", expected=f"at most {MAX_JSON_BYTES} bytes", got=len(text))
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ProgramError("program", expected="JSON text", got="something else") from error
        _expect_keys("program", document, {"format", "version", "values", "steps"})
        if document["format"] != FORMAT or document["version"] != VERSION:
            raise ProgramError("program", expected=f"format {FORMAT!r} version {VERSION}", got="another")
        values = tuple(
            _read_value(f"value {i}", v) for i, v in enumerate(_items("values", document["values"]))
        )
        steps = tuple(_read_step(i, s) for i, s in enumerate(_items("steps", document["steps"])))
        return cls(values, steps)

    @classmethod
    def load(cls, path: str | Path) -> Program:
        """Read a program from a file."""
        path = Path(path)
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ProgramError(
                "program", expected=f"a file of at most {MAX_JSON_BYTES} bytes", got="a larger one"
            )
        return cls.from_json(path.read_bytes())

    def to_json(self) -> str:
        """The canonical text: one line a value and a step, keys in a fixed order."""
        values = ",\n  ".join(
            json.dumps({"shape": v.shape, "ring_bits": v.ring_bits}, separators=(",", ":"))
            for v in self.values
        )
        steps = ",\n  ".join(json.dumps(_step_document(s), separators=(",", ":")) for s in self.steps)
        head = f'{{"format":"{FORMAT}","version":{VERSION},\n'
        return f'{head}"values":[\n  {values}],\n"steps":[\n  {steps}]}}\n'

    def dump(self, path: str | Path) -> None:
        """Write the canonical text to a file."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    def digest(self) -> str:
        """SHA-256 of the canonical text, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    @property
    def input_value(self) -> Value:
        """The value the image becomes."""
        first = self.steps[0]
        assert isinstance(first, Input)
        return self.values[first.out]

    @property
    def outputs(self) -> dict[str, Value]:
        """The opened values by the names of their steps."""
        return {s.name: self.values[s.source] for s in self.steps if isinstance(s, Output)}

    def private_steps(self) -> Iterator[Linear | Relu | ReluClipped]:
        """The steps that need private parameters, in order."""
        return (s for s in self.steps if isinstance(s, Linear | Relu | ReluClipped))

    def costs(self) -> list[StepCost]:
        """Counts per step, in order."""
        return [self._cost(step) for step in self.steps]

    def totals(self) -> StepCost:
        """Counts of the whole program, under the name ``total``."""
        costs = self.costs()
        return StepCost(
            "total",
            "program",
            sum(c.relus for c in costs),
            sum(c.comparisons for c in costs),
            sum(c.truncations for c in costs),
            sum(c.multiply_adds for c in costs),
        )

    def _cost(self, step: Step) -> StepCost:
        if isinstance(step, Linear):
            taps = step.kernel[0] * step.kernel[1] * self.values[step.source].shape[0] // step.groups
            return StepCost(step.name, step.op, multiply_adds=taps * self.values[step.out].elements)
        if isinstance(step, Truncate):
            return StepCost(step.name, step.op, truncations=self.values[step.source].elements)
        if isinstance(step, Relu | ReluClipped):
            n = self.values[step.source].elements
            return StepCost(step.name, step.op, relus=n, comparisons=n * (1 if isinstance(step, Relu) else 2))
        if isinstance(step, MaxPool):
            return StepCost(step.name, step.op, comparisons=self._pool_comparisons(step))
        return StepCost(step.name, step.op)

    def _pool_comparisons(self, step: MaxPool) -> int:
        channels, height, width = self.values[step.source].shape
        wide = tap_counts(width, step.pool[1], step.stride[1], step.padding[2:])
        high = tap_counts(height, step.pool[0], step.stride[0], step.padding[:2])
        across = height * sum(n - 1 for n in wide)
        return channels * (across + len(wide) * sum(n - 1 for n in high))


def tap_counts(extent: int, pool: int, stride: int, padding: tuple[int, ...]) -> list[int]:
    """How many positions of every pooling window along an axis are not padding."""
    starts = range(-padding[0], extent + padding[1] - pool + 1, stride)
    return [min(s + pool, extent) - max(s, 0) for s in starts]


def _step_document(step: Step) -> dict[str, Any]:
    document: dict[str, Any] = {"op": step.op}
    for field in fields(step):
        key = "in" if field.name in ("source", "sources") else field.name
        document[key] = getattr(step, field.name)
    return document


def _items(what: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ProgramError(what, expected="a list", got=type(value).__name__)
    return value


def _expect_keys(what: str, document: Any, required: set[str]) -> None:
    if not isinstance(document, dict):
        raise ProgramError(what, expected="an object", got=type(document).__name__)
    missing, unknown = required - set(document), set(document) - required
    if missing or unknown:
        got = f"{len(missing)} missing {sorted(missing)[:5]}, {len(unknown)} unknown"
        raise ProgramError(what, expected=f"the keys {sorted(required)}", got=got)


def _integers(what: str, value: Any, count: int | None = None) -> tuple[int, ...]:
    if not isinstance(value, list) or any(type(x) is not int for x in value):
        raise ProgramError(what, expected="a list of integers", got="something else")
    if count is not None and len(value) != count:
        raise ProgramError(what, expected=f"{count} integers", got=len(value))
    return tuple(value)


def _read_value(what: str, document: Any) -> Value:
    _expect_keys(what, document, {"shape", "ring_bits"})
    shape = _integers(f"{what}.shape", document["shape"], 3)
    (ring_bits,) = _integers(f"{what}.ring_bits", [document["ring_bits"]])
    return Value((shape[0], shape[1], shape[2]), ring_bits)


_LENGTHS = {"kernel": 2, "stride": 2, "dilation": 2, "pool": 2, "window": 2, "padding": 4}


def _read_step(index: int, document: Any) -> Step:
    what = f"step {index}"
    if not isinstance(document, dict) or not isinstance(document.get("op"), str):
        raise ProgramError(what, expected="an object with an 'op'", got="something else")
    kind = STEP_TYPES.get(document["op"])
    if kind is None:
        raise ProgramError(what, expected=f"an op of {sorted(STEP_TYPES)}", got=repr(document["op"][:40]))
    names = {"in" if f.name in ("source", "sources") else f.name: f.name for f in fields(kind)}
    _expect_keys(what, document, set(names) | {"op"})
    arguments: dict[str, Any] = {}
    for key, field in names.items():
        arguments[field] = _read_field(f"{what}.{key}", field, document[key])
    return kind(**arguments)


def _read_field(what: str, field: str, value: Any) -> Any:
    if field == "name":
        if not isinstance(value, str):
            raise ProgramError(what, expected="text", got=type(value).__name__)
        return value
    if field in _LENGTHS:
        return _integers(what, value, _LENGTHS[field])
    if field == "sources" or (field == "shift" and isinstance(value, list)):
        return _integers(what, value)
    return _integers(what, [value])[0]


def check_parameters(program: Program, parameters: Mapping[str, Mapping[str, Any]]) -> None:
    """Check the private parameters (dtypes, shapes, ranges) against a program.

    Raises
    ------
    ProgramError
        Naming the step and what was expected; never the values themselves.
    """
    wanted = {step.name for step in program.private_steps()}
    if set(parameters) != wanted:
        missing, unknown = sorted(wanted - set(parameters)), sorted(set(parameters) - wanted)
        got = f"missing {missing[:3]}, unknown {unknown[:3]}"
        raise ProgramError("parameters", expected=f"one entry for each of {len(wanted)} steps", got=got)
    for step in program.private_steps():
        check_step_parameters(program.values, step, parameters[step.name])
