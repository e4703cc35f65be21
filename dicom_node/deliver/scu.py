"""C-STORE and C-ECHO to a destination (PS3.4 annexes A, B; PS3.15 B.12 for TLS).

Every wait has the destination's time-out: connecting with its TLS handshake, the association, each message,
and each read and write of the socket (pynetdicom would let the last ones wait for ever).
"""

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pydicom
from pydicom import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.config import ClientTlsSettings, DestinationSettings
from dicom_node.deliver.errors import CredentialsInvalid, FileUnsendable
from dicom_node.deliver.status import classify
from dicom_node.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.intake.reading import MALFORMED
from dicom_node.steps import DeliveryResult

_VERIFICATION: Final = UID("1.2.840.10008.1.1")
_UNENCAPSULATED: Final = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
_REJECTED_TRANSIENTLY: Final = 2  # PS3.8 9.3.4


class _NoAssociationError(Exception):
    """Carries why there is none."""

    def __init__(self, result: DeliveryResult) -> None:
        super().__init__(result.status)
        self.result = result


def send(path: Path, destination: DestinationSettings) -> DeliveryResult:
    """Store one object; sending the same one again is harmless.

    Parameters
    ----------
    path : Path
        A DICOM file. An uncompressed object may be sent in another uncompressed transfer syntax, as the
        destination prefers.
    destination : DestinationSettings

    Returns
    -------
    DeliveryResult
        What the destination said, or why it said nothing. Failures of the network are results, not errors.

    Raises
    ------
    FileUnsendable, CredentialsInvalid
        The fault is on this side.
    """
    dataset = _read(path)
    syntax = dataset.file_meta.TransferSyntaxUID
    syntaxes = _UNENCAPSULATED if syntax in _UNENCAPSULATED else (syntax,)
    try:
        with _association(destination, [build_context(dataset.SOPClassUID, list(syntaxes))]) as association:
            if not association.accepted_contexts:
                return DeliveryResult(
                    False, f"{UID(dataset.SOPClassUID).name} is not accepted", retryable=False
                )
            return classify(association.send_c_store(dataset).get("Status"))
    except _NoAssociationError as failure:
        return failure.result
    except (RuntimeError, ValueError) as error:  # the association ended before or while the object was sent
        return DeliveryResult(False, f"association ended early ({type(error).__name__})", retryable=True)


def echo(destination: DestinationSettings) -> DeliveryResult:
    """Ask a destination whether it is there (C-ECHO); ``delivered`` says that it answered with success."""
    try:
        with _association(destination, [build_context(_VERIFICATION)]) as association:
            status = association.send_c_echo().get("Status")
    except _NoAssociationError as failure:
        return failure.result
    except (RuntimeError, ValueError) as error:
        return DeliveryResult(False, f"association ended early ({type(error).__name__})", retryable=True)
    text = "no answer to C-ECHO" if status is None else f"0x{status:04X}"
    return DeliveryResult(status == 0x0000, text, retryable=status != 0x0000)


def _read(path: Path) -> Dataset:
    try:
        dataset = pydicom.dcmread(path)
        complete = all(dataset.get(keyword) for keyword in ("SOPClassUID", "SOPInstanceUID"))
        complete = complete and "TransferSyntaxUID" in dataset.file_meta
    except (OSError, *MALFORMED) as error:
        raise FileUnsendable("file", expected="a DICOM object", got=type(error).__name__) from error
    if not complete:
        raise FileUnsendable("object", expected="SOP Class, SOP Instance and Transfer Syntax UID", got="none")
    return dataset


@contextmanager
def _association(
    destination: DestinationSettings, contexts: Sequence[PresentationContext]
) -> Iterator[Association]:
    """An established association, released afterwards; raises `_NoAssociationError` when there is none."""
    entity = AE(ae_title=destination.calling_ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.connection_timeout = destination.timeout_s
    entity.acse_timeout = destination.timeout_s
    entity.dimse_timeout = destination.timeout_s
    entity.network_timeout = destination.timeout_s
    tls = _tls_context(destination.tls) if destination.tls else None
    name = (destination.tls.server_name if destination.tls else None) or destination.host
    obstacle = _obstacle(destination, tls, name)
    if obstacle is not None:
        raise _NoAssociationError(obstacle)
    opened: list[socket.socket] = []
    association = entity.associate(
        destination.host,
        destination.port,
        contexts=list(contexts),
        ae_title=destination.ae_title,
        tls_args=(tls, name) if tls else None,
        evt_handlers=[(evt.EVT_CONN_OPEN, _on_open, [destination.timeout_s, opened])],
    )
    try:
        if not association.is_established:
            raise _NoAssociationError(_answer(association))
        yield association
    finally:
        if association.is_established:
            association.release()
        if association.is_alive():
            association.join(destination.timeout_s)
        for one in opened:  # pynetdicom leaves those open whose peer was the first to close
            one.close()


def _on_open(event: evt.Event, timeout_s: float, opened: list[socket.socket]) -> None:
    """Bound each read and write of the connection, and remember it."""
    connection = event.assoc.dul.socket
    if connection is not None and connection.socket is not None:
        connection.socket.settimeout(timeout_s)
        opened.append(connection.socket)


def _answer(association: Association) -> DeliveryResult:
    """What the destination answered to the request for an association (PS3.8 9.3.4)."""
    answer = association.acceptor.primitive
    if answer is None:
        return DeliveryResult(False, "no answer to the association request", retryable=True)
    if association.is_rejected:
        transient = answer.result == _REJECTED_TRANSIENTLY
        return DeliveryResult(False, f"association rejected: {answer.reason_str}", retryable=transient)
    return DeliveryResult(False, "no presentation context accepted", retryable=False)


def _obstacle(
    destination: DestinationSettings, tls: ssl.SSLContext | None, name: str
) -> DeliveryResult | None:
    """Why no connection can be made, or None, by making one first.

    NOTE: pynetdicom keeps the reason to itself, and leaves the socket of a failed connection open. A
    certificate that doesn't hold is a matter for a person; everything else may pass.
    """
    wait = destination.timeout_s
    try:
        with socket.create_connection((destination.host, destination.port), timeout=wait) as plain:
            if tls:
                tls.wrap_socket(plain, server_hostname=name).close()
            return None
    except ssl.SSLCertVerificationError as error:
        return DeliveryResult(False, f"certificate not accepted: {error.verify_message}", retryable=False)
    except ssl.SSLError as error:
        reason = f"TLS handshake failed: {error.reason or 'closed'}"
    except socket.gaierror:
        reason = "host name not found"
    except TimeoutError:
        reason = f"no connection in {wait:g} s"
    except OSError as error:
        reason = f"no connection: {error.strerror or type(error).__name__}"
    return DeliveryResult(False, reason, retryable=True)


def _tls_context(settings: ClientTlsSettings) -> ssl.SSLContext:
    """TLS 1.2 or later; the destination's certificate must fit its authority and its name (PS3.15 B.12)."""
    try:
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=settings.authority)
        if settings.certificate is not None:
            context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise CredentialsInvalid(
            "TLS files", expected="readable PEM files", got=type(error).__name__
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
