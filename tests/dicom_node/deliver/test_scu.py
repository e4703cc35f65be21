import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pynetdicom import AE, evt

from dicom_node import deliver
from dicom_node.config import ClientTlsSettings, DestinationSettings
from dicom_node.deliver.errors import CredentialsInvalid, FileUnsendable
from dicom_node.demo.archive import Archive, KeepingServer
from secure_infer import keys

Destination = Callable[..., DestinationSettings]
COMPREHENSIVE_3D = "1.2.840.10008.5.1.4.1.1.88.34"


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "archive") as archive:
        yield archive


@contextmanager
def server(
    *,
    answer: int | None = 0,
    context: str = COMPREHENSIVE_3D,
    tls: ssl.SSLContext | None = None,
    only_its_title: bool = False,
) -> Iterator[int]:
    """A peer that answers a C-STORE with `answer`, or breaks the association for None."""
    entity = AE(ae_title="ARCHIVE")
    entity.add_supported_context(context)
    entity.require_called_aet = only_its_title

    def on_store(event: evt.Event) -> int:
        if answer is None:
            event.assoc.abort()
            return 0xC000
        return answer

    running = entity.make_server(
        ("127.0.0.1", 0),
        evt_handlers=[(evt.EVT_C_STORE, on_store)],
        ssl_context=tls,
        server_class=KeepingServer,
    )
    entity._servers.append(running)
    thread = threading.Thread(target=running.serve_forever, daemon=True)
    thread.start()
    try:
        yield running.server_address[1]
    finally:
        running.shutdown()
        thread.join()
        running.server_close()


def test_report_is_stored_and_stays_the_same_object(
    archive: Archive, report: Path, destination: Destination
) -> None:
    got = deliver.send(report, destination(archive.port))
    assert (got.delivered, got.status) == (True, "0x0000")
    (stored,) = archive.files(COMPREHENSIVE_3D)
    assert pydicom.dcmread(stored) == pydicom.dcmread(report)


def test_sending_twice_leaves_one_object(archive: Archive, report: Path, destination: Destination) -> None:
    for _ in range(2):
        assert deliver.send(report, destination(archive.port)).delivered
    assert len(archive.files()) == 1


def test_compressed_image_is_sent_as_it_is(archive: Archive, destination: Destination) -> None:
    path = Path(__file__).parents[2] / "data" / "dicom" / "derived" / "dx_jpeg_lossless_p14.dcm"
    assert deliver.send(path, destination(archive.port)).delivered
    (stored,) = archive.files()
    assert pydicom.dcmread(stored).PixelData == pydicom.dcmread(path).PixelData


@pytest.mark.parametrize(
    ("answer", "delivered", "retryable"),
    [(0xB000, True, False), (0xB007, True, False), (0xA700, False, True), (0xC000, False, False)],
)
def test_answer_of_the_destination_decides(
    report: Path, destination: Destination, answer: int, delivered: bool, retryable: bool
) -> None:
    with server(answer=answer) as port:
        got = deliver.send(report, destination(port))
    assert (got.delivered, got.retryable) == (delivered, retryable)
    assert f"0x{answer:04X}" in got.status


def test_connection_broken_in_the_middle_is_retryable(report: Path, destination: Destination) -> None:
    with server(answer=None) as port:
        got = deliver.send(report, destination(port))
    assert (got.delivered, got.retryable) == (False, True)


def test_stopped_destination_is_retryable_and_a_started_one_gets_the_report(
    report: Path, destination: Destination, free_port: int, tmp_path: Path
) -> None:
    got = deliver.send(report, destination(free_port))
    assert (got.delivered, got.retryable) == (False, True)
    assert got.status == "no connection: Connection refused"
    with Archive(tmp_path / "archive", port=free_port):
        assert deliver.send(report, destination(free_port)).delivered


def test_unknown_host_is_retryable(report: Path, destination: Destination) -> None:
    got = deliver.send(report, destination(104, host="nowhere.invalid"))
    assert (got.delivered, got.retryable) == (False, True)


def test_silent_destination_is_given_up_after_the_time_out(report: Path, destination: Destination) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        got = deliver.send(report, destination(silent.getsockname()[1], timeout_s=0.3))
    assert (got.delivered, got.retryable) == (False, True)


def test_destination_that_talks_nonsense_is_retryable(report: Path, destination: Destination) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=talk, daemon=True).start()
        got = deliver.send(report, destination(listener.getsockname()[1], timeout_s=2.0))
    assert (got.delivered, got.retryable) == (False, True)


def test_wrong_called_ae_title_needs_a_person(report: Path, destination: Destination) -> None:
    with server(only_its_title=True) as port:
        got = deliver.send(report, destination(port, ae_title="ELSEWHERE"))
    assert (got.delivered, got.retryable) == (False, False)
    assert "association rejected: Called AE title not recogni" in got.status


