"""Compiled benchmark networks, kept in the user's cache and named by everything that made them."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import secure_infer
from secure_infer import _native
from secure_infer.bench.phantoms import VERSION

#: What decides how a bundle looks. Of the core only `_native.HINT_FORMAT` counts, which a test in
#: ``native/protocol/tests/hints.rs`` ties to the bits of the hints: a faster core needs no other bundle.
_MAKERS = ("bench/child.py", "bench/phantoms.py", "bundle", "compiler", "runtime")
#: Of those, what only uses bundles.
_USERS = (
    "runtime/backends/secure.py",
    "runtime/developer.py",
    "runtime/endpoint.py",
    "runtime/explain.py",
    "runtime/failures.py",
    "runtime/hospital.py",
    "runtime/local.py",
    "runtime/party_process.py",
    "runtime/timing.py",
    "runtime/work.py",
)
#: They build the network and run its calibration.
_LIBRARIES = ("keras", "numpy", "tensorflow", "tensorflow-cpu")


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
    """SHA-256, in hexadecimal, over the network's name and everything that makes a bundle of it."""
    made_by = [name, VERSION, _native.HINT_FORMAT, *(_version(library) for library in _LIBRARIES)]
    found = hashlib.sha256(f"{made_by}\n".encode())
    package = Path(secure_infer.__file__).parent
    for file in makers():
        found.update(file.relative_to(package).as_posix().encode() + b"\0")
        found.update(hashlib.sha256(file.read_bytes()).digest())
    return found.hexdigest()


def makers() -> list[Path]:
    """The modules that decide how a bundle looks."""
    package = Path(secure_infer.__file__).parent
    files = (
        file for maker in _MAKERS for file in sorted((package / maker).rglob("*.py")) or [package / maker]
    )
    return [file for file in files if file.relative_to(package).as_posix() not in _USERS]


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
