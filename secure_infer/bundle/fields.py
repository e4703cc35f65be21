"""JSON from outside, read strictly: every field has a type, a range and a name in the message."""

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

from secure_infer.errors import BundleFormat

T = TypeVar("T")

_WORDS: dict[type, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    dict: "an object",
    list: "a list",
}


def parse_json(content: bytes, what: str) -> Any:
    """Parse UTF-8 JSON without repeated keys, NaN or infinity.

    Raises
    ------
    BundleFormat
        When it isn't that.
    """
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_no_repeats, parse_constant=_no_constant)
    except (ValueError, RecursionError) as problem:
        raise BundleFormat(
            what, expected="JSON without repeated keys or NaN", got=type(problem).__name__
        ) from None


def parse_object(content: bytes, what: str) -> "Fields":
    """Parse a JSON object."""
    return Fields.of(parse_json(content, what), what)


def dump_json(value: Any) -> bytes:
    """Readable JSON with sorted keys and a final newline; the same value gives the same bytes."""
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8") + b"\n"


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("repeated key")
    return made


def _no_constant(name: str) -> float:
    raise ValueError(name)


class Fields:
    """A JSON object whose fields are taken out one by one; `done` refuses what is left over.

    Parameters
    ----------
    mapping : mapping
        The object.
    what : str
        How messages call it.
    """

    def __init__(self, mapping: Mapping[str, Any], what: str) -> None:
        self._left = dict(mapping)
        self._what = what

    @classmethod
    def of(cls, value: Any, what: str) -> "Fields":
        """Check that `value` is an object."""
        if not isinstance(value, dict):
            raise BundleFormat(what, expected="an object", got=type(value).__name__)
        return cls(value, what)

    def take(self, name: str, kind: type[T]) -> T:
        """A field that must be there; whole numbers count as numbers, booleans don't."""
        if name not in self._left:
            raise BundleFormat(
                f"{self._what}: {name}", expected=_WORDS.get(kind, kind.__name__), got="nothing"
            )
        value = self._left.pop(name)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        wrong = isinstance(value, bool) and kind is not bool
        if wrong or not isinstance(value, kind) or (isinstance(value, float) and not math.isfinite(value)):
            raise BundleFormat(
                f"{self._what}: {name}", expected=_WORDS.get(kind, kind.__name__), got=type(value).__name__
            )
        return value

    def take_or(self, name: str, kind: type[T], default: T) -> T:
        """A field that may be missing."""
        return self.take(name, kind) if name in self._left else default

    def text(self, name: str, *, longest: int = 4096) -> str:
        """A text that is neither empty nor longer than `longest` characters."""
        value = self.take(name, str)
        if not 1 <= len(value) <= longest or not value.isprintable():
            raise BundleFormat(
                f"{self._what}: {name}", expected=f"1 to {longest} printable characters", got=f"{len(value)}"
            )
        return value

    def texts(self, name: str, *, allow_empty: bool = True) -> tuple[str, ...]:
        """A list of texts."""
        values = self.take(name, list)
        if not all(isinstance(value, str) and value for value in values) or (not values and not allow_empty):
            raise BundleFormat(f"{self._what}: {name}", expected="a list of texts", got="something else")
        return tuple(values)

    def one_of(self, name: str, allowed: tuple[str, ...]) -> str:
        """A text out of a few."""
        value = self.take(name, str)
        if value not in allowed:
            raise BundleFormat(f"{self._what}: {name}", expected=" or ".join(allowed), got=repr(value[:40]))
        return value

    def number(self, name: str, low: float, high: float) -> float:
        """A number from `low` to `high`."""
        value = self.take(name, float)
        if not low <= value <= high:
            raise BundleFormat(
                f"{self._what}: {name}", expected=f"a number from {low:g} to {high:g}", got=value
            )
        return value

    def whole(self, name: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.take(name, int)
        if not low <= value <= high:
            raise BundleFormat(
                f"{self._what}: {name}", expected=f"a whole number from {low} to {high}", got=value
            )
        return value

    def hexadecimal(self, name: str, size: int) -> str:
        """`size` bytes as lower-case hexadecimal digits."""
        value = self.take(name, str)
        if len(value) != 2 * size or not set(value) <= set("0123456789abcdef"):
            raise BundleFormat(
                f"{self._what}: {name}", expected=f"{2 * size} hexadecimal digits", got="others"
            )
        return value

    def fields(self, name: str) -> "Fields":
        """An object within this one."""
        return Fields.of(self.take(name, dict), f"{self._what}: {name}")

    def has(self, name: str) -> bool:
        """Whether a field is there and not yet taken."""
        return name in self._left

    def rest(self) -> dict[str, Any]:
        """Every field that is left, as it is."""
        left, self._left = self._left, {}
        return left

    def done(self) -> None:
        """Refuse fields that nobody asked for."""
        if self._left:
            raise BundleFormat(
                self._what, expected="no other fields", got=", ".join(sorted(self._left))[:200]
            )
