"""The house rules of ARCHITECTURE.md, checked on the source."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("secure_infer", "dicom_node")

#: Library or package -> the only places (path prefixes) that may import it.
HOMES = {
    "tensorflow": ("secure_infer/compiler/frontends/", "secure_infer/bench/child.py"),
    "keras": ("secure_infer/compiler/frontends/", "secure_infer/bench/child.py"),
    "secure_infer._native": (
        "secure_infer/runtime/",
        "secure_infer/bundle/write.py",
        "secure_infer/bench/",
    ),
    "secure_infer.compiler": (
        "secure_infer/compiler/",
        "secure_infer/bench/child.py",
        "secure_infer/runtime/local.py",
        "dicom_node/cli/",
    ),
    "secure_infer": ("secure_infer/", "dicom_node/inference.py", "dicom_node/cli/"),
    "dicom_node": ("dicom_node/",),
    "pydicom": ("dicom_node/",),
    "pynetdicom": ("dicom_node/receive/", "dicom_node/deliver/", "dicom_node/demo/"),
    "highdicom": ("dicom_node/report/",),
    "sqlalchemy": ("dicom_node/queue/",),
    "apscheduler": ("dicom_node/scheduler.py",),
    "cryptography": (
        "secure_infer/keys.py",
        "secure_infer/bundle/",
        "secure_infer/compiler/",
        "secure_infer/bench/",
    ),
    "rich": ("dicom_node/cli/output.py",),
    "pickle": (),
}

CRATES = {
    "pyo3": {"python"},
    "numpy": {"python"},
    "rustls": {"link"},
    "rustix": {"link"},
    "curve25519-dalek": {"ot"},
    "serde": {"protocol"},
    "rayon": {"pool"},
    "getrandom": {"link", "python"},
}


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (path for path in sorted((ROOT / package).rglob("*.py")) if "native" not in path.parts)


@cache
def imports(path: Path) -> frozenset[str]:
    """Every module that a file imports, anywhere in it; ``from a import b`` counts as ``a`` and ``a.b``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@pytest.mark.parametrize("library", HOMES)
def test_library_is_imported_in_its_homes_only(library: str) -> None:
    strays = [
        str(path.relative_to(ROOT))
        for path in sources()
        if any(f"{name}.".startswith(f"{library}.") for name in imports(path))
        and not str(path.relative_to(ROOT)).startswith(HOMES[library])
    ]
    assert strays == []


@pytest.mark.parametrize("crate", CRATES)
def test_crate_is_used_in_its_homes_only(crate: str) -> None:
    users = set()
    for manifest in (ROOT / "secure_infer/native").glob("*/Cargo.toml"):
        text = manifest.read_text().partition("[dependencies]")[2].partition("[dev-dependencies]")[0]
        if re.search(rf"^{crate}\b", text, re.MULTILINE):
            users.add(manifest.parent.name)
    assert users <= CRATES[crate]


def test_protocol_core_knows_no_socket_clock_or_thread() -> None:
    forbidden = re.compile(r"std::(net|time|fs|process)\b")
    for crate in ("ring", "lattice", "ot", "protocol"):
        for path in (ROOT / "secure_infer/native" / crate / "src").rglob("*.rs"):
            assert not forbidden.search(path.read_text()), path


def test_unsafe_code_is_in_simd_modules_only() -> None:
    for path in (ROOT / "secure_infer/native").glob("*/src/**/*.rs"):
        code = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("//")]
        if any(re.search(r"\bunsafe\b", line) for line in code if "unsafe_op" not in line):
            assert "simd" in str(path), path


def test_source_files_stay_below_600_lines() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.rs"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    for name in listed:
        path = ROOT / name
        if path.exists():
            assert path.read_text().count("\n") <= 600, name


def test_every_room_is_in_the_architecture_document() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rooms = [path.parent for package in PACKAGES for path in (ROOT / package).glob("*/__init__.py")]
    rooms += [path.parent for path in (ROOT / "secure_infer/native").glob("*/Cargo.toml")]
    missing = [room.name for room in rooms if not re.search(rf"\b{room.name}\b", text)]
    assert missing == []
