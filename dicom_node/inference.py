"""The door to `secure_infer`: one bundle, one connection, a pool of tickets, errors in our own words.

Nothing else in the gateway (but for the command line) imports `secure_infer`.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from dicom_node.config import InferenceSettings
from dicom_node.errors import (
    BundleUnusable,
    ImageRejected,
    InferenceError,
    PartyFaulty,
    PartyRejected,
    PartyTimeout,
    PartyUnreachable,
)
from dicom_node.steps import FindingResult, InferenceResult
from secure_infer.bundle import HospitalBundle
from secure_infer.errors import (
    BundleError,
    Cancelled,
    InputRejected,
    KeyFileError,
    PeerRejected,
    PeerUnreachable,
    ProtocolError,
    SecureInferError,
    Timeout,
)
from secure_infer.keys import load_public_key
from secure_infer.runtime.preprocess import prepare

_LOG = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0

#: In this order: the first that fits.
_MEANING: tuple[tuple[type[SecureInferError], type[InferenceError]], ...] = (
    (PeerUnreachable, PartyUnreachable),
    (Cancelled, PartyUnreachable),
    (Timeout, PartyTimeout),
    (ProtocolError, PartyFaulty),
    (PeerRejected, PartyRejected),
    (KeyFileError, PartyRejected),
    (InputRejected, ImageRejected),
    (BundleError, BundleUnusable),
)

#: After these the connection may still be good.
_HARMLESS = (ImageRejected,)


class Answer(Protocol):
    """`secure_infer.runtime.Inference`: what one run of the protocol gave."""

    @property
    def logits(self) -> Sequence[float] | NDArray[np.float64]:
        """One for each finding."""
        ...

    @property
    def probabilities(self) -> Sequence[float] | NDArray[np.float64]:
        """One for each finding."""
        ...


class Client(Protocol):
    """`secure_infer.runtime.HospitalClient`, connected between enter and exit."""

    @property
    def tickets_ready(self) -> int:
        """How many inferences are prepared."""
        ...

    @property
    def ticket_limit(self) -> int:
        """How many the developer's party allows at a time."""
        ...

    def prepare(self, tickets: int) -> object:
        """Prepares inferences."""
        ...

    def infer(self, image: NDArray[np.float32]) -> Answer:
        """Runs the protocol on one image in the model's input units."""
        ...

    def ping(self) -> None:
        """Asks for a sign of life."""
        ...

    def __enter__(self) -> Self:
        """Connects."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends the connection."""
        ...


def translate(error: SecureInferError) -> InferenceError:
    """The gateway's error for one of `secure_infer`: decides between another attempt and a person."""
    kind = next((ours for theirs, ours in _MEANING if isinstance(error, theirs)), InferenceError)
    return kind(error.what, expected=error.expected, got=error.got)


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except SecureInferError as error:
        raise translate(error) from error


def prepare_image(picture: NDArray[np.float32], preprocessing: Mapping[str, Any]) -> NDArray[np.float32]:
    """From a displayed picture [H, W], 0 black to 1 white, to the model's own input units.

    Raises
    ------
    ImageRejected
        The picture doesn't fit the preprocessing.
    BundleUnusable
        The preprocessing is malformed.
    """
    with _translated():
        return prepare(picture, preprocessing)


