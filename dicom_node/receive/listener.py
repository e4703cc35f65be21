"""The storage service class provider: C-ECHO and C-STORE on the configured ports (PS3.4 annex B, PS3.8).

An object is answered with success only when it lies in the spool, whole and on the disk, and in the queue.
"""

import hashlib
import logging
import threading
from io import BytesIO
from pathlib import Path
from typing import cast

import pydicom.config
import pynetdicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import create_file_meta, encode_file_meta
from pynetdicom.presentation import PresentationContext, build_context

from dicom_node.config import ListenerSettings, PeerSettings
from dicom_node.errors import ObjectMismatch, ObjectRefused, SpoolFull
from dicom_node.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.queue import Arrival, ObjectRecord, Priority, Queue, Receipt
from dicom_node.receive.admission import Request, admit
from dicom_node.receive.header import read_header
from dicom_node.receive.server import LimitedSocket, SafeServer, server_context
from dicom_node.spool import Spool

_LOG = logging.getLogger(__name__)

_VERIFICATION = "1.2.840.10008.1.1"

#: The words of the configuration's ``accept``.
SOP_CLASSES: dict[str, str] = {
    "cr": ComputedRadiographyImageStorage,
    "dx": DigitalXRayImageStorageForPresentation,
    "dx-for-processing": DigitalXRayImageStorageForProcessing,
    "secondary-capture": SecondaryCaptureImageStorage,
}

#: C-STORE statuses: PS3.4 table B.2-1; the last one is pynetdicom's for an error in a handler.
SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DATA_SET_MISMATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000
UNKNOWN_ERROR = 0xC211

#: Preferred when a context proposes several: what every program can read.
_PREFERRED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

#: How long a connection may be silent before it asks for an association (PS3.8's ARTIM timer).
_ARTIM_S = 10.0
_SILENT_CONNECTIONS = 256
_HIGH = 1


