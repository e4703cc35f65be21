"""Keys and certificates: an authority and TLS certificates for both parties, and keys that sign bundles.

TLS certificates are ECDSA P-256 (RFC 8446 asks every TLS 1.3 implementation for it), X.509 v3 (RFC 5280).
A developer's certificate is only good for the serving side of a connection, a hospital's only for the
calling side. Bundles are signed with Ed25519 (RFC 8032). Private keys are PKCS #8 in PEM, readable by their
owner only. Nothing is ever overwritten.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from secure_infer.errors import CertificateInvalid, KeyFileError, KeyFileExists
from secure_infer.files import PUBLIC_MODE, SECRET_MODE, read_bounded, write_new

Role = Literal["authority", "developer", "hospital"]

AUTHORITY_DAYS = 3650
CERTIFICATE_DAYS = 397
#: Clocks of two institutions may differ by this much.
CLOCK_SKEW = timedelta(minutes=5)
MAX_PEM_BYTES = 64 * 1024

_PURPOSE = {"developer": ExtendedKeyUsageOID.SERVER_AUTH, "hospital": ExtendedKeyUsageOID.CLIENT_AUTH}


@dataclass(frozen=True)
class KeyPaths:
    """Where a private key and what belongs to it were written."""

    private: Path
    public: Path


@dataclass(frozen=True)
class CertificateInfo:
    """What a certificate says of itself.

    Attributes
    ----------
    fingerprint : str
        SHA-256 of the DER encoding, 64 hexadecimal digits: what the other party pins.
    not_before, not_after : datetime
        UTC.
    """

    role: Role
    name: str
    issuer: str
    hosts: tuple[str, ...]
    fingerprint: str
    not_before: datetime
    not_after: datetime


def create_authority(folder: Path, name: str, *, days: int = AUTHORITY_DAYS) -> KeyPaths:
    """Make a certificate authority: ``ca.key`` and ``ca.pem`` in `folder`.

    Raises
    ------
    KeyFileExists
        When either file is there already.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    now = datetime.now(UTC)
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _write_pair(folder / "ca.key", folder / "ca.pem", _private_pem(key), _pem(certificate))


