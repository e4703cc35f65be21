"""Types of the compiled core (``native/python``).

Every call may raise `NativeError`, whose ``args`` are a stable code and a message. Long calls release the
interpreter's lock, and Ctrl-C ends them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

import numpy as np
from numpy.typing import NDArray

VERSION: Final[str]
PROTOCOL_VERSION: Final[int]
HINT_FORMAT: Final[int]

_Parameters = Mapping[str, Mapping[str, NDArray[Any]]]

class NativeError(Exception):
    args: tuple[str, str]

def make_hints(
    program_json: str, parameters: _Parameters, public_seed: bytes, *, threads: int = 1
) -> tuple[bytes, bytes]: ...
def hints_len(program_json: str) -> int: ...
def secrets_len(program_json: str) -> int: ...
def cpu_features() -> list[str]: ...
def forbid_dumps() -> bool: ...
def machine_rates(*, seconds: float = 1.0) -> dict[str, float]: ...
def tls_rates(developer: Credentials, hospital: Credentials) -> dict[str, float]: ...

@final
class Credentials:
    def __init__(
        self, authority: bytes, certificate: bytes, key: bytes, *, fingerprints: Sequence[str] = ()
    ) -> None: ...
    @property
    def fingerprint(self) -> str: ...

@final
class HospitalModel:
    def __init__(
        self,
        program_json: str,
        hints: bytes,
        public_seed: bytes,
        bundle_digest: bytes,
        *,
        ot_engine: str = "softspoken",
    ) -> None: ...
    @property
    def relus(self) -> int: ...

@final
class DeveloperModel:
    def __init__(
        self,
        program_json: str,
        parameters: _Parameters,
        secrets: bytes,
        bundle_digest: bytes,
        *,
        ot_engine: str = "softspoken",
    ) -> None: ...

@final
class HospitalSession:
    @staticmethod
    def connect(
        address: str,
        server_name: str,
        credentials: Credentials,
        model: HospitalModel,
        *,
        threads: int = 1,
        timeouts_s: Mapping[str, float] | None = None,
    ) -> HospitalSession: ...
    def prepare(self) -> None: ...
    def infer(self, image: NDArray[np.int32]) -> list[NDArray[np.int64]]: ...
    def ping(self) -> None: ...
    def close(self) -> None: ...
    def cancel(self) -> None: ...
    @property
    def tickets_ready(self) -> int: ...
    @property
    def ticket_limit(self) -> int: ...
    @property
    def images_left(self) -> int | None: ...
    @property
    def link(self) -> dict[str, Any]: ...
    @property
    def is_open(self) -> bool: ...
    def stats(self) -> dict[str, dict[str, Any]]: ...
    def reset_stats(self) -> None: ...

@final
class DeveloperServer:
    @staticmethod
    def start(
        address: str,
        model: DeveloperModel,
        credentials: Credentials,
        *,
        hospitals: int = 4,
        tickets: int = 4,
        output_noise: float = 0.0,
        images_per_hospital: int | None = None,
        budget_file: Path | None = None,
        threads: int = 1,
        timeouts_s: Mapping[str, float] | None = None,
    ) -> DeveloperServer: ...
    @property
    def address(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def hospitals(self) -> int: ...
    def events(self) -> list[dict[str, Any]]: ...
    def stats(self) -> dict[str, dict[str, Any]]: ...
    def shutdown(self, *, grace_s: float = 0.0) -> None: ...

@final
class MemoryParties:
    def __init__(
        self, program_json: str, parameters: _Parameters, *, ot_engine: str = "softspoken"
    ) -> None: ...
    def run(self, image: NDArray[np.int32], *, output_noise: float = 0.0) -> list[NDArray[np.int64]]: ...
    def stats(self) -> dict[str, dict[str, Any]]: ...
