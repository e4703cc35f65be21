"""What tests of several rooms share."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secure_infer.bundle import write_bundle
from tests.tiny import Made, tiny_arguments


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A bundle of the small network, made once by the real core; tests that change it copy it."""
    key = Ed25519PrivateKey.generate()
    path = tmp_path_factory.mktemp("bundles") / "tiny.bundle"
    arguments = tiny_arguments()
    return Made(path, write_bundle(path, signing_key=key, **arguments), key, arguments)
