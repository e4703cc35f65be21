"""The TLS listener: who gets in, and who can't keep others out."""

import contextlib
import select
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from dicom_node.config import ServerTlsSettings
from dicom_node.errors import ConfigError
from dicom_node.receive.server import server_context

VERIFICATION = "1.2.840.10008.1.1"


@pytest.fixture
def server_files(certificates):
    return certificates.issue("gateway")


@pytest.fixture
def tls_gateway(start, certificates, server_files):
    def make(**options):
        certificate, key = server_files
        settings = {"authority": certificates.authority, "handshake_timeout_s": 1.0} | options
        return start(tls=ServerTlsSettings(certificate=certificate, key=key, **settings))

    return make


def client_context(authority: Path, own: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority))
    if own:
        context.load_cert_chain(*own)
    return context


def echo(associate, gateway, context) -> bool:
    association = associate(gateway.port, sop_class=VERIFICATION, tls_args=(context, "localhost"))
    return association.is_established and association.send_c_echo().get("Status") == 0x0000


def test_client_with_a_certificate_of_the_authority_gets_in_and_stores(
    tls_gateway, associate, certificates, radiograph
) -> None:
    gateway = tls_gateway()
    context = client_context(certificates.authority, certificates.issue("modality"))
    assert echo(associate, gateway, context)
    large = radiograph(PixelData=bytes(3 << 20))
    assert associate(gateway.port, tls_args=(context, "localhost")).send_c_store(large).Status == 0x0000
    assert len(gateway.files()) == 1


@pytest.mark.parametrize("kind", ["none", "foreign", "expired"])
def test_client_without_a_valid_certificate_is_kept_out(
    tls_gateway, associate, certificates, new_authority, kind
) -> None:
    own = {
        "none": lambda: None,
        "foreign": lambda: new_authority("foreign").issue("modality"),
        "expired": lambda: certificates.issue("expired", days=-1),
    }[kind]()
    gateway = tls_gateway()
    assert not echo(associate, gateway, client_context(certificates.authority, own))
    assert echo(associate, gateway, client_context(certificates.authority, certificates.issue("good")))


@pytest.mark.parametrize("clients", ["none", "optional"])
def test_client_needs_no_certificate_where_none_is_required(
    tls_gateway, associate, certificates, clients
) -> None:
    assert echo(associate, tls_gateway(clients=clients), client_context(certificates.authority))


def test_optional_certificate_has_to_be_valid(tls_gateway, associate, certificates, new_authority) -> None:
    own = new_authority("other").issue("modality")
    gateway = tls_gateway(clients="optional")
    assert not echo(associate, gateway, client_context(certificates.authority, own))


def test_silent_clients_block_nobody(tls_gateway, associate, certificates) -> None:
    gateway = tls_gateway(handshake_timeout_s=300.0)
    silent = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(20)]
    assert echo(associate, gateway, client_context(certificates.authority, certificates.issue("modality")))
    for connection in silent:
        connection.close()


def test_silent_client_is_closed_when_the_handshake_takes_too_long(tls_gateway) -> None:
    with socket.create_connection(("127.0.0.1", tls_gateway(handshake_timeout_s=0.2).port)) as connection:
        connection.settimeout(20)
        assert connection.recv(1) == b""


def test_client_that_drips_its_handshake_is_closed_in_time_all_the_same(tls_gateway) -> None:
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", tls_gateway(handshake_timeout_s=0.5).port)) as connection:
        record = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500)
        try:
            for position in range(len(record)):
                connection.sendall(record[position : position + 1])
                time.sleep(0.1)
        except ConnectionError:
            pass
        else:
            pytest.fail(f"still open after {time.monotonic() - began:.0f} s")


def test_client_that_speaks_plain_dicom_is_closed(tls_gateway, associate) -> None:
    association = associate(tls_gateway().port, sop_class=VERIFICATION)
    assert not association.is_established


def test_more_silent_clients_than_handshakes_allowed_are_closed_at_once(
    tls_gateway, associate, certificates, monkeypatch
) -> None:
    monkeypatch.setattr("dicom_node.receive.server._HANDSHAKES_AT_ONCE", 3)
    gateway = tls_gateway(handshake_timeout_s=300.0)
    with contextlib.ExitStack() as connections:
        silent = [
            connections.enter_context(socket.create_connection(("127.0.0.1", gateway.port))) for _ in range(4)
        ]
        closed, _, _ = select.select(silent, [], [], 20)  # which one: the gateway's threads decide
        assert len(closed) == 1
        assert closed[0].recv(1) == b""
        next(one for one in silent if one not in closed).close()
        context = client_context(certificates.authority, certificates.issue("modality"))
        assert any(echo(associate, gateway, context) for _ in range(20))


@pytest.mark.parametrize(
    ("lowest", "offered", "works"), [("1.2", "1.2", True), ("1.3", "1.2", False), ("1.3", "1.3", True)]
)
def test_lowest_version_is_kept(tls_gateway, associate, certificates, lowest, offered, works) -> None:
    context = client_context(certificates.authority, certificates.issue("modality"))
    context.maximum_version = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}[offered]
    assert echo(associate, tls_gateway(minimum_version=lowest), context) is works


def test_server_shows_its_own_certificate(tls_gateway, associate, new_authority, certificates) -> None:
    context = client_context(new_authority("unrelated").authority, certificates.issue("modality"))
    assert not echo(associate, tls_gateway(), context)


def test_key_of_another_certificate_is_refused(certificates) -> None:
    (certificate, _), (_, key) = certificates.issue("one"), certificates.issue("two")
    settings = ServerTlsSettings(certificate=certificate, key=key, authority=certificates.authority)
    with pytest.raises(
        ConfigError, match="listener's TLS files: expected a certificate, its key and an authority"
    ):
        server_context(settings)


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK (storescu) is not installed")
def test_dcmtk_stores_over_tls(tls_gateway, certificates, samples) -> None:
    gateway = tls_gateway()
    certificate, key = certificates.issue("dcmtk")
    command = ["storescu", "+tls", str(key), str(certificate), "+cf", str(certificates.authority)]
    command += ["-aet", "MODALITY", "-aec", "GATEWAY", "localhost", str(gateway.port)]
    file = next(one for one in samples if "rle" in one.name)
    done = subprocess.run(
        [*command, "-xr", str(file)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(gateway.files()) == 1
