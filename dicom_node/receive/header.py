"""Reads, from an object that just came, the few attributes that decide under which study it is filed.

The pixels are not decoded and the object is not changed. This is the place where a peer's identifiers become
checked strings.
"""

import re
import struct
import zlib
from dataclasses import dataclass, field
from io import BytesIO

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPIPHTJ2KReferencedDeflate,
)

from dicom_node.errors import ObjectMismatch, ObjectRefused

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64

_JPIP_REFERENCED_DEFLATE = "1.2.840.10008.1.2.4.95"
_DEFLATED = frozenset({DeflatedExplicitVRLittleEndian, _JPIP_REFERENCED_DEFLATE, JPIPHTJ2KReferencedDeflate})

#: A deflated object is inflated only this far: a small object can inflate to terabytes.
_INFLATED_LIMIT = 4 << 20

#: More elements than any image has before its pixels; a data set of nothing but empty ones is not read on.
_ELEMENT_LIMIT = 10_000

_SOP_CLASS = Tag(0x0008, 0x0016)
_SOP_INSTANCE = Tag(0x0008, 0x0018)
_STUDY = Tag(0x0020, 0x000D)
_STUDY_PRIORITY_RETIRED = Tag(0x0032, 0x000C)
_PROCEDURE_PRIORITY = Tag(0x0040, 0x1003)
_WANTED = [_SOP_CLASS, _SOP_INSTANCE, _STUDY, _STUDY_PRIORITY_RETIRED, _PROCEDURE_PRIORITY]
_URGENT = frozenset({"STAT", "HIGH"})


@dataclass(frozen=True, slots=True)
class Header:
    """Checked attributes of an object."""

    study_uid: str = field(repr=False)
    stat: bool


def valid_uid(value: str) -> bool:
    """Whether a text is a UID: PS3.5 section 9.1, but for leading zeros, which real devices send."""
    return len(value) <= _LONGEST_UID and _UID.fullmatch(value) is not None


def read_header(
    data_set: memoryview, *, transfer_syntax_uid: str, sop_class_uid: str, sop_instance_uid: str
) -> Header:
    """Reads an encoded data set up to its pixels.

    Parameters
    ----------
    data_set : memoryview
        As it came, without preamble and file meta information.
    transfer_syntax_uid : str
        What the presentation context agreed on; private ones are read as explicit VR little endian.
    sop_class_uid, sop_instance_uid : str
        What the C-STORE request announced.

    Raises
    ------
    ObjectRefused
        It can't be read, or an identifier is missing or malformed.
    ObjectMismatch
        It is another object than the announced one.
    """
    found = _read(data_set, transfer_syntax_uid)
    values = {tag: _text(found, tag) for tag in _WANTED}
    for name, tag, announced in (
        ("SOP Class UID", _SOP_CLASS, sop_class_uid),
        ("SOP Instance UID", _SOP_INSTANCE, sop_instance_uid),
    ):
        if values[tag] != announced:
            got = "another" if values[tag] else "none"
            raise ObjectMismatch(f"{name} of the data set", expected="the C-STORE request's", got=got)
    for name, tag in (("SOP Instance UID", _SOP_INSTANCE), ("Study Instance UID", _STUDY)):
        if not valid_uid(values[tag]):
            got = "another text" if values[tag] else "none"
            raise ObjectRefused(name, expected="at most 64 digits and dots", got=got)
    stat = values[_STUDY_PRIORITY_RETIRED] in _URGENT or values[_PROCEDURE_PRIORITY] in _URGENT
    return Header(study_uid=values[_STUDY], stat=stat)


def _read(data_set: memoryview, transfer_syntax_uid: str) -> Dataset:
    refused = ObjectRefused("data set", expected="a DICOM data set", got="bytes that can't be read as one")
    content: bytes | memoryview = data_set
    if transfer_syntax_uid in _DEFLATED:
        try:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data_set, _INFLATED_LIMIT)
        except zlib.error:
            raise refused from None
    try:
        return read_dataset(
            BytesIO(content),
            is_implicit_VR=transfer_syntax_uid == ImplicitVRLittleEndian,
            is_little_endian=transfer_syntax_uid != ExplicitVRBigEndian,
            stop_when=_Stop(),
            specific_tags=list(_WANTED),
        )
    except (
        ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, NotImplementedError, OSError,
        RecursionError, TypeError, ValueError, struct.error,
    ):  # fmt: skip
        # pydicom has no error of its own for bytes that are not DICOM.
        raise refused from None


class _Stop:
    """Ends the reading behind the last wanted attribute."""

    def __init__(self) -> None:
        self._count = 0

    def __call__(self, tag: BaseTag, vr: str | None, length: int) -> bool:  # noqa: ARG002 - pydicom's signature
        self._count += 1
        return self._count > _ELEMENT_LIMIT or bool(tag > _PROCEDURE_PRIORITY)


def _text(data_set: Dataset, tag: BaseTag) -> str:
    try:
        value = data_set[tag].value if tag in data_set else ""
    except (ArithmeticError, AttributeError, LookupError, NotImplementedError, TypeError, ValueError):
        raise ObjectRefused("data set", expected="readable identifiers", got="bytes that are not") from None
    return value.strip(" \0") if isinstance(value, str) else ""
