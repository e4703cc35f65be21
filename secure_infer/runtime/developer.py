"""The developer's side: a server that answers several hospitals at once and counts their images."""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from secure_infer import _native
from secure_infer.bundle import DeveloperBundle, Finding
from secure_infer.errors import RuntimeFailure
from secure_infer.runtime.endpoint import HANDSHAKE_S, Credentials
from secure_infer.runtime.failures import translated

_LOG = logging.getLogger(__name__)

#: How often the server's diary is read.
_PERIOD_S: Final = 0.25
#: The size of the implementation's own error, as protocol.md section 6 asks for.
LOGIT_NOISE: Final = 2.0**-8

Event = dict[str, Any]


def output_noise(findings: tuple[Finding, ...], logit_std: float = LOGIT_NOISE) -> float:
    """The noise on opened integers, in raw units, that is `logit_std` on every logit or less."""
    return logit_std / max(abs(finding.logit_scale) for finding in findings)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a server allows.

    Attributes
    ----------
    hospitals : int
        Served at once.
    tickets : int
        Unspent ones of one session; each takes memory on both sides.
    images_per_hospital : int, optional
        Per certificate and for ever, or as long as `budget_file` is kept; None for no limit.
    budget_file : Path, optional
        Where images are counted across restarts; None counts in memory.
    output_noise : float
        Standard deviation of the noise on opened integers, in raw units: see `output_noise`.
    timeout_s : float
        For every wait in which a hospital is silent in the middle of its work.
    idle_s : float
        For a hospital that doesn't ask for anything.
    ot_engine : str
        One of `secure_infer.runtime.endpoint.OT_OPTIONS`.
    threads : int
        That compute for each session, 1 to 256: a server uses up to `hospitals` times as many cores. A
        session has as many connections as the party with more threads has, at most eight.
    """

    hospitals: int = 4
    tickets: int = 4
    images_per_hospital: int | None = None
    budget_file: Path | None = None
    output_noise: float = 0.0
    timeout_s: float = 120.0
    idle_s: float = 900.0
    ot_engine: str = "auto"
    threads: int = 1

    @property
    def timeouts_s(self) -> Mapping[str, float]:
        """The limits of every wait, for the core."""
        return {
            "handshake": min(HANDSHAKE_S, self.timeout_s),
            "silence": self.timeout_s,
            "idle": self.idle_s,
        }


class DeveloperServer:
    """Serves from construction to `shutdown`; as a context manager to the end of the block.

    Parameters
    ----------
    bundle : DeveloperBundle
        The model's private half.
    listen : str
        ``host:port``; port 0 takes any free one, see `port`.
    credentials : Credentials
    limits : Limits, optional
    on_event : callable, optional
        Called with every event (see ``native/link/src/event.rs``) from one thread; None logs them.

    Raises
    ------
    RuntimeFailure
        When the address is taken or the count of images can't be read.
    KeyFileError, CertificateInvalid
        When the credentials can't be used.
    """

    def __init__(
        self,
        bundle: DeveloperBundle,
        listen: str,
        credentials: Credentials,
        limits: Limits | None = None,
        on_event: Callable[[Event], None] | None = None,
    ) -> None:
        limits = limits or Limits()
        self._on_event = on_event or _log
        self._stop = threading.Event()
        identity = credentials.load()
        with translated():
            model = _native.DeveloperModel(
                bundle.program_json,
                bundle.parameters,
                bundle.load_secrets(),
                bytes.fromhex(bundle.digest),
                ot_engine=limits.ot_engine,
            )
            self._server = _native.DeveloperServer.start(
                listen,
                model,
                identity,
                hospitals=limits.hospitals,
                tickets=limits.tickets,
                output_noise=limits.output_noise,
                images_per_hospital=limits.images_per_hospital,
                budget_file=limits.budget_file,
                threads=limits.threads,
                timeouts_s=dict(limits.timeouts_s),
            )
        self._reader = threading.Thread(target=self._read_diary, name="events", daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.port

    @property
    def hospitals(self) -> int:
        """How many are connected."""
        return self._server.hospitals

    def stats(self) -> dict[str, dict[str, Any]]:
        """Seconds, bytes and round trips over all connections by phase and step, as this side saw them.

        The same as `HospitalClient.stats`, up to the last command that each connection has finished.
        """
        with translated():
            return self._server.stats()

    def serve_forever(self) -> None:
        """Wait until `shutdown` is called.

        An exception of a signal handler, such as Ctrl-C's, passes through; the server runs on until the
        caller shuts it down, with or without grace.
        """
        while not self._stop.wait(_PERIOD_S):
            pass

    def shutdown(self, *, grace_s: float = 0.0) -> None:
        """Accept nobody any more, end idle sessions, give running work `grace_s` seconds, stop the rest."""
        if grace_s < 0:
            raise RuntimeFailure("grace_s", expected="a time", got=grace_s)
        self._server.shutdown(grace_s=grace_s)
        self._stop.set()
        if threading.current_thread() is not self._reader:
            self._reader.join()

    def _read_diary(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stop.wait(_PERIOD_S)
            for event in self._server.events():
                self._on_event(event)


def _log(event: Event) -> None:
    level = logging.WARNING if event["code"] else logging.INFO
    _LOG.log(level, "party: %s", event["event"], extra={"party": {k: v for k, v in event.items() if v}})
