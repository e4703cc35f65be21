"""Files that must survive a power cut: written aside, on the disk, renamed, and the folder on the disk too.

::

    spool/
      incoming/          being written; what a crash leaves here was never acknowledged, and is removed
      objects/ab/ab...   objects as they came, named by their content
      reports/           reports as they are sent
      queue.sqlite       the queue
"""

import errno
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from dicom_node.errors import SpoolFull

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Spool:
    """The gateway's folder.

    Parameters
    ----------
    root : Path
        Made, for this user only, when it is not there.
    low_space_bytes : int
        Below this much free space nothing is written.
    """

    def __init__(self, root: Path, *, low_space_bytes: int = 0) -> None:
        self.root = root
        self._low_space_bytes = low_space_bytes
        self._incoming = root / "incoming"
        for folder in (root, self._incoming, root / "objects", root / "reports"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def has_room(self) -> bool:
        """Whether there is more free space than the watermark."""
        return shutil.disk_usage(self.root).free > self._low_space_bytes

    def sweep(self) -> int:
        """Removes what a crash left half-written; returns how many files. Only while nobody writes."""
        leftovers = list(self._incoming.iterdir())
        for file in leftovers:
            file.unlink(missing_ok=True)
        return len(leftovers)

    def store(self, relative: Path, parts: Iterable[bytes | memoryview]) -> Path:
        """Writes a file; when this returns, it is on the disk, whole, and under its name.

        Parameters
        ----------
        relative : Path
            Where, from `root`; made of the program's own names, never of a peer's strings.
        parts : iterable of bytes
            The content.

        Returns
        -------
        Path
            `relative`.

        Raises
        ------
        SpoolFull
            No room; nothing is left behind.
        """
        if not self.has_room():
            raise SpoolFull("spool", expected=f"more than {self._low_space_bytes} bytes free", got="less")
        aside = self._incoming / secrets.token_hex(16)
        target = self.root / relative
        try:
            with aside.open("xb") as stream:
                for part in parts:
                    stream.write(part)
                stream.flush()
                os.fsync(stream.fileno())
            if not target.parent.is_dir():
                target.parent.mkdir(mode=0o700, exist_ok=True)
                _sync_folder(target.parent.parent)
            aside.replace(target)
            _sync_folder(target.parent)
        except OSError as error:
            with suppress(OSError):
                aside.unlink()
            if error.errno in _NO_ROOM:
                raise SpoolFull("spool", expected="room on the disk", got=error.strerror) from None
            raise
        return relative


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
