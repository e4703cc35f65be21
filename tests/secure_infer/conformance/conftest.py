"""The backends that must agree, behind one call."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secure_infer.runtime import ReferenceBackend, SecureBackend
from secure_infer.runtime.program import Program

Int64 = NDArray[np.int64]
Run = Callable[[Program, Mapping[str, Mapping[str, NDArray[Any]]], NDArray[np.int32]], dict[str, Int64]]


def _exact(
    program: Program, parameters: Mapping[str, Mapping[str, NDArray[Any]]], x: NDArray[np.int32]
) -> dict[str, Int64]:
    return ReferenceBackend(program, parameters).run(x)


def _rounded(
    program: Program, parameters: Mapping[str, Mapping[str, NDArray[Any]]], x: NDArray[np.int32]
) -> dict[str, Int64]:
    return ReferenceBackend(program, parameters).run(x, rng=np.random.default_rng(7))


def _secure(
    program: Program, parameters: Mapping[str, Mapping[str, NDArray[Any]]], x: NDArray[np.int32]
) -> dict[str, Int64]:
    return SecureBackend(program, parameters).run(x)


@pytest.fixture(params=[_exact, _rounded, _secure], ids=["reference", "reference with roundings", "secure"])
def run(request: pytest.FixtureRequest) -> Run:
    """One backend: executes a program with parameters on an image."""
    chosen: Run = request.param
    return chosen
