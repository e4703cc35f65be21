"""Certificates, and a server of the small network."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from secure_infer import keys
from secure_infer.bundle import DeveloperBundle, HospitalBundle
from secure_infer.runtime import Credentials, DeveloperServer, Endpoint, Limits, ReferenceBackend
from secure_infer.runtime.coding import encode_image, interpret
from tests.tiny import Made


def assert_plausible(logits: NDArray[np.float64], image: NDArray[np.float32], bundle: Path) -> None:
    """The logits are within six standard deviations of what the reference draws for this image."""
    hospital, developer = HospitalBundle.open(bundle), DeveloperBundle.open(bundle)
    backend = ReferenceBackend(developer.program, developer.parameters)
    coded = encode_image(image, hospital)
    runs = [backend.run(coded, rng=np.random.default_rng(seed)) for seed in range(24)]
    draws = np.array([interpret(list(run.values()), hospital.findings).logits for run in runs])
    assert (np.abs(logits - draws.mean(axis=0)) <= 7 * draws.std(axis=0) + 0.01).all()


class Site:
    """Both parties' keys of one authority, the halves of a bundle, and servers that end with the test."""

    def __init__(self, folder: Path, bundle: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.hospital = HospitalBundle.open(bundle)
        self.developer = DeveloperBundle.open(bundle)
        self.events: list[dict[str, Any]] = []
        self._stack = stack
        keys.create_authority(folder / "authority", "Test authority")
        for role in ("hospital", "developer"):
            keys.issue(folder / "authority", folder / role, role, f"Test {role}", ["127.0.0.1"])

    @property
    def authority(self) -> Path:
        return self.folder / "authority" / "ca.pem"

    def files(self, role: str) -> dict[str, Path]:
        own = self.folder / role
        return {"authority": self.authority, "certificate": own / f"{role}.pem", "key": own / f"{role}.key"}

    def credentials(self, **other: Any) -> Credentials:
        return Credentials(**{**self.files("developer"), **other})

    def serve(self, *, limits: Limits | None = None, **other: Any) -> DeveloperServer:
        return self._stack.enter_context(
            DeveloperServer(
                other.get("bundle", self.developer),
                "127.0.0.1:0",
                other.get("credentials", self.credentials()),
                limits or Limits(timeout_s=20),
                self.events.append,
            )
        )

    def endpoint(self, port: int, **other: Any) -> Endpoint:
        named = {"host": "127.0.0.1", "port": port, "timeout_s": 20.0, **self.files("hospital")}
        return Endpoint(**{**named, **other})

    def codes(self, name: str) -> list[str]:
        return [event["code"] for event in self.events if event["event"] == name]


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[Path, str], Site]]:
    """Makes sites; a second name gives an authority of its own."""
    with ExitStack() as stack:
        yield lambda bundle, name: Site(tmp_path / name, bundle, stack)


@pytest.fixture
def site(make_site: Callable[[Path, str], Site], tiny_bundle: Made) -> Site:
    """The site of the small network."""
    return make_site(tiny_bundle.path, "site")