def create_request(folder: Path, role: Role, name: str, hosts: Sequence[str] = ()) -> KeyPaths:
    """Make a private key and a signing request for it: ``ROLE.key`` and ``ROLE.csr`` in `folder`.

    The private key stays where it was made; only the request goes to the authority.

    Parameters
    ----------
    role : "developer" or "hospital"
        Which side of the connection it is for.
    name : str
        Common name, shown in logs and used for budgets.
    hosts : sequence of str
        Host names or addresses under which a developer's server is reached.
    """
    _require_party(role)
    key = ec.generate_private_key(ec.SECP256R1())
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(_name(name))
        .add_extension(_alternative_names(role, name, hosts), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = request.public_bytes(serialization.Encoding.PEM)
    return _write_pair(folder / f"{role}.key", folder / f"{role}.csr", _private_pem(key), pem)


def sign_request(
    authority: Path,
    request: Path,
    role: Role,
    out: Path,
    *,
    days: int = CERTIFICATE_DAYS,
    now: datetime | None = None,
) -> CertificateInfo:
    """Sign a request with the authority in folder `authority` and write the certificate to `out`.

    Only the name and the host names are taken from the request; what the certificate is good for is decided
    here.

    Raises
    ------
    KeyFileError
        When a file isn't what it should be.
    KeyFileExists
        When `out` is there already.
    """
    _require_party(role)
    ca_key = _load_ec_key(authority / "ca.key")
    ca = load_certificate(authority / "ca.pem")
    asked = _load_request(request)
    names = asked.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    start = (now or datetime.now(UTC)) - CLOCK_SKEW
    end = min(start + timedelta(days=days), ca.not_valid_after_utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(asked.subject)
        .issuer_name(ca.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(start, ca.not_valid_before_utc))
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([_PURPOSE[role]]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(asked.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        .sign(ca_key, hashes.SHA256())
    )
    _write(out, _pem(certificate), PUBLIC_MODE)
    return describe(certificate)


def issue(
    authority: Path,
    folder: Path,
    role: Role,
    name: str,
    hosts: Sequence[str] = (),
    *,
    days: int = CERTIFICATE_DAYS,
) -> KeyPaths:
    """Make a key and its certificate in one go: ``ROLE.key`` and ``ROLE.pem`` in `folder`."""
    certificate = folder / f"{role}.pem"
    if certificate.exists():
        raise KeyFileExists(str(certificate), expected="a name that is free", got="a file")
    made = create_request(folder, role, name, hosts)
    sign_request(authority, made.public, role, certificate, days=days)
    made.public.unlink()
    return KeyPaths(made.private, certificate)


def create_signing_key(path: Path) -> KeyPaths:
    """Make an Ed25519 key that signs bundles: `path` and, for those who trust it, `path` with ``.pub``."""
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return _write_pair(path, path.with_name(path.name + ".pub"), _private_pem(key), public)


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """Read a bundle-signing key.

    Raises
    ------
    KeyFileError
        When the file can't be read, is open to others, or holds another kind of key.
    """
    key = _load_private(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(path.name, expected="an Ed25519 private key", got="another kind of key")
    return key


def load_public_key(path: Path) -> Ed25519PublicKey:
    """Read the public key that bundles must be signed with."""
    content = read_bounded(path, MAX_PEM_BYTES, KeyFileError, follow_links=True)
    try:
        key = serialization.load_pem_public_key(content)
    except ValueError:
        raise KeyFileError(path.name, expected="a public key in PEM", got="something else") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(path.name, expected="an Ed25519 public key", got="another kind of key")
    return key


def load_certificate(path: Path) -> x509.Certificate:
    """Read one X.509 certificate in PEM."""
    content = read_bounded(path, MAX_PEM_BYTES, KeyFileError, follow_links=True)
    try:
        return x509.load_pem_x509_certificate(content)
    except ValueError:
        raise KeyFileError(path.name, expected="a certificate in PEM", got="something else") from None


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate's DER encoding in lower-case hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def describe(certificate: x509.Certificate) -> CertificateInfo:
    """What a certificate says; nothing is checked but that it is one of ours in form."""
    return CertificateInfo(
        role=_role(certificate),
        name=_common_name(certificate.subject),
        issuer=_common_name(certificate.issuer),
        hosts=_hosts(certificate),
        fingerprint=fingerprint(certificate),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
    )


def check_certificate(
    certificate: x509.Certificate, authority: x509.Certificate, role: Role, *, now: datetime | None = None
) -> CertificateInfo:
    """Check that `certificate` is good for `role` now and signed by `authority`.

    The TLS layer checks the peer; this is for one's own files, so that a gateway complains when it starts and
    not at the first study.

    Raises
    ------
    CertificateInvalid
        With what was wrong.
    """
    info = describe(certificate)
    moment = now or datetime.now(UTC)
    what = f"certificate of {info.name}"
    if info.role != role:
        raise CertificateInvalid(what, expected=f"one for the {role}", got=f"one for the {info.role}")
    if moment < info.not_before:
        raise CertificateInvalid(
            what, expected="valid now", got=f"valid from {info.not_before:%Y-%m-%d %H:%M} UTC"
        )
    if moment > info.not_after:
        raise CertificateInvalid(
            what, expected="valid now", got=f"expired {info.not_after:%Y-%m-%d %H:%M} UTC"
        )
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise CertificateInvalid(
            what, expected=f"signed by {_common_name(authority.subject)}", got=f"issuer {info.issuer}"
        ) from None
    return info


def _require_party(role: Role) -> None:
    if role not in _PURPOSE:
        raise KeyFileError("role", expected=" or ".join(_PURPOSE), got=role)


def _name(common_name: str) -> x509.Name:
    if not 1 <= len(common_name) <= 64:
        raise KeyFileError("length of the name", expected="1 to 64 characters", got=len(common_name))
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative_names(role: Role, name: str, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    if role == "developer" and not hosts:
        raise KeyFileError("hosts", expected="at least one name or address of the server", got="none")
    names: list[x509.GeneralName] = []
    for host in hosts or [_dns_label(name)]:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(_dns_name(host))
    return x509.SubjectAlternativeName(names)


def _dns_label(name: str) -> str:
    """A hospital is never called, but some TLS libraries want a name in every certificate."""
    label = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-")
    return f"{label or 'hospital'}.invalid"


def _dns_name(host: str) -> x509.DNSName:
    try:
        return x509.DNSName(host)
    except ValueError:
        raise KeyFileError("host", expected="an ASCII host name or an address", got=repr(host)) from None


def _role(certificate: x509.Certificate) -> Role:
    try:
        if certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return "authority"
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        raise CertificateInvalid(
            f"certificate of {_common_name(certificate.subject)}",
            expected="basic constraints and an extended key usage",
            got="neither or one",
        ) from None
    return "developer" if ExtendedKeyUsageOID.SERVER_AUTH in purposes else "hospital"


def _common_name(name: x509.Name) -> str:
    values = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(values[0].value) if values else "(no name)"


def _hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def _load_request(path: Path) -> x509.CertificateSigningRequest:
    content = read_bounded(path, MAX_PEM_BYTES, KeyFileError, follow_links=True)
    try:
        request = x509.load_pem_x509_csr(content)
        signed = request.is_signature_valid
    except ValueError:
        raise KeyFileError(path.name, expected="a signing request in PEM", got="something else") from None
    if not signed:
        raise KeyFileError(path.name, expected="a request signed by its own key", got="a wrong signature")
    return request


def _load_private(path: Path) -> object:
    content = read_bounded(path, MAX_PEM_BYTES, KeyFileError, follow_links=True)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise KeyFileError(f"permissions of {path.name}", expected="0600 (owner only)", got=f"{mode:04o}")
    try:
        return serialization.load_pem_private_key(content, password=None)
    except (ValueError, TypeError):
        raise KeyFileError(
            path.name, expected="an unencrypted private key in PEM", got="something else"
        ) from None


def _load_ec_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = _load_private(path)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyFileError(path.name, expected="an elliptic-curve private key", got="another kind of key")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    try:
        write_new(path, content, mode)
    except FileExistsError:
        raise KeyFileExists(str(path), expected="a name that is free", got="a file") from None
    except OSError as problem:
        raise KeyFileError(str(path), expected="a place to write to", got=problem.strerror) from None


def _write_pair(private: Path, public: Path, private_pem: bytes, public_pem: bytes) -> KeyPaths:
    for path in (private, public):
        if path.exists():
            raise KeyFileExists(str(path), expected="a name that is free", got="a file")
    private.parent.mkdir(parents=True, exist_ok=True)
    _write(private, private_pem, SECRET_MODE)
    _write(public, public_pem, PUBLIC_MODE)
    return KeyPaths(private, public)
