"""The hospital's side: one session with a developer, tickets made ahead, one image at a time."""

import logging
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from secure_infer import _native
from secure_infer.bundle import HospitalBundle
from secure_infer.errors import PeerUnreachable
from secure_infer.runtime.coding import Inference, encode_image, interpret
from secure_infer.runtime.endpoint import Endpoint
from secure_infer.runtime.failures import translated

_LOG = logging.getLogger(__name__)

Stats = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Link:
    """How a connection extends oblivious transfers, and what that was chosen by.

    Attributes
    ----------
    ot_engine : str
        One of `secure_infer.runtime.endpoint.OT_ENGINES`.
    bytes_per_second, round_trip_seconds : int, float or None
        From the developer, as measured when the connection was made; None if a party had named the engine.
    """

    ot_engine: str
    bytes_per_second: int | None = None
    round_trip_seconds: float | None = None


class HospitalClient:
    """A context manager that is connected within the ``with`` block.

    Any error but `InputRejected` ends the session on both sides and with it all its tickets; the image stays
    with the caller. A new ``with`` block, or a new client, connects again. Threads may share a client: their
    calls run one after another.

    Parameters
    ----------
    bundle : HospitalBundle
        The model's public half. Its hints are read once, at the first connection.
    endpoint : Endpoint
        The developer's server.

    Raises
    ------
    PeerUnreachable, Timeout
        On entering: trying again later may help.
    PeerRejected, BundleMismatch
        On entering: one party does not accept the other.
    """

    def __init__(self, bundle: HospitalBundle, endpoint: Endpoint) -> None:
        self._bundle = bundle
        self._endpoint = endpoint
        self._model: _native.HospitalModel | None = None
        self._session: _native.HospitalSession | None = None

    def __enter__(self) -> Self:
        credentials = self._endpoint.credentials.load()
        model = self._load()
        with translated():
            self._session = _native.HospitalSession.connect(
                self._endpoint.address,
                self._endpoint.server_name or self._endpoint.host,
                credentials,
                model,
                threads=self._endpoint.threads,
                timeouts_s=dict(self._endpoint.timeouts_s),
            )
        _LOG.info("session: connected", extra={"link": asdict(Link(**self._session.link))})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def load(self) -> None:
        """Read the hints now instead of at the first connection."""
        self._load()

    @property
    def bundle(self) -> HospitalBundle:
        """The model in use."""
        return self._bundle

    @property
    def is_open(self) -> bool:
        """Whether the session can be used."""
        return self._session is not None and self._session.is_open

    @property
    def tickets_ready(self) -> int:
        """How many images can be answered without preparation."""
        return self._session.tickets_ready if self._session else 0

    @property
    def ticket_limit(self) -> int:
        """How many unspent tickets the developer allows a connection."""
        return self._session.ticket_limit if self._session else 0

    @property
    def images_left(self) -> int | None:
        """How many images the developer still allows; None if it does not say."""
        return self._session.images_left if self._session else None

    @property
    def link(self) -> Link | None:
        """The OT engine of this connection, and the link as it was measured; None while there is none."""
        return Link(**self._session.link) if self._session else None

    def prepare(self, tickets: int = 1) -> None:
        """Make this many tickets: the offline phase.

        Raises
        ------
        RuntimeFailure
            One of its subclasses.
        """
        session = self._connected()
        with translated():
            for _ in range(tickets):
                session.prepare()

    def infer(self, image: NDArray[np.float32]) -> Inference:
        """Spend a ticket (made first if none is ready) on an image.

        Parameters
        ----------
        image : float array [H, W] or [H, W, C]
            In the model's own input units.

        Raises
        ------
        InputRejected
            Before anything is sent; session and tickets remain.
        RuntimeFailure
            One of its other subclasses; the session is over.
        """
        coded = encode_image(image, self._bundle)
        session = self._connected()
        with translated():
            if session.tickets_ready == 0:
                session.prepare()
            before = session.stats()["online"]
            opened = session.infer(coded)
            after = session.stats()["online"]
        spent = {key: after[key] - before[key] for key in after if key != "steps"}
        return interpret(opened, self._bundle.findings, spent)

    def ping(self) -> None:
        """Ask the developer for a sign of life; keeps the session from idling out."""
        session = self._connected()
        with translated():
            session.ping()

    def cancel(self) -> None:
        """Stop a call that runs in another thread; it raises `Cancelled` and the session is over."""
        if self._session is not None:
            self._session.cancel()

    def stats(self) -> Stats:
        """Seconds, bytes and round trips by phase and step since the connection was made."""
        session = self._connected()
        with translated():
            return session.stats()

    def _connected(self) -> _native.HospitalSession:
        if self._session is None:
            raise PeerUnreachable("hospital's client", expected="a connection", got="none")
        return self._session

    def _load(self) -> _native.HospitalModel:
        if self._model is None:
            bundle = self._bundle
            with translated():
                self._model = _native.HospitalModel(
                    bundle.program_json,
                    bundle.load_hints(),
                    bundle.public_seed,
                    bytes.fromhex(bundle.digest),
                    ot_engine=self._endpoint.ot_engine,
                )
        return self._model
