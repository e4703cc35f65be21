"""Keys and certificates, used as the two parties use them, and misused."""

import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from secure_infer import keys
from secure_infer.errors import CertificateInvalid, KeyFileError, KeyFileExists


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    keys.create_authority(tmp_path, "Test authority")
    keys.issue(tmp_path, tmp_path, "developer", "Model vendor", ["localhost", "127.0.0.1"])
    keys.issue(tmp_path, tmp_path, "hospital", "St. Ä Hospital")
    return tmp_path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_private_keys_are_for_their_owner_only(pki: Path) -> None:
    signing = keys.create_signing_key(pki / "signing.key")
    for path in (pki / "ca.key", pki / "developer.key", pki / "hospital.key", signing.private):
        assert mode(path) == 0o600
    assert mode(pki / "ca.pem") == 0o644
    assert not (pki / "developer.csr").exists()


@pytest.mark.parametrize("again", ["authority", "developer", "signing"])
def test_existing_files_are_never_overwritten(pki: Path, again: str) -> None:
    signing = keys.create_signing_key(pki / "signing.key")
    before = {path.name: path.read_bytes() for path in pki.iterdir()}
    with pytest.raises(KeyFileExists, match="expected a name that is free"):
        if again == "authority":
            keys.create_authority(pki, "Other")
        elif again == "developer":
            keys.issue(pki, pki, "developer", "Other", ["localhost"])
        else:
            keys.create_signing_key(signing.private)
    assert {path.name: path.read_bytes() for path in pki.iterdir()} == before


def test_description_has_role_name_hosts_and_pin(pki: Path) -> None:
    info = keys.describe(keys.load_certificate(pki / "developer.pem"))
    assert (info.role, info.name, info.issuer) == ("developer", "Model vendor", "Test authority")
    assert info.hosts == ("localhost", "127.0.0.1")
    assert len(info.fingerprint) == 64
    assert info.not_after - info.not_before == timedelta(days=keys.CERTIFICATE_DAYS)


def test_certificate_never_outlives_its_authority(tmp_path: Path) -> None:
    keys.create_authority(tmp_path, "Short", days=2)
    keys.issue(tmp_path, tmp_path, "hospital", "H", days=30)
    authority = keys.load_certificate(tmp_path / "ca.pem")
    certificate = keys.load_certificate(tmp_path / "hospital.pem")
    assert certificate.not_valid_after_utc == authority.not_valid_after_utc


