"""A listener in this process, objects to send, and certificates."""

import datetime
import ipaddress
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.transport import AssociationSocket

from dicom_node.config import ListenerSettings, PeerSettings, QueueSettings
from dicom_node.queue import Queue
from dicom_node.receive import Listener, silence_libraries
from dicom_node.spool import Spool

CR = "1.2.840.10008.5.1.4.1.1.1"
IMPLICIT = "1.2.840.10008.1.2"


@dataclass
class Gateway:
    """A listener with its spool and queue."""

    listener: Listener
    spool: Spool
    queue: Queue

    @property
    def port(self) -> int:
        return self.listener.port

    def files(self) -> list[Path]:
        return sorted(self.spool.root.glob("objects/*/*.dcm"))

    def leftovers(self) -> list[Path]:
        return list(self.spool.root.glob("incoming/receive/*"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Gateway]]:
    validation = pydicom.config.settings.reading_validation_mode
    silence_libraries()
    running: list[Gateway] = []

    def make(
        *, low_space_bytes: int = 0, peers: tuple[PeerSettings, ...] | None = None, **settings: Any
    ) -> Gateway:
        folder = tmp_path / f"spool{len(running)}"
        spool = Spool(folder, "receive", low_space_bytes=low_space_bytes)
        queue = Queue(folder / "queue.sqlite", QueueSettings(quiet_period_s=0))
        known = {"ae_title": "GATEWAY", "host": "127.0.0.1", "port": 0, "timeout_s": 5.0} | settings
        peers = (PeerSettings(ae_title="MODALITY"),) if peers is None else peers
        gateway = Gateway(Listener(ListenerSettings(**known), peers, spool, queue), spool, queue)
        gateway.listener.start()
        running.append(gateway)
        return gateway

    yield make
    for gateway in running:
        gateway.listener.stop()
        gateway.queue.close()
    pydicom.config.settings.reading_validation_mode = validation


@pytest.fixture
def radiograph() -> Callable[..., FileDataset]:
    def make(**changes: Any) -> FileDataset:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CR
        meta.MediaStorageSOPInstanceUID = changes.get("SOPInstanceUID", "1.2.3.4.5")
        meta.TransferSyntaxUID = IMPLICIT
        made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
        made.SOPClassUID = CR
        made.SOPInstanceUID = "1.2.3.4.5"
        made.StudyInstanceUID = "1.2.3"
        made.SeriesInstanceUID = "1.2.3.4"
        made.Modality = "CR"
        made.PatientName = "Quayle^Ximena"
        made.PatientID = "PID-770077"
        made.Rows = made.Columns = 32
        made.PixelData = bytes(2048)
        for keyword, value in changes.items():
            setattr(made, keyword, value)
        return made

    return make


@pytest.fixture
def associate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Association]]:
    made: list[Association] = []

    def shut_down(connection: AssociationSocket) -> None:
        # pynetdicom leaves its socket open when the peer closed first.
        with suppress(OSError):
            connection.socket.shutdown(socket.SHUT_RDWR)
        connection.socket.close()

    monkeypatch.setattr(AssociationSocket, "_shutdown_socket", shut_down)

    def make(
        port: int,
        *,
        sop_class: str = CR,
        syntaxes: list[str] | None = None,
        calling: str = "MODALITY",
        called: str = "GATEWAY",
        **options: Any,
    ) -> Association:
        entity = AE(ae_title=calling)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 10
        entity.add_requested_context(sop_class, syntaxes or [IMPLICIT])
        association = entity.associate("127.0.0.1", port, ae_title=called, **options)
        made.append(association)
        return association

    yield make
    for association in made:
        if association.is_established:
            association.release()


@pytest.fixture
def store_raw() -> Callable[..., Dataset]:
    """Sends any bytes as a data set."""

    def send(
        association: Association,
        data_set: bytes,
        *,
        sop_class: str = CR,
        sop_instance: str = "1.2.3.4.5",
        priority: int = 2,
    ) -> Dataset:
        request = C_STORE()
        request.MessageID = 1
        request.AffectedSOPClassUID = sop_class
        request.AffectedSOPInstanceUID = sop_instance
        request.Priority = priority
        request.DataSet = BytesIO(data_set)
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        status = Dataset()
        if answer is not None:
            status.Status = answer.Status
            status.ErrorComment = answer.ErrorComment
        return status

    return send


@pytest.fixture(scope="session")
def samples() -> list[Path]:
    """DICOM files in many transfer syntaxes: those in the repository, and more where they are at hand."""
    root = Path(__file__).parents[3]
    shared = root.parent / "shared" / "data" / "dicom" / "derived"
    folder = shared if shared.is_dir() else root / "tests" / "data" / "dicom" / "derived"
    return sorted(folder.glob("*.dcm"))


def encoded(dataset: Dataset) -> bytes:
    buffer = pydicom.filebase.DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, True
    pydicom.filewriter.write_dataset(buffer, dataset)
    return bytes(buffer.getvalue())


@pytest.fixture
def encode() -> Callable[[Dataset], bytes]:
    return encoded


@dataclass
class Certificates:
    """Files of an authority and of what it signed."""

    folder: Path
    authority: Path

    def issue(self, name: str, *, days: int = 10) -> tuple[Path, Path]:
        """A certificate and its key; negative `days` have passed already."""
        ca_key = serialization.load_pem_private_key((self.folder / "ca.key").read_bytes(), None)
        ca = x509.load_pem_x509_certificate(self.authority.read_bytes())
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = _builder(name, ca.subject, key, days).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        return self.write(name, certificate.sign(ca_key, hashes.SHA256()), key)  # type: ignore[arg-type]

    def write(
        self, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey
    ) -> tuple[Path, Path]:
        paths = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths


def _builder(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=30))
        .not_valid_after(now + datetime.timedelta(days=days))
    )


@pytest.fixture(scope="session")
def new_authority(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Certificates]:
    def make(name: str) -> Certificates:
        folder = tmp_path_factory.mktemp(name)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        own = _builder(name, subject, key, 10).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), True
        )
        made = Certificates(folder, folder / "ca.crt")
        made.write("ca", own.sign(key, hashes.SHA256()), key)
        return made

    return make


@pytest.fixture(scope="session")
def certificates(new_authority: Callable[[str], Certificates]) -> Certificates:
    return new_authority("authority")
