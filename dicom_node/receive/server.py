"""pynetdicom's threaded server, made safe for clients that are silent, slow or never stop talking.

NOTE: the stock server performs the TLS handshake in its accept loop, where one silent client keeps all
others out; reads PDUs of any announced length into memory; has no limit on an object's size; and counts
connections that never asked for an association as associations. Here the accept loop only accepts, the
handshake runs in the connection's own thread with a time-out, and a connection that announces too much is
closed.
"""

import logging
import selectors
import socket
import ssl
import threading
import time
from typing import Any

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from dicom_node.config import ListenerSettings, ServerTlsSettings
from dicom_node.errors import ConfigError

_LOG = logging.getLogger(__name__)

#: Room for the headers of the PDVs in a PDU, beyond what the maximum length counts.
_PDU_ALLOWANCE = 1 << 16
_HANDSHAKES_AT_ONCE = 256
_POLL_S = 0.1


class LimitExceeded(ConnectionError):
    """A peer announced a PDU, or sent an object, that is larger than the configured limit."""


class LimitedSocket(AssociationSocket):
    """A connection that never reads more than the limits allow.

    Parameters
    ----------
    assoc : Association
        The association that it serves.
    client_socket : socket
        Connected; with TLS, after the handshake.
    max_pdu_bytes, max_object_bytes : int
        Limits of one read and of what comes between two stored objects.
    """

    def __init__(
        self, assoc: Association, client_socket: socket.socket, *, max_pdu_bytes: int, max_object_bytes: int
    ) -> None:
        super().__init__(assoc, client_socket=client_socket)
        self._max_pdu_bytes = max_pdu_bytes + _PDU_ALLOWANCE
        self._max_object_bytes = max_object_bytes
        self._received = 0

    def object_done(self) -> None:
        """An object has come whole: what comes now belongs to the next one."""
        self._received = 0

    def recv(self, nr_bytes: int) -> bytearray:
        """Reads as the base class does; raises `LimitExceeded`, which closes the connection."""
        self._received += nr_bytes
        if nr_bytes > self._max_pdu_bytes or self._received > self._max_object_bytes:
            _LOG.warning("connection closed", extra={"reason": "PDU or object larger than the limit"})
            raise LimitExceeded("PDU or object larger than the limit")
        read = super().recv(nr_bytes)
        if len(read) < nr_bytes and self.assoc.requestor.primitive is None:
            # NOTE: pynetdicom keeps an association's thread waiting for a request from a peer that is gone.
            # None is what that thread gets when its wait times out, but not what the queue is declared for.
            self.assoc.dul.to_user_queue.put(None)  # type: ignore[arg-type]
        return read

    def _shutdown_socket(self) -> None:
        # NOTE: the base class leaves the socket open when the peer was faster.
        connection = self.socket
        super()._shutdown_socket()
        if connection is not None:
            connection.close()


class LimitedHandler(RequestHandler):
    """Makes associations on `LimitedSocket`."""

    server: "SafeServer"

    def _create_association(self) -> Association:
        association = super()._create_association()
        limits = self.server.listener
        # The base class's socket object has announced the connection already: once is enough.
        association.dul.event_queue.get_nowait()
        association.dul.socket = LimitedSocket(
            association,
            self.request,
            max_pdu_bytes=limits.max_pdu_bytes,
            max_object_bytes=limits.max_object_mb << 20,
        )
        return association


class SafeServer(ThreadedAssociationServer):
    """Accepts connections and gives each a thread, in which the TLS handshake is made.

    Parameters
    ----------
    listener : ListenerSettings
        Limits and time-outs.
    tls : ssl.SSLContext or None
        None serves without TLS.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(
        self,
        ae: ApplicationEntity,
        address: tuple[str, int],
        ae_title: str,
        contexts: list[Any],
        ssl_context: ssl.SSLContext | None = None,
        evt_handlers: list[evt.EventHandlerType] | None = None,
        *,
        listener: ListenerSettings,
        tls: ssl.SSLContext | None,
    ) -> None:
        assert ssl_context is None, "the base class would shake hands in the accept loop"
        self.listener = listener
        self._tls = tls
        self._handshakes = threading.BoundedSemaphore(_HANDSHAKES_AT_ONCE)
        self.request_queue_size = listener.backlog
        super().__init__(ae, address, ae_title, contexts, None, evt_handlers, LimitedHandler)
        # The base class collects garbage after so many polls: keep it at half a minute.
        self._gc = [0, round(30 / _POLL_S)]

    def serve(self) -> None:
        """Serves until `shutdown`."""
        self.serve_forever(_POLL_S)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Runs in the connection's thread: handshake, then pynetdicom."""
        request.settimeout(self.listener.timeout_s)
        if self._tls is not None:
            request = self._shake_hands(request, self._tls)
            if request is None:
                return
        super().finish_request(request, client_address)

    def _shake_hands(self, client: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket | None:
        assert self.listener.tls is not None
        if not self._handshakes.acquire(blocking=False):
            _LOG.warning("connection closed", extra={"reason": "too many TLS handshakes at once"})
            client.close()
            return None
        try:
            secured = context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
            client = secured
            _complete_handshake(secured, self.listener.tls.handshake_timeout_s)
            secured.settimeout(self.listener.timeout_s)
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            _LOG.warning("TLS handshake failed", extra={"reason": reason})
            client.close()
            return None
        finally:
            self._handshakes.release()
        return secured

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - signature
        """A connection's thread failed: one line in the log instead of a trace on the console."""
        _LOG.error("connection failed", exc_info=True)


def _complete_handshake(connection: ssl.SSLSocket, timeout_s: float) -> None:
    """The whole handshake within a time: a socket's own time-out begins anew with every byte that comes."""
    deadline = time.monotonic() + timeout_s
    connection.setblocking(False)
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        while True:
            try:
                connection.do_handshake()
                return
            except ssl.SSLWantReadError:
                selector.modify(connection, selectors.EVENT_READ)
            except ssl.SSLWantWriteError:
                selector.modify(connection, selectors.EVENT_WRITE)
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not selector.select(left_s):
                raise TimeoutError("TLS handshake")


def server_context(settings: ServerTlsSettings) -> ssl.SSLContext:
    """The TLS side of a listener: PS3.15 B.12 and B.13 (BCP 195), TLS 1.2 at least.

    Raises
    ------
    ConfigError
        The certificate, its key or the authority can't be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    lowest = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
    context.minimum_version = lowest[settings.minimum_version]
    # BCP 195 (RFC 9325): forward secrecy and authenticated encryption only.
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(settings.certificate, settings.key)
        if settings.authority is not None:
            context.load_verify_locations(settings.authority)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or type(error).__name__
        raise ConfigError(
            "listener's TLS files", expected="a certificate, its key and an authority in PEM", got=reason
        ) from None
    needs = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
    context.verify_mode = needs[settings.clients]
    return context
