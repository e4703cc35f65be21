"""The weights file: numbers in, the same numbers out, and nothing but numbers."""

import io
import pickle
import zipfile
from typing import Any

import numpy as np
import pytest

from secure_infer.bundle.parameters import pack_parameters, unpack_parameters
from secure_infer.errors import BundleFormat

STEPS: list[Any] = [{"op": "input", "name": "x"}, {"op": "relu", "name": "../a/b\0"}]
ARRAYS = {"../a/b\0": {"threshold": np.array([1, -2], np.int32), "flip": np.array([0, 1], np.uint8)}}


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def npy(array: np.ndarray[Any, Any], *, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def test_arrays_come_back_and_step_names_never_become_file_names() -> None:
    packed = pack_parameters(STEPS, ARRAYS)
    assert zipfile.ZipFile(io.BytesIO(packed)).namelist() == ["1.threshold.npy", "1.flip.npy"]
    back = unpack_parameters(STEPS, packed)
    assert list(back) == ["../a/b\0"]
    np.testing.assert_array_equal(back["../a/b\0"]["threshold"], [1, -2])


def test_pickled_object_is_never_run(capsys: pytest.CaptureFixture[str]) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (print, ("boom",))

    objects = np.array([Bomb()], dtype=object)
    for content in (npy(objects, allow_pickle=True), pickle.dumps(Bomb())):
        with pytest.raises(BundleFormat):
            unpack_parameters(
                STEPS, archive({"1.threshold.npy": content, "1.flip.npy": npy(np.zeros(2, np.uint8))})
            )
    assert "boom" not in capsys.readouterr().out


FLIP = npy(np.zeros(2, np.uint8))
THRESHOLD = npy(np.zeros(2, np.int32))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK",
        archive({}),
        archive({"1.flip.npy": FLIP}),
        archive({"1.flip.npy": FLIP, "1.threshold.npy": THRESHOLD, "2.flip.npy": FLIP}),
        archive({"1.flip.npy": FLIP, "../1.threshold.npy": THRESHOLD}),
        archive({"1.flip.npy": FLIP, "1.threshold.npy": npy(np.zeros(2, np.float32))}),
        archive({"1.flip.npy": FLIP, "1.threshold.npy": b"\x93NUMPY\x01\0"}),
        archive({"1.flip.npy": FLIP, "1.threshold.npy": THRESHOLD[:-1]}),
        archive({"1.flip.npy": FLIP, "1.threshold.npy": THRESHOLD}, zipfile.ZIP_DEFLATED),
    ],
    ids=["empty", "cut", "none", "missing", "extra", "path", "type", "header", "short", "compressed"],
)
def test_malformed_weights_are_refused(content: bytes) -> None:
    with pytest.raises(BundleFormat):
        unpack_parameters(STEPS, content)


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"../a/b\0": {"threshold": np.zeros(2, np.int32)}},
        {"../a/b\0": {"threshold": np.zeros(2, np.int64), "flip": np.zeros(2, np.uint8)}},
        ARRAYS | {"other": {}},
    ],
)
def test_parameters_that_do_not_fit_the_program_are_not_written(arrays: dict[str, Any]) -> None:
    with pytest.raises(BundleFormat):
        pack_parameters(STEPS, arrays)