def test_check_accepts_its_own_and_names_what_is_wrong(
    pki: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    authority = keys.load_certificate(pki / "ca.pem")
    developer = keys.load_certificate(pki / "developer.pem")
    assert keys.check_certificate(developer, authority, "developer").name == "Model vendor"
    with pytest.raises(CertificateInvalid, match="expected one for the hospital, got one for the developer"):
        keys.check_certificate(developer, authority, "hospital")
    late = datetime.now(UTC) + timedelta(days=keys.CERTIFICATE_DAYS + 1)
    with pytest.raises(CertificateInvalid, match="expired"):
        keys.check_certificate(developer, authority, "developer", now=late)
    early = datetime.now(UTC) - timedelta(days=1)
    with pytest.raises(CertificateInvalid, match="valid from"):
        keys.check_certificate(developer, authority, "developer", now=early)
    other = tmp_path_factory.mktemp("other")
    keys.create_authority(other, "Test authority")
    with pytest.raises(CertificateInvalid, match="signed by Test authority"):
        keys.check_certificate(developer, keys.load_certificate(other / "ca.pem"), "developer")


def test_request_signed_elsewhere_keeps_the_private_key_at_home(tmp_path: Path) -> None:
    home, office = tmp_path / "home", tmp_path / "office"
    keys.create_authority(office, "Authority")
    made = keys.create_request(home, "hospital", "Ward 7")
    info = keys.sign_request(office, made.public, "hospital", home / "hospital.pem")
    assert (info.role, info.name) == ("hospital", "Ward 7")
    assert sorted(path.name for path in office.iterdir()) == ["ca.key", "ca.pem"]


def test_request_with_a_changed_byte_is_refused(tmp_path: Path) -> None:
    keys.create_authority(tmp_path, "Authority")
    made = keys.create_request(tmp_path, "hospital", "Ward 7")
    lines = made.public.read_text().splitlines()
    lines[2] = lines[2][:10] + ("A" if lines[2][10] != "A" else "B") + lines[2][11:]
    made.public.write_text("\n".join(lines))
    with pytest.raises(KeyFileError):
        keys.sign_request(tmp_path, made.public, "hospital", tmp_path / "hospital.pem")
    assert not (tmp_path / "hospital.pem").exists()


@pytest.mark.parametrize(
    ("role", "hosts"), [("developer", []), ("authority", ["x"]), ("developer", ["schlö.ß"])]
)
def test_impossible_requests_leave_nothing_behind(tmp_path: Path, role: keys.Role, hosts: list[str]) -> None:
    with pytest.raises(KeyFileError):
        keys.create_request(tmp_path, role, "Name", hosts)
    assert list(tmp_path.iterdir()) == []


def test_signing_key_round_trip_and_wrong_kinds(pki: Path) -> None:
    made = keys.create_signing_key(pki / "signing.key")
    private = keys.load_signing_key(made.private)
    keys.load_public_key(made.public).verify(private.sign(b"message"), b"message")
    with pytest.raises(KeyFileError, match="Ed25519 private key"):
        keys.load_signing_key(pki / "ca.key")
    with pytest.raises(KeyFileError, match="in PEM"):
        keys.load_public_key(made.private)
    with pytest.raises(KeyFileError, match="expected a certificate in PEM"):
        keys.load_certificate(made.public)


def test_private_key_readable_by_others_is_refused(tmp_path: Path) -> None:
    made = keys.create_signing_key(tmp_path / "signing.key")
    made.private.chmod(0o640)
    with pytest.raises(KeyFileError, match=r"expected 0600 \(owner only\), got 0640"):
        keys.load_signing_key(made.private)


def test_errors_never_show_key_material(tmp_path: Path) -> None:
    path = tmp_path / "signing.key"
    secret = "MC4CAQAwBQYDK2VwBCIEIJSECRETSECRET"
    path.write_text(f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n")
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        keys.load_signing_key(path)
    assert secret not in str(caught.value)
    assert caught.value.__cause__ is None


def tls_exchange(pki: Path, client_role: str, server_role: str) -> str | None:
    """One TLS 1.3 connection with mutual certificates on loopback; its version, or None when refused."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    server.load_cert_chain(pki / f"{server_role}.pem", pki / f"{server_role}.key")
    server.load_verify_locations(pki / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=str(pki / "ca.pem"))
    client.load_cert_chain(pki / f"{client_role}.pem", pki / f"{client_role}.key")
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(10)
    said: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                with server.wrap_socket(connection, server_side=True) as wrapped:
                    said.append(wrapped.recv(5))
                    wrapped.sendall(b"there")
            except (ssl.SSLError, OSError):
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with (
            socket.create_connection(listener.getsockname(), timeout=10) as raw,
            client.wrap_socket(raw, server_hostname="localhost") as wrapped,
        ):
            wrapped.sendall(b"hello")
            return wrapped.version() if wrapped.recv(5) == b"there" else None
    except (ssl.SSLError, OSError):
        return None
    finally:
        thread.join(10)
        listener.close()


def test_both_certificates_make_a_mutual_tls_connection(pki: Path) -> None:
    assert tls_exchange(pki, "hospital", "developer") == "TLSv1.3"


def test_each_certificate_is_good_for_its_own_side_only(pki: Path) -> None:
    assert tls_exchange(pki, "developer", "developer") is None
    assert tls_exchange(pki, "hospital", "hospital") is None
