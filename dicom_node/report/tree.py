"""Prints a report's content tree for people."""

from collections.abc import Iterator

from pydicom import Dataset


def print_content_tree(dataset: Dataset) -> str:
    """A Structured Report as indented lines, like ``Certainty of Finding: 91.52 %``.

    Parameters
    ----------
    dataset : Dataset
        A Structured Report of any class.
    """
    return "\n".join(_lines(dataset, 0))


def _lines(item: Dataset, depth: int) -> Iterator[str]:
    name = _meaning(item, "ConceptNameCodeSequence")
    value = _value(item)
    yield "  " * depth + ": ".join(part for part in (name, value) if part)
    for child in item.get("ContentSequence") or ():
        yield from _lines(child, depth + 1)


def _value(item: Dataset) -> str:
    kind = str(item.get("ValueType", ""))
    if kind == "CODE":
        return _meaning(item, "ConceptCodeSequence")
    if kind == "NUM":
        measured = (item.get("MeasuredValueSequence") or [Dataset()])[0]
        unit = (measured.get("MeasurementUnitsCodeSequence") or [Dataset()])[0]
        return f"{measured.get('NumericValue', '?')} {unit.get('CodeValue', '')}".strip()
    if kind in ("IMAGE", "COMPOSITE"):
        reference = (item.get("ReferencedSOPSequence") or [Dataset()])[0]
        return f"{kind.lower()} {reference.get('ReferencedSOPInstanceUID', '?')}"
    for keyword in ("TextValue", "UID", "PersonName", "Date", "Time", "DateTime"):
        if keyword in item:
            return str(item[keyword].value)
    return ""


def _meaning(item: Dataset, keyword: str) -> str:
    code = (item.get(keyword) or [Dataset()])[0]
    return str(code.get("CodeMeaning", ""))