class Listener:
    """One port of the gateway.

    Parameters
    ----------
    settings : ListenerSettings
        Which port, and its limits.
    peers : tuple of PeerSettings
        Who may send.
    spool : Spool
        Where objects are kept.
    queue : Queue
        Where they are filed.

    Raises
    ------
    ConfigError
        The TLS files can't be used.
    OSError
        The port can't be had.
    """

    def __init__(
        self, settings: ListenerSettings, peers: tuple[PeerSettings, ...], spool: Spool, queue: Queue
    ) -> None:
        self._settings = settings
        self._peers = peers
        self._spool = spool
        self._queue = queue
        self._accepted = frozenset(SOP_CLASSES[word] for word in settings.accept)
        entity = AE(ae_title=settings.ae_title)
        entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        # `admit` counts the associations; pynetdicom counts connections that have not asked for one too.
        entity.maximum_associations = settings.max_associations + _SILENT_CONNECTIONS
        entity.maximum_pdu_size = settings.max_pdu_bytes
        entity.acse_timeout = min(settings.timeout_s, _ARTIM_S)
        entity.dimse_timeout = settings.timeout_s
        entity.network_timeout = settings.timeout_s
        # What else is supported depends on what a peer proposes: see `_on_requested`.
        entity.add_supported_context(_VERIFICATION)
        self._server: SafeServer = cast(
            SafeServer,
            entity.make_server(
                (settings.host, settings.port),
                evt_handlers=[(evt.EVT_REQUESTED, self._on_requested), (evt.EVT_C_STORE, self._on_store)],
                server_class=SafeServer,
                listener=settings,
                tls=server_context(settings.tls) if settings.tls else None,
            ),
        )
        entity._servers.append(self._server)  # noqa: SLF001 - `make_server` leaves this to its caller
        self._thread = threading.Thread(target=self._server.serve, daemon=True)

    @property
    def port(self) -> int:
        """The port, also when the configuration left the choice to the system."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Serves in a thread of its own from here on."""
        self._thread.start()
        _LOG.info("listening", extra={"port": self.port, "tls": self._settings.tls is not None})

    def stop(self) -> None:
        """Accepts nothing more; associations that are under way end as they do."""
        self._server.shutdown()
        self._thread.join()

    def drained(self) -> bool:
        """Whether no association is under way."""
        return not self._server.active_associations

    def abort(self) -> None:
        """Ends the associations under way; senders send again what was not answered."""
        for association in self._server.active_associations:
            if association.is_established:
                association.abort()
            else:
                association.kill()

    def _on_requested(self, event: evt.Event) -> None:
        """Admits an association and says which objects it may send, or rejects it."""
        association = event.assoc
        try:
            if not self._admitted(association):
                return
            association.acceptor.supported_contexts = self._contexts(association)
        except Exception:  # noqa: BLE001 - the outermost place of a request
            # pynetdicom would go on as if nothing had happened.
            _LOG.exception("association request failed")
            association.abort()

    def _admitted(self, association: Association) -> bool:
        primitive = association.requestor.primitive
        assert primitive is not None
        request = Request(
            calling_ae=(primitive.calling_ae_title or "").strip(),
            called_ae=(primitive.called_ae_title or "").strip(),
            address=association.requestor.address or "",
            application_context=str(primitive.application_context_name or ""),
        )
        said = {"calling": request.calling_ae, "called": request.called_ae, "address": request.address}
        others = [one for one in self._server.active_associations if one is not association]
        rejection = admit(
            request,
            self._settings,
            self._peers,
            active=sum(one.requestor.primitive is not None for one in others),
            room=self._spool.has_room(),
        )
        if rejection is None:
            _LOG.debug("association admitted", extra=said)
            return True
        _LOG.warning("association rejected", extra={**said, "reason": rejection.text})
        association.acse.send_reject(rejection.result, rejection.source, rejection.reason)
        association.kill()
        return False

    def _contexts(self, association: Association) -> list[PresentationContext]:
        """Verification, and the accepted classes in whatever transfer syntax the peer proposes."""
        primitive = association.requestor.primitive
        assert primitive is not None
        proposed: dict[str, list[str]] = {}
        for context in primitive.presentation_context_definition_list:
            name = str(context.abstract_syntax)
            if name in self._accepted:
                syntaxes = proposed.setdefault(name, [])
                syntaxes += [one for one in context.transfer_syntax if one not in syntaxes]
        contexts = [build_context(_VERIFICATION)]
        for name, syntaxes in proposed.items():
            ordered = [one for one in _PREFERRED if one in syntaxes]
            contexts.append(build_context(name, ordered + [one for one in syntaxes if one not in ordered]))
        return contexts

    def _on_store(self, event: evt.Event) -> int | Dataset:
        """Answers a C-STORE request: the outermost place where a broad except is right."""
        connection = event.assoc.dul.socket
        if isinstance(connection, LimitedSocket):
            connection.object_done()
        try:
            receipt = self._store(event)
        except SpoolFull as error:
            return _failure(OUT_OF_RESOURCES, error.code, "out of resources")
        except ObjectMismatch as error:
            return _failure(DATA_SET_MISMATCH, error.code, str(error))
        except ObjectRefused as error:
            return _failure(CANNOT_UNDERSTAND, error.code, str(error))
        except Exception:  # noqa: BLE001 - the outermost place of a request
            _LOG.exception("object not stored", extra={"code": "receive"})
            return UNKNOWN_ERROR
        level = logging.WARNING if receipt.arrival is Arrival.CONFLICT else logging.INFO
        said = {"study": receipt.study, "arrival": receipt.arrival.value}
        _LOG.log(level, "object stored", extra=said)
        return SUCCESS

    def _store(self, event: evt.Event) -> Receipt:
        request = cast(C_STORE, event.request)
        data_set = cast(BytesIO, request.DataSet).getbuffer()
        sop_class, sop_instance = str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)
        syntax = event.context.transfer_syntax
        if event.context.abstract_syntax != sop_class:
            raise ObjectMismatch(
                "SOP Class UID of the C-STORE request", expected="the presentation context's", got="another"
            )
        header = read_header(
            data_set, transfer_syntax_uid=syntax, sop_class_uid=sop_class, sop_instance_uid=sop_instance
        )
        parts = (_file_beginning(sop_class, sop_instance, syntax), data_set)
        digest = hashlib.sha256(f"{sop_class} {syntax} ".encode())
        digest.update(data_set)
        name = digest.hexdigest()
        path = self._spool.store(Path("objects", name[:2], f"{name}.dcm"), parts)
        calling = (event.assoc.requestor.ae_title or "").strip()
        peer = next((one for one in self._peers if one.ae_title == calling), None)
        stat = header.stat or request.Priority == _HIGH or bool(peer and peer.stat)
        return self._queue.add_object(
            ObjectRecord(
                study_uid=header.study_uid,
                sop_uid=sop_instance,
                sop_class_uid=sop_class,
                transfer_syntax_uid=str(syntax),
                digest=name,
                path=path.as_posix(),
                size=sum(len(part) for part in parts),
                calling_ae=calling,
                priority=Priority.STAT if stat else Priority.ROUTINE,
                quiet_period_s=peer.quiet_period_s if peer else None,
            )
        )


def _file_beginning(sop_class: str, sop_instance: str, transfer_syntax: str) -> bytes:
    """Preamble, prefix and file meta information: PS3.10 section 7.1."""
    meta = create_file_meta(
        sop_class_uid=UID(sop_class),
        sop_instance_uid=UID(sop_instance),
        transfer_syntax=UID(transfer_syntax),
        implementation_uid=UID(IMPLEMENTATION_CLASS_UID),
        implementation_version=IMPLEMENTATION_VERSION_NAME,
    )
    return b"\0" * 128 + b"DICM" + encode_file_meta(meta)


def _failure(status: int, code: str, comment: str) -> Dataset:
    _LOG.warning("object not stored", extra={"code": code, "reason": comment})
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment[:64]
    return answer


def silence_libraries() -> None:
    """Keeps pynetdicom and pydicom, in this process, from logging what peers sent: it may name patients."""
    pynetdicom._config.LOG_HANDLER_LEVEL = "none"  # noqa: SLF001 - documented setting of pynetdicom
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
