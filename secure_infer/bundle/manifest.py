"""The manifest: what a half of a bundle consists of, and the Ed25519 signature over it (RFC 8032).

The hospital's manifest is signed. The developer's names the hospital's by its SHA-256, the *bundle digest*,
which both parties also compare when they connect.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from secure_infer.bundle.fields import Fields, dump_json, parse_object
from secure_infer.errors import BundleFormat, BundleSignature

FORMAT: Final = "blindread.bundle"
VERSION: Final = 1
ALGORITHM: Final = "Ed25519"
SIGNATURE_BYTES: Final = 64

HOSPITAL_LIMITS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "program.json": 1 << 24,
        "preprocessing.json": 1 << 16,
        "findings.json": 1 << 18,
        "model_card.json": 1 << 20,
        "predictions.json": 1 << 24,
        "hints.bin": 1 << 31,
    }
)
"""The hospital half's files besides the manifest, each with its largest size in bytes."""

DEVELOPER_LIMITS: Final[Mapping[str, int]] = MappingProxyType(
    {"program.json": 1 << 24, "findings.json": 1 << 18, "weights.npz": 1 << 31, "secrets.bin": 1 << 31}
)
"""The same for the developer half."""

MANIFEST_LIMIT: Final = 1 << 16


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and SHA-256 (hexadecimal) of one file."""

    size: int
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> "FileEntry":
        """Measure `content`."""
        return cls(len(content), hashlib.sha256(content).hexdigest())

    def check(self, name: str, content: bytes) -> None:
        """Raise `BundleSignature` unless `content` is what the manifest promises."""
        if FileEntry.of(content) != self:
            raise BundleSignature(name, expected="the content that the manifest names", got="another one")


@dataclass(frozen=True)
class Manifest:
    """The checked content of a ``manifest.json``.

    Attributes
    ----------
    half : str
        ``hospital`` or ``developer``.
    bundle_id : str
        16 random bytes in hexadecimal, new for every compilation.
    created : str
        ISO 8601, UTC, whole seconds.
    files : mapping
        Name to `FileEntry`: every file of the half but the manifest and its signature.
    signer : str or None
        Public key in hexadecimal, in the hospital's half only.
    hospital_manifest : str or None
        The bundle digest, in the developer's half only.
    """

    half: str
    bundle_id: str
    created: str
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    signer: str | None = None
    hospital_manifest: str | None = None

    def to_bytes(self) -> bytes:
        """The exact bytes that are signed and hashed."""
        entries = {name: {"size": e.size, "sha256": e.sha256} for name, e in self.files.items()}
        value = {
            "format": FORMAT,
            "version": VERSION,
            "half": self.half,
            "bundle_id": self.bundle_id,
            "created": self.created,
            "files": entries,
        }
        if self.signer is not None:
            value["signature"] = {"algorithm": ALGORITHM, "public_key": self.signer}
        if self.hospital_manifest is not None:
            value["hospital_manifest_sha256"] = self.hospital_manifest
        return dump_json(value)

    @classmethod
    def parse(cls, content: bytes, half: str) -> "Manifest":
        """Read and check a manifest.

        Raises
        ------
        BundleFormat
            When it isn't one for `half` of this version, or names other files than that half has.
        """
        top = parse_object(content, "manifest.json")
        _expect(top.text("format"), FORMAT, "format")
        _expect(top.take("version", int), VERSION, "version")
        _expect(top.text("half"), half, "half")
        bundle_id = top.hexadecimal("bundle_id", 16)
        created = top.text("created", longest=40)
        limits = HOSPITAL_LIMITS if half == "hospital" else DEVELOPER_LIMITS
        files = _entries(top.fields("files"), limits)
        signer = hospital = None
        if half == "hospital":
            signature = top.fields("signature")
            _expect(signature.text("algorithm"), ALGORITHM, "signature algorithm")
            signer = signature.hexadecimal("public_key", 32)
            signature.done()
        else:
            hospital = top.hexadecimal("hospital_manifest_sha256", 32)
        top.done()
        return cls(half, bundle_id, created, files, signer, hospital)


def now_text() -> str:
    """The present second, as in `Manifest.created`."""
    return datetime.now(UTC).replace(microsecond=0).isoformat()


def public_seed(bundle_id: str) -> bytes:
    """The 32 public bytes from which both parties expand the bundle's common polynomials."""
    return hashlib.sha256(b"blindread public seed v1" + bytes.fromhex(bundle_id)).digest()


def sign(manifest: bytes, key: Ed25519PrivateKey) -> bytes:
    """The content of ``manifest.sig``."""
    return key.sign(manifest)


def verify(content: bytes, signature: bytes, signer: str, trusted: bytes | None) -> None:
    """Check the signature over a manifest's bytes.

    Parameters
    ----------
    content, signature : bytes
        ``manifest.json`` and ``manifest.sig``.
    signer : str
        The public key that the manifest names, in hexadecimal.
    trusted : bytes or None
        The raw public key (32 bytes) that it must be. None takes any signer's word: that finds damage, not
        forgery.

    Raises
    ------
    BundleSignature
        When the signer isn't `trusted` or didn't sign these bytes.
    """
    if trusted is not None and trusted.hex() != signer:
        raise BundleSignature(
            "signer of the bundle", expected=f"key {trusted.hex()[:16]}...", got=f"key {signer[:16]}..."
        )
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer)).verify(signature, content)
    except (InvalidSignature, ValueError):
        raise BundleSignature(
            "manifest.sig", expected=f"a signature by {signer[:16]}...", got="another one"
        ) from None


def _expect(value: object, wanted: object, what: str) -> None:
    if value != wanted:
        raise BundleFormat(f"manifest.json: {what}", expected=wanted, got=repr(value)[:60])


def _entries(fields: Fields, limits: Mapping[str, int]) -> Mapping[str, FileEntry]:
    entries = {}
    for name, limit in limits.items():
        entry = fields.fields(name)
        entries[name] = FileEntry(entry.whole("size", 0, limit), entry.hexadecimal("sha256", 32))
        entry.done()
    fields.done()
    return MappingProxyType(entries)
