"""Where in a TOML text each key stands, for messages: `tomllib` gives values without their lines."""

import re
from collections.abc import Iterator
from itertools import accumulate

#: A key's path in the parsed document; elements of arrays of tables are numbers.
KeyPath = tuple[str | int, ...]

_BARE_OR_QUOTED = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\]|\\.)*"|'[^']*')"""
_DOTTED = rf"{_BARE_OR_QUOTED}(?:\s*\.\s*{_BARE_OR_QUOTED})*"
_HEADER = re.compile(rf"^\s*(\[\[?)\s*({_DOTTED})\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(rf"^\s*({_DOTTED})\s*=\s*(.*)$")
_PART = re.compile(_BARE_OR_QUOTED)
_STRING_OR_COMMENT = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|\#.*$""")


def find_lines(text: str) -> dict[KeyPath, int]:
    """Line numbers, from 1, of the tables and keys of a valid TOML text.

    Parameters
    ----------
    text : str
        A text that `tomllib` accepts; others give some lines, and never raise.

    Returns
    -------
    dict
        Path to line. Keys inside of inline tables are not listed: look for the nearest listed path above.
    """
    lines: dict[KeyPath, int] = {(): 1}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in _logical_lines(text):
        header = _HEADER.match(line)
        if header:
            table = _resolve(_parts(header[2]), counts, new_element=header[1] == "[[")
            lines.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key:
            parts = _parts(key[1])
            for path in accumulate(((part,) for part in parts), initial=table):
                lines.setdefault(path, number)
    return lines


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _resolve(parts: tuple[str, ...], counts: dict[KeyPath, int], *, new_element: bool) -> KeyPath:
    """Path of a table's header, with the numbers of the elements of arrays that it goes through."""
    path: KeyPath = ()
    for position, part in enumerate(parts):
        path = (*path, part)
        if new_element and position == len(parts) - 1:
            counts[path] = counts.get(path, 0) + 1
        if path in counts:
            path = (*path, counts[path] - 1)
    return path


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines that can begin a table or a key: not those inside of multi-line strings and arrays."""
    closing = ""
    depth = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if closing:
            closing = "" if closing in line else closing
            continue
        if depth == 0:
            yield number, line
        for quotes in ('"""', "'''"):
            if line.count(quotes) % 2:
                closing = quotes
        if not _HEADER.match(line):
            value = _KEY.match(line) if depth == 0 else None
            plain = _STRING_OR_COMMENT.sub("", value[2] if value else line)
            depth = max(0, depth + plain.count("[") + plain.count("{") - plain.count("]") - plain.count("}"))
