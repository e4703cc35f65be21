"""Compiled benchmark networks, kept in the user's cache and named by everything that made them."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import secure_infer
from secure_infer import _native
from secure_infer.bench.phantoms import VERSION

#: What decides how a bundle looks.
_MAKERS = ("bench", "bundle", "compiler", "runtime/steps.py", "runtime/program.py")


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/blindread``, or ``~/.cache/blindread`` (XDG Base Directory specification)."""
    stated = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(stated) if Path(stated).is_absolute() else Path.home() / ".cache") / "blindread"


def cached(name: str, make: Callable[[Path], None], root: Path | None = None) -> Path:
    """The folder of a network; `make` is called with a fresh folder to fill if there is none yet.

    Parameters
    ----------
    name : str
        The network's.
    make : callable
        Fills a folder; an exception leaves nothing behind.
    root : Path, optional
        Where folders are kept; None for `cache_root`.
    """
    place = (root or cache_root()) / "bench" / f"{name}-{key(name)[:16]}"
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=place.parent))
    try:
        make(draft)
        draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place


def key(name: str) -> str:
    """SHA-256, in hexadecimal, over the network's name, the code that makes a bundle of it, and the core."""
    found = hashlib.sha256(f"{name} {VERSION}\n".encode())
    found.update(hashlib.sha256(Path(_native.__file__).read_bytes()).digest())
    package = Path(secure_infer.__file__).parent
    for maker in _MAKERS:
        path = package / maker
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            found.update(file.relative_to(package).as_posix().encode() + b"\0")
            found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()
