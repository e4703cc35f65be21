"""Files that must survive a power cut: written aside, on the disk, renamed, and the folder on the disk too.

::

    spool/
      incoming/WRITER/   being written; what a crash leaves here was never acknowledged, and is removed
      objects/ab/ab...   objects as they came, named by their content
      reports/           reports as they are sent
      queue.sqlite       the queue
"""

import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from dicom_node.errors import ConfigError, NodeBusy, SpoolFull

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Spool:
    """The gateway's folder.

    Parameters
    ----------
    root : Path
        Made, for this user only, when it is not there.
    writer : str
        Which process writes: each has its own place for half-written files.
    low_space_bytes : int
        Below this much free space nothing is written.

    Raises
    ------
    ConfigError
        The folder can't be made.
    """

    def __init__(self, root: Path, writer: str, *, low_space_bytes: int = 0) -> None:
        self.root = root
        self._writer = writer
        self._low_space_bytes = low_space_bytes
        self._incoming = root / "incoming" / writer
        try:
            for folder in (root, self._incoming, root / "objects", root / "reports"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            expected = "a folder that can be made"
            raise ConfigError(f"spool {root}", expected=expected, got=error.strerror) from None

    def take_over(self, *, wait_s: float) -> BinaryIO:
        """Becomes the only process of this name here, and clears up what the last one left half-written.

        Parameters
        ----------
        wait_s : float
            How long to wait for an earlier one to end.

        Returns
        -------
        file
            The lock: held until it is closed or the process ends, however it ends.

        Raises
        ------
        NodeBusy
            There is another one.
        """
        lock = (self.root / f"{self._writer}.lock").open("ab")
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    lock.close()
                    got = f"another {self._writer} process"
                    raise NodeBusy(f"spool {self.root}", expected="no other gateway", got=got) from None
                time.sleep(0.05)
        for file in self._incoming.iterdir():
            file.unlink(missing_ok=True)
        return lock

    def has_room(self) -> bool:
        """Whether there is more free space than the watermark."""
        return shutil.disk_usage(self.root).free > self._low_space_bytes

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


def remove_orphans(root: Path, known: frozenset[str], *, older_than_s: float) -> int:
    """Removes objects and reports that the queue doesn't know; returns how many.

    Parameters
    ----------
    known : frozenset of str
        Paths, from `root`, that the queue knows.
    older_than_s : float
        Younger files stay: their rows may be on their way.
    """
    limit = time.time() - older_than_s
    count = 0
    for file in [*root.glob("objects/*/*.dcm"), *root.glob("reports/*.dcm")]:
        if file.relative_to(root).as_posix() not in known and file.stat().st_mtime < limit:
            file.unlink(missing_ok=True)
            count += 1
    return count
