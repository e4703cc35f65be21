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

    def prepare(self, count: int) -> object:
        """Prepares inferences."""
        ...

    def infer(self, image: NDArray[np.float32]) -> Answer:
        """Runs the protocol on one image in the model's input units."""
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
    connect : callable, optional
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
        connect: Callable[[HospitalBundle, InferenceSettings], Client] | None = None,
    ) -> None:
        self._settings = settings
        self._connect = connect or _connect
        with _translated():
            trusted = load_public_key(settings.trusted_key) if settings.trusted_key else None
            self._bundle = HospitalBundle.open(settings.bundle, trusted)
        # One protocol run at a time on the one connection; reentrant for `_connected`.
        self._lock = threading.RLock()
        self._client: Client | None = None
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
        with self._lock, self._connected() as client:
            answer = client.infer(image)
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

    def fill_pool(self) -> None:
        """Makes tickets, one at a time so that an image need not wait for all, until the pool is full.

        The scheduler calls this: an error is logged, not raised, and the next call tries again.
        """
        try:
            while True:
                with self._lock, self._connected() as client:
                    if client.tickets_ready >= self._settings.tickets:
                        return
                    client.prepare(1)
                    _LOG.info("ticket made", extra={"ready": client.tickets_ready})
        except InferenceError as error:
            _LOG.warning("no ticket made", extra={"code": error.code, "reason": str(error)})

    def close(self) -> None:
        """Ends the connection; the tickets are gone with it."""
        with self._lock:
            client, self._client = self._client, None
            if client is not None:
                client.__exit__(None, None, None)

    @contextmanager
    def _connected(self) -> Iterator[Client]:
        """The connection, made when there is none; given up after an error. Call with the lock held."""
        wait_s = self._not_before - time.monotonic()
        if self._client is None and wait_s > 0:
            got = f"none; it is tried again in {wait_s:.0f} s"
            raise PartyUnreachable("developer's party", expected="a connection", got=got)
        try:
            with _translated():
                if self._client is None:
                    self._client = self._connect(self._bundle, self._settings).__enter__()
                    _LOG.info("connected to the developer's party")
                yield self._client
        except _HARMLESS:
            raise
        except InferenceError:
            self.close()
            self._not_before = time.monotonic() + self._pause_s
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
            raise
        self._pause_s = _FIRST_PAUSE_S


def _connect(bundle: HospitalBundle, settings: InferenceSettings) -> Client:
    # Only who connects loads the protocol's core.
    from secure_infer.runtime import Endpoint, HospitalClient

    return HospitalClient(
        bundle,
        Endpoint(
            host=settings.host,
            port=settings.port,
            server_name=settings.server_name or settings.host,
            authority=settings.authority,
            certificate=settings.certificate,
            key=settings.key,
            timeout_s=settings.timeout_s,
        ),
    )
