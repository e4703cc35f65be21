"""The developer's private parameters as one ``weights.npz``; nothing in it is ever unpickled.

Member names are ``INDEX.KIND`` with the step's position in the program: no step name becomes a file name.
"""

import io
import zipfile
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secure_infer.errors import BundleFormat, BundleLimit

Parameters = Mapping[str, Mapping[str, NDArray[Any]]]

KINDS: Final[Mapping[str, Mapping[str, type[np.generic]]]] = {
    "linear": {"weights": np.int16, "bias": np.int64},
    "relu": {"threshold": np.int32, "flip": np.uint8},
    "relu_clipped": {"threshold": np.int32, "ceiling": np.int32},
}
"""Which arrays each operation has, and their types."""

_MAX_ARRAY_BYTES: Final = 1 << 30


def pack_parameters(steps: list[Mapping[str, Any]], parameters: Parameters) -> bytes:
    """Write the arrays of all steps as an uncompressed ``.npz``.

    Parameters
    ----------
    steps : list of mapping
        ``steps`` of ``program.json``.
    parameters : mapping
        Step name to arrays, exactly those of `KINDS`.

    Raises
    ------
    BundleFormat
        When a step's arrays are missing, too many or of another type.
    """
    arrays: dict[str, NDArray[Any]] = {}
    unknown = set(parameters) - {str(step["name"]) for step in steps if step["op"] in KINDS}
    if unknown:
        raise BundleFormat(
            "parameters", expected="steps of the program", got=", ".join(sorted(unknown))[:200]
        )
    for index, step in enumerate(steps):
        kinds = KINDS.get(str(step["op"]), {})
        found = parameters.get(str(step["name"]), {})
        if set(found) != set(kinds):
            raise BundleFormat(f"parameters of {step['name']}", expected=sorted(kinds), got=sorted(found))
        for kind, dtype in kinds.items():
            if found[kind].dtype != dtype:
                raise BundleFormat(
                    f"{kind} of {step['name']}", expected=np.dtype(dtype).name, got=found[kind].dtype.name
                )
            arrays[f"{index}.{kind}"] = np.ascontiguousarray(found[kind])
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack_parameters(steps: list[Mapping[str, Any]], content: bytes) -> dict[str, dict[str, NDArray[Any]]]:
    """Read what `pack_parameters` wrote.

    Raises
    ------
    BundleFormat
        When members are missing, unknown, compressed, of another type or hold objects.
    BundleLimit
        When an array says that it is larger than any valid one.
    """
    wanted = {
        f"{i}.{kind}": (str(step["name"]), kind, dtype)
        for i, step in enumerate(steps)
        for kind, dtype in KINDS.get(str(step["op"]), {}).items()
    }
    made: dict[str, dict[str, NDArray[Any]]] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_members(archive, set(wanted))
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            for member, (name, kind, dtype) in wanted.items():
                array = arrays[member]
                if not isinstance(array, np.ndarray) or array.dtype != dtype:
                    raise BundleFormat(f"{kind} of {name}", expected=np.dtype(dtype).name, got="others")
                made.setdefault(name, {})[kind] = array
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, OSError) as problem:
        raise BundleFormat("weights.npz", expected="arrays of numbers", got=type(problem).__name__) from None
    return made


def _check_members(archive: zipfile.ZipFile, wanted: set[str]) -> None:
    members = archive.infolist()
    if {member.filename.removesuffix(".npy") for member in members} != wanted or len(members) != len(wanted):
        raise BundleFormat(
            "members of weights.npz", expected="one for each parameter of the program", got="others"
        )
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED:
            raise BundleFormat(f"weights.npz: {member.filename}", expected="uncompressed", got="compressed")
        if member.file_size > _MAX_ARRAY_BYTES:
            raise BundleLimit(
                f"weights.npz: {member.filename}",
                expected=f"at most {_MAX_ARRAY_BYTES}",
                got=member.file_size,
            )
