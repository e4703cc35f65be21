"""Checks of single values: each turns a value that TOML gave into the one that the program uses, or raises.

Every check is a function of the value and of `Where` it stands. The text of what it expects is part of the
message that a person reads, so it names the allowed values.
"""

import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

from dicom_node.config.lines import KeyPath
from dicom_node.errors import ConfigError

T = TypeVar("T")

_REPR_LIMIT = 60


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a configuration file.

    Attributes
    ----------
    file : str
        The file's name as the person gave it.
    folder : Path
        What relative paths are relative to.
    lines : mapping
        Result of `lines.find_lines`.
    path : tuple
        Which key.
    """

    file: str
    folder: Path
    lines: Mapping[KeyPath, int]
    path: KeyPath = ()

    def at(self, part: str | int) -> "Where":
        """The place of one of this table's keys or of one of this array's elements."""
        return Where(self.file, self.folder, self.lines, (*self.path, part))

    def error(self, expected: str, got: object) -> ConfigError:
        """The error that says what was expected here."""
        path = self.path
        while path not in self.lines:
            path = path[:-1]
        place = f"{self.file}, line {self.lines[path]}"
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path).lstrip(".")
        return ConfigError(f"{place}, {key}" if key else place, expected=expected, got=got)


Check = Callable[[Any, Where], Any]


def show(value: object) -> str:
    """The value as it is put in messages: short, on one line."""
    text = repr(value)
    return text if len(text) <= _REPR_LIMIT else text[: _REPR_LIMIT - 3] + "..."


def read_section(kind: type[T], table: object, where: Where) -> T:
    """Reads a table into a settings class, whose fields are `Annotated` with their checks.

    Raises
    ------
    ConfigError
        An unknown key, a missing one, or a value that its check refuses.
    """
    if not isinstance(table, dict):
        raise where.error("a table", show(table))
    hints = get_type_hints(kind, include_extras=True)
    known = {one.name: (get_args(hints[one.name])[1], one.default) for one in fields(kind)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise where.at(key).error(f"one of the keys {', '.join(sorted(known))}", f"{show(key)}{hint}")
    values = {}
    for name, (check, default) in known.items():
        if name in table:
            values[name] = check(table[name], where.at(name))
        elif default is MISSING:
            raise where.at(name).error(getattr(check, "expected", "a value"), "nothing")
    return kind(**values)


def _check(expected: str) -> Callable[[Callable[[Any, Where], Any]], Check]:
    """Marks a check with the text of what it expects, for the message about a missing key."""

    def mark(function: Callable[[Any, Where], Any]) -> Check:
        function.expected = expected  # type: ignore[attr-defined]
        return function

    return mark


def flag() -> Check:
    """True or false."""

    @_check("true or false")
    def check(value: Any, where: Where) -> bool:
        if not isinstance(value, bool):
            raise where.error("true or false", show(value))
        return value

    return check


def integer(low: int, high: int) -> Check:
    """A whole number in a range, both ends included."""
    expected = f"an integer from {low} to {high}"

    @_check(expected)
    def check(value: Any, where: Where) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise where.error(expected, show(value))
        return value

    return check


def number(low: float, high: float) -> Check:
    """A number in a range, both ends included."""
    expected = f"a number from {low:g} to {high:g}"

    @_check(expected)
    def check(value: Any, where: Where) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise where.error(expected, show(value))
        return float(value)

    return check


def port() -> Check:
    """A TCP port; 0 lets the system choose one."""
    return integer(0, 65535)


def choice(*allowed: str) -> Check:
    """One of a few words."""
    expected = "one of " + ", ".join(repr(word) for word in allowed)

    @_check(expected)
    def check(value: Any, where: Where) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise where.error(expected, show(value))
        return value

    return check


def text(expected: str, pattern: str) -> Check:
    """A text that matches a regular expression from its beginning to its end."""
    compiled = re.compile(pattern)

    @_check(expected)
    def check(value: Any, where: Where) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise where.error(expected, show(value))
        return value

    return check


def line_of_text(longest: int) -> Check:
    """Printable text on one line, without the backslash that separates values in DICOM."""
    return text(
        f"a text of 1 to {longest} characters on one line, without '\\'",
        rf"[^\x00-\x1f\x7f\\]{{1,{longest}}}",
    )


def ae_title() -> Check:
    r"""An application entity title: PS3.5 section 6.2, VR AE, without the spaces that mean nothing."""
    return text(
        "an AE title: 1 to 16 characters of ASCII, without '\\' and without spaces at its ends",
        r"(?! )[\x20-\x5b\x5d-\x7e]{1,16}(?<! )",
    )


def host() -> Check:
    """An address or a name."""
    return text(
        "a host's name or IP address",
        r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}",
    )


def network() -> Check:
    """An IP address or a network in CIDR notation."""
    expected = "an IP address, or a network such as '10.1.0.0/16'"

    @_check(expected)
    def check(value: Any, where: Where) -> str:
        try:
            return str(ipaddress.ip_network(value if isinstance(value, str) else "", strict=True))
        except ValueError:
            raise where.error(expected, show(value)) from None

    return check


def path() -> Check:
    """A path that need not exist yet; relative ones start at the configuration's folder."""
    expected = "a path"

    @_check(expected)
    def check(value: Any, where: Where) -> Path:
        if not isinstance(value, str) or not value or "\0" in value:
            raise where.error(expected, show(value))
        return (where.folder / Path(value).expanduser()).resolve()

    return check


def existing_file() -> Check:
    """The path of a file that can be read."""
    return _existing("the path of a file that can be read", folder=False)


def existing_folder() -> Check:
    """The path of a folder."""
    return _existing("the path of a folder", folder=True)


def _existing(expected: str, *, folder: bool) -> Check:
    as_path = path()

    @_check(expected)
    def check(value: Any, where: Where) -> Path:
        found: Path = as_path(value, where)
        try:
            if folder:
                usable = found.is_dir()
            else:
                with found.open("rb"):
                    usable = True
        except OSError:
            usable = False
        if not usable:
            raise where.error(expected, f"{show(value)} ({found})")
        return found

    return check


def array(item: Check, *, least: int = 0) -> Check:
    """An array whose elements `item` checks, as a tuple."""
    expected = f"an array of at least {least} elements" if least else "an array"

    @_check(expected)
    def check(value: Any, where: Where) -> tuple[Any, ...]:
        if not isinstance(value, list) or len(value) < least:
            raise where.error(expected, show(value))
        return tuple(item(element, where.at(index)) for index, element in enumerate(value))

    return check


def section(kind: type[Any]) -> Check:
    """A table that is read into a settings class."""

    @_check("a table")
    def check(value: Any, where: Where) -> Any:
        return read_section(kind, value, where)

    return check


def table_of(item: Check) -> Check:
    """A table with free keys whose values `item` checks."""

    @_check("a table")
    def check(value: Any, where: Where) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise where.error("a table", show(value))
        return {key: item(element, where.at(key)) for key, element in value.items()}

    return check


def unique(values: Iterable[object], where: Where, what: str) -> None:
    """Refuses a second element with the same key."""
    seen: set[object] = set()
    for index, value in enumerate(values):
        if value in seen:
            raise where.at(index).error(f"{what} that no other entry has", show(value))
        seen.add(value)