class SecureInference:
    """Private inference with the developer's party. Threads may share it.

    Parameters
    ----------
    settings : InferenceSettings
        Bundle, address, keys, size of the pool.
    new_client : callable, optional
        Makes a client that is not connected yet; for tests.

    Raises
    ------
    BundleUnusable
        The bundle can't be read or isn't trusted.
    PartyRejected
        The trusted key can't be read.
    """

    def __init__(
        self,
        settings: InferenceSettings,
        *,
        new_client: Callable[[HospitalBundle, InferenceSettings], Client] | None = None,
    ) -> None:
        self._settings = settings
        self._new_client = new_client or _new_client
        with _translated():
            trusted = load_public_key(settings.trusted_key) if settings.trusted_key else None
            self._bundle = HospitalBundle.open(settings.bundle, trusted)
        # One protocol run at a time on the one connection.
        self._lock = threading.Lock()
        # Kept over reconnections: it has read the bundle's large files.
        self._client: Client | None = None
        self._open = False
        self._image_waits = threading.Event()
        self._pause_s = _FIRST_PAUSE_S
        self._not_before = 0.0

    @property
    def bundle_digest(self) -> str:
        """SHA-256 (hex) of the bundle's manifest."""
        return self._bundle.digest

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """The bundle's ``preprocessing.json``."""
        return self._bundle.preprocessing

    @property
    def model_card(self) -> Mapping[str, Any]:
        """The bundle's ``model_card.json``."""
        return self._bundle.model_card

    def infer(self, image: NDArray[np.float32]) -> InferenceResult:
        """Runs the protocol on one image in the model's input units; uses up a ticket.

        Raises
        ------
        InferenceError
            One of its subclasses; see `dicom_node.errors` for which are worth another attempt.
        """
        started = time.monotonic()
        answer = self._run(image)
        findings = tuple(
            FindingResult(
                name=finding.name,
                probability=float(probability),
                threshold=finding.threshold,
                code=finding.code.to_json() if finding.code else None,
            )
            for finding, probability in zip(self._bundle.findings, answer.probabilities, strict=True)
        )
        return InferenceResult(
            findings=findings,
            logits=tuple(float(logit) for logit in answer.logits),
            bundle_id=self._bundle.bundle_id,
            bundle_digest=self._bundle.digest,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=time.monotonic() - started,
        )

    def _run(self, image: NDArray[np.float32]) -> Answer:
        self._image_waits.set()
        with self._lock:
            self._image_waits.clear()
            idle = self._open
            try:
                with self._connected() as client:
                    return client.infer(image)
            except PartyUnreachable:
                if not idle:
                    raise
            # The connection was lost while nobody used it. Once more, on a new one, with another ticket.
            self._not_before = 0.0
            with self._connected() as client:
                return client.infer(image)

    def fill_pool(self) -> None:
        """Makes tickets until the pool is full, one at a time and not while an image waits.

        The scheduler calls this: an error is logged, not raised, and the next call tries again.
        """
        try:
            while not self._image_waits.is_set():
                with self._lock, self._connected() as client:
                    if client.tickets_ready >= min(self._settings.tickets, client.ticket_limit):
                        client.ping()
                        return
                    client.prepare(1)
                    _LOG.info("ticket made", extra={"ready": client.tickets_ready})
        except InferenceError as error:
            _LOG.warning("no ticket made", extra={"code": error.code, "reason": str(error)})

    def close(self) -> None:
        """Ends the connection; the tickets are gone with it."""
        with self._lock:
            self._disconnect()

    @contextmanager
    def _connected(self) -> Iterator[Client]:
        """The connection, made when there is none; given up after an error. Call with the lock held."""
        wait_s = self._not_before - time.monotonic()
        if not self._open and wait_s > 0:
            got = f"none; it is tried again in {wait_s:.0f} s"
            raise PartyUnreachable("developer's party", expected="a connection", got=got)
        try:
            with _translated():
                if self._client is None:
                    self._client = self._new_client(self._bundle, self._settings)
                if not self._open:
                    self._client.__enter__()
                    self._open = True
                    _LOG.info("connected to the developer's party")
                yield self._client
        except _HARMLESS:
            raise
        except InferenceError:
            self._disconnect()
            self._not_before = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            raise
        self._pause_s = _FIRST_PAUSE_S

    def _disconnect(self) -> None:
        if self._open and self._client is not None:
            self._open = False
            self._client.__exit__(None, None, None)


def _new_client(bundle: HospitalBundle, settings: InferenceSettings) -> Client:
    # Only who connects loads the protocol's core.
    from secure_infer.runtime import Endpoint, HospitalClient

    return HospitalClient(
        bundle,
        Endpoint(
            host=settings.host,
            port=settings.port,
            server_name=settings.server_name,
            authority=settings.authority,
            certificate=settings.certificate,
            key=settings.key,
            fingerprint=settings.fingerprint,
            timeout_s=settings.timeout_s,
            ot_engine=settings.ot_engine,
            threads=settings.threads,
        ),
    )