def test_class_that_is_not_accepted_needs_a_person(report: Path, destination: Destination) -> None:
    with server(context="1.2.840.10008.5.1.4.1.1.1") as port:
        got = deliver.send(report, destination(port))
    assert (got.delivered, got.retryable) == (False, False)
    assert "accepted" in got.status


def test_full_archive_answers_out_of_resources_and_takes_it_later(
    archive: Archive, report: Path, destination: Destination
) -> None:
    study = str(pydicom.dcmread(report).StudyInstanceUID)
    (archive.folder / study).write_text("a file where a folder must be")
    got = deliver.send(report, destination(archive.port))
    assert (got.delivered, got.retryable, got.status) == (False, True, "0xA700 (out of resources)")
    (archive.folder / study).unlink()
    assert deliver.send(report, destination(archive.port)).delivered


@pytest.mark.parametrize("content", [b"", b"nothing", bytes(128) + b"DICM"])
def test_file_that_is_no_object_is_not_sent(
    tmp_path: Path, destination: Destination, free_port: int, content: bytes
) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(content)
    with pytest.raises(FileUnsendable):
        deliver.send(path, destination(free_port))


def test_missing_file_is_an_error_of_this_side(
    tmp_path: Path, destination: Destination, free_port: int
) -> None:
    with pytest.raises(FileUnsendable, match="got FileNotFoundError"):
        deliver.send(tmp_path / "none.dcm", destination(free_port))


def test_echo_says_whether_the_destination_is_there(
    archive: Archive, destination: Destination, free_port: int
) -> None:
    assert deliver.echo(destination(archive.port)).delivered
    assert not deliver.echo(destination(free_port)).delivered


# --- TLS ---


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority with a server's and a client's certificate, and another authority."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("own", "other", "server", "client"):
        (folder / name).mkdir()
    for name in ("own", "other"):
        keys.create_authority(folder / name, f"{name} authority")
    keys.issue(folder / "own", folder / "server", "developer", "pacs", ["127.0.0.1", "pacs.example"])
    keys.issue(folder / "own", folder / "client", "hospital", "gateway")
    return folder


def tls_server(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair(folder / "server"))
    context.load_verify_locations(folder / "own" / "ca.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def pair(folder: Path) -> tuple[Path, Path]:
    (certificate,), (key,) = folder.glob("*.pem"), folder.glob("*.key")
    return certificate, key


def tls_client(folder: Path, **changes: object) -> ClientTlsSettings:
    certificate, key = pair(folder / "client")
    values = {"authority": folder / "own" / "ca.pem", "certificate": certificate, "key": key}
    return ClientTlsSettings(**(values | changes))


def test_report_is_delivered_over_mutual_tls(
    report: Path, destination: Destination, certificates: Path
) -> None:
    with server(tls=tls_server(certificates)) as port:
        got = deliver.send(report, destination(port, tls=tls_client(certificates)))
    assert (got.delivered, got.status) == (True, "0x0000")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"authority": "other"}, "certificate not accepted"),
        ({"server_name": "elsewhere.example"}, "certificate"),
    ],
)
def test_destinations_wrong_certificate_needs_a_person(
    report: Path, destination: Destination, certificates: Path, changes: dict[str, str], reason: str
) -> None:
    if "authority" in changes:
        changes = {"authority": certificates / changes["authority"] / "ca.pem"}
    with server(tls=tls_server(certificates)) as port:
        got = deliver.send(report, destination(port, tls=tls_client(certificates, **changes)))
    assert (got.delivered, got.retryable) == (False, False)
    assert reason in got.status


def test_client_without_certificate_delivers_nothing(
    report: Path, destination: Destination, certificates: Path
) -> None:
    settings = tls_client(certificates, certificate=None, key=None)
    with server(tls=tls_server(certificates)) as port:
        got = deliver.send(report, destination(port, tls=settings, timeout_s=2.0))
    assert not got.delivered


def test_plain_destination_fails_the_handshake(
    archive: Archive, report: Path, destination: Destination, certificates: Path
) -> None:
    got = deliver.send(report, destination(archive.port, tls=tls_client(certificates), timeout_s=1.0))
    assert (got.delivered, got.retryable) == (False, True)


def test_unreadable_credentials_are_an_error_of_this_side(
    report: Path, destination: Destination, certificates: Path, tmp_path: Path, free_port: int
) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    with pytest.raises(CredentialsInvalid, match="TLS files: expected readable PEM files"):
        deliver.send(report, destination(free_port, tls=tls_client(certificates, authority=bad)))
