"""Where the other party is, who we are, and whom we trust."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from secure_infer import _native
from secure_infer.errors import KeyFileError
from secure_infer.files import read_bounded
from secure_infer.keys import MAX_PEM_BYTES
from secure_infer.runtime.failures import translated

#: Until TLS, hello and welcome are over.
HANDSHAKE_S: Final = 10.0
#: How oblivious transfers are extended. `softspoken` is faster where traffic is cheap, `ferret` sends some
#: 1.8 GB less for each image of a large network and assumes that LPN is hard.
OT_ENGINES: Final = ("softspoken", "ferret")
#: What a party can ask for. With `auto` it takes what the other one names; if neither names an engine, the
#: hospital measures the link and takes the one with which a ticket is ready first: `ferret` below some 1.3
#: Gbit/s. Two different names are refused.
OT_OPTIONS: Final = ("auto", *OT_ENGINES)


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Files in PEM: this party's certificate and key, and the authority that signs both parties'.

    Attributes
    ----------
    authority, certificate, key : Path
        The certificate's file may hold a chain, this party's own first.
    fingerprints : tuple of str
        SHA-256 of acceptable peers' certificates, hexadecimal; empty accepts every peer of the authority.
    """

    authority: Path
    certificate: Path
    key: Path = field(repr=False)
    fingerprints: tuple[str, ...] = ()

    def load(self) -> _native.Credentials:
        """Read the files.

        Raises
        ------
        KeyFileError, CertificateInvalid
            With the file, or what is wrong in it.
        """
        paths = (self.authority, self.certificate, self.key)
        authority, certificate, key = (_read(path) for path in paths)
        with translated():
            return _native.Credentials(authority, certificate, key, fingerprints=list(self.fingerprints))


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A developer's server as a hospital reaches it.

    Attributes
    ----------
    host, port : str, int
        Where to call.
    server_name : str, optional
        A name or address in the developer's certificate; None for `host`.
    authority, certificate, key : Path
        See `Credentials`.
    fingerprint : str, optional
        SHA-256 of the developer's certificate, hexadecimal; None accepts every certificate of the authority
        for this name.
    timeout_s : float
        For every wait in which the developer is silent, its computing included.
    ot_engine : str
        One of `OT_OPTIONS`.
    threads : int
        That compute for this party, 1 to 256; the developer need not have as many.
    """

    host: str
    port: int
    server_name: str | None = None
    authority: Path
    certificate: Path
    key: Path = field(repr=False)
    fingerprint: str | None = None
    timeout_s: float = 120.0
    ot_engine: str = "auto"
    threads: int = 1

    @property
    def address(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def credentials(self) -> Credentials:
        """The hospital's side of the certificates."""
        pinned = (self.fingerprint,) if self.fingerprint else ()
        return Credentials(
            authority=self.authority, certificate=self.certificate, key=self.key, fingerprints=pinned
        )

    @property
    def timeouts_s(self) -> Mapping[str, float]:
        """The limits of every wait, for the core."""
        short = min(HANDSHAKE_S, self.timeout_s)
        return {"connect": short, "handshake": short, "silence": self.timeout_s}


def _read(path: Path) -> bytes:
    # Secrets are often mounted as symbolic links.
    return read_bounded(path, MAX_PEM_BYTES, KeyFileError, follow_links=True)
