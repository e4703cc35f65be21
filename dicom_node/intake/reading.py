"""Bytes from outside become a `pydicom.Dataset` here, within limits.

pydicom inflates a deflated dataset (PS3.5 annex A.5) without a bound; here a bomb ends at the limit. What
 pydicom raises on malformed input becomes an `IntakeError`.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pydicom
from pydicom.dataset import FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filebase import DicomBytesIO
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.intake.errors import NotDicom, ObjectDamaged, ObjectTooLarge

# pydicom's warnings about invalid values quote the values, and those are patient data. Values are checked
# where they are used.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE

MALFORMED: Final = (
    InvalidDicomError,
    BytesLengthException,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RuntimeError,
    struct.error,
    zlib.error,
)
"""What pydicom and its decoders raise on malformed input (gathered from its sources and from fuzzing)."""

_PREAMBLE: Final = 132
_GROUP_LENGTH: Final = 12
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes beyond which an object is refused.

    Attributes
    ----------
    file_bytes : int
        Of the file, and of its inflated form.
    pixels : int
        Rows times columns.
    """

    file_bytes: int = 1 << 29
    pixels: int = 1 << 26


def read(path: Path, limits: Limits | None = None, *, with_pixels: bool) -> pydicom.Dataset:
    """Read a Part 10 file (PS3.10 section 7).

    Parameters
    ----------
    path : Path
    limits : Limits, optional
        None for the default ones.
    with_pixels : bool
        False leaves Pixel Data and what follows unread.

    Raises
    ------
    NotDicom
        There is no DICOM prefix or no readable file meta information.
    ObjectDamaged
        The dataset can't be parsed, or there is no such file. Values are converted when they are used
        (pydicom is lazy): who uses them catches `MALFORMED`.
    ObjectTooLarge
        The file or its inflated form exceeds `limits`.
    """
    bounds = limits or Limits()
    try:
        size = path.stat().st_size
        if size > bounds.file_bytes:
            raise ObjectTooLarge("file size", expected=f"at most {bounds.file_bytes} bytes", got=size)
        meta = _file_meta(path)
        if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
            return pydicom.dcmread(path, stop_before_pixels=not with_pixels)
        return pydicom.dcmread(_inflated(path, meta, bounds.file_bytes), stop_before_pixels=not with_pixels)
    except OSError as error:
        raise ObjectDamaged("file", expected="a readable file", got=type(error).__name__) from error
    except MALFORMED as error:
        raise ObjectDamaged("dataset", expected="a DICOM dataset", got=type(error).__name__) from error


def _file_meta(path: Path) -> FileMetaDataset:
    """The file meta information (PS3.10 section 7.1)."""
    try:
        return pydicom.filereader.read_file_meta_info(path)
    except MALFORMED as error:
        raise NotDicom(
            "file", expected="DICM after 128 bytes, then group 0002", got="something else"
        ) from error


def _inflated(path: Path, meta: FileMetaDataset, limit: int) -> io.BytesIO:
    """The same file as Explicit VR Little Endian, inflated to at most `limit` bytes."""
    start = _PREAMBLE + _GROUP_LENGTH + int(meta.FileMetaInformationGroupLength)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    plain = DicomBytesIO()
    plain.write(b"\0" * 128 + b"DICM")
    pydicom.filewriter.write_file_meta_info(plain, meta, enforce_standard=False)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    with path.open("rb") as file:
        file.seek(start)
        while not inflater.eof:
            chunk = inflater.unconsumed_tail or file.read(_CHUNK)
            if not chunk:
                raise ObjectDamaged("deflated dataset", expected="its end", got="the end of the file")
            plain.write(inflater.decompress(chunk, _CHUNK))
            if plain.tell() > limit:
                raise ObjectTooLarge("inflated dataset", expected=f"at most {limit} bytes", got="more")
    return io.BytesIO(plain.getvalue())
