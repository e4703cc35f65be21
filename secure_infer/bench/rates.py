"""What one core of this machine can do per second: the denominators of a roofline."""

import tempfile
from pathlib import Path
from typing import Final

from secure_infer import _native, keys
from secure_infer.runtime.endpoint import Credentials

_ROLES: Final[tuple[keys.Role, keys.Role]] = ("developer", "hospital")


def machine_rates(seconds: float = 1.0) -> dict[str, float]:
    """Per second: ``aes_blocks``, ``multiply_adds``, ``butterflies``, ``random_reads``, ``memory_bytes``.

    AES and multiply-adds are in registers, by the widest instructions that the core uses; butterflies and
    random reads by the core's own kernels; memory is a stream that no cache holds, reads and writes counted
    alike. `seconds` is about what it takes.
    """
    return _native.machine_rates(seconds=seconds)


def tls_rates() -> dict[str, float]:
    """``sent_bytes`` and ``received_bytes`` per second of one core through TLS on loopback, at work."""
    with tempfile.TemporaryDirectory(prefix="blindread-") as name:
        folder = Path(name)
        keys.create_authority(folder / "authority", "rates")
        made: list[_native.Credentials] = []
        for role in _ROLES:
            pair = keys.issue(folder / "authority", folder / role, role, role, ["127.0.0.1"])
            authority = folder / "authority" / "ca.pem"
            files = Credentials(authority=authority, certificate=pair.public, key=pair.private)
            made.append(files.load())
    return _native.tls_rates(*made)
