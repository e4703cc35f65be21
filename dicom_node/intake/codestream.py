"""Reads a compressed frame's own size before a decoder allocates it.

Rows and Columns of the dataset are checked against a limit, but a decoder believes the codestream. Both must
agree (PS3.5 8.2), so a frame that says otherwise never reaches a decoder.
"""

import struct
from typing import Final

_SOI: Final = b"\xff\xd8"
_J2K: Final = b"\xff\x4f\xff\x51"
_JP2_SIGNATURE: Final = b"\x00\x00\x00\x0cjP  "
_NO_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_FRAME_HEADERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}


def size(frame: bytes) -> tuple[int, int] | None:
    """Rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream announces.

    Returns
    -------
    tuple of int, or None
        None when there is no such header in it (ISO 10918-1 B.2.2, 14495-1 C.2.2, 15444-1 A.5.1).
    """
    if frame.startswith(_SOI):
        return _jpeg(frame)
    start = frame.find(_J2K) if frame.startswith(_JP2_SIGNATURE) else 0
    if start >= 0 and frame[start : start + 4] == _J2K and len(frame) >= start + 24:
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return bottom - top, right - left
    return None


def _jpeg(frame: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 4 <= len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _NO_LENGTH:
            at += 2
        elif marker in _FRAME_HEADERS:
            if at + 9 > len(frame):
                return None
            rows, columns = struct.unpack_from(">HH", frame, at + 5)
            return rows, columns
        else:
            at += 2 + int(struct.unpack_from(">H", frame, at + 2)[0])
    return None
