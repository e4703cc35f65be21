"""Files that are whole or absent, and secret ones that only their owner reads."""

import os
import stat
from pathlib import Path

from secure_infer.errors import SecureInferError

SECRET_MODE = 0o600
PUBLIC_MODE = 0o644


def write_new(path: Path, content: bytes, mode: int = PUBLIC_MODE) -> None:
    """Create `path` with `content` and bring it to the disk; never overwrites, never follows a link.

    Parameters
    ----------
    path : Path
        A name that doesn't exist yet.
    content : bytes
        The whole file.
    mode : int
        Permissions from the first moment on.

    Raises
    ------
    FileExistsError
        When there is anything at `path`.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Bring a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_bounded(
    path: Path, limit: int, error: type[SecureInferError], *, follow_links: bool = False
) -> bytes:
    """Read a regular file whose size is checked before the first byte is read.

    Parameters
    ----------
    path : Path
        The file.
    limit : int
        Largest size in bytes.
    error : type of SecureInferError
        What to raise; the message names the file by its last component only.
    follow_links : bool
        Whether the last component may be a symbolic link.

    Returns
    -------
    bytes
        The content.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow_links else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as problem:
        raise error(path.name, expected="a readable regular file", got=problem.strerror) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise error(path.name, expected="a regular file", got=stat.filemode(status.st_mode))
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > limit:
            raise error(f"size of {path.name}", expected=f"at most {limit} bytes", got=status.st_size)
        content = file.read(limit + 1)
    if len(content) != status.st_size:
        raise error(f"size of {path.name}", expected=status.st_size, got=f"{len(content)} while reading")
    return content
