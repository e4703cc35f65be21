"""The supervisor of ``blindread node run``: keeps listener and worker alive, ends them in good order."""

import logging
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.context import SpawnProcess
from types import FrameType

from dicom_node.config import Settings
from dicom_node.logs import configure_logging
from dicom_node.processes import EXIT_CONFIG, listener_main, worker_main
from dicom_node.queue import Queue
from dicom_node.spool import Spool

_LOG = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_HEALTHY_S = 60.0
_POLL_S = 0.2
_GRACE_S = 60.0

_MAINS: Mapping[str, Callable[[Settings], None]] = {"listener": listener_main, "worker": worker_main}


@dataclass(slots=True)
class _Child:
    """A process that has to live."""

    name: str
    main: Callable[[Settings], None]
    process: SpawnProcess | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    pause_s: float = field(default=_FIRST_PAUSE_S)


class Node:
    """The gateway.

    Parameters
    ----------
    settings : Settings
        The whole configuration.
    mains : mapping, optional
        Name to main function of each process; the listener and the worker when it is left out.
    """

    def __init__(self, settings: Settings, mains: Mapping[str, Callable[[Settings], None]] = _MAINS) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._context = multiprocessing.get_context("spawn")
        self._children = [_Child(name, main) for name, main in mains.items()]

    def stop(self) -> None:
        """Makes `run` return after what is under way; threads and signal handlers may call it."""
        self._stop.set()

    def run(self) -> int:
        """Runs the gateway until SIGTERM, SIGINT or `stop`.

        Returns
        -------
        int
            Exit status: 0, or that of a process that can't start because of the configuration.

        Raises
        ------
        NodeBusy
            Another gateway works on the same spool.
        QueueError
            The queue's database can't be used.
        """
        configure_logging(form=self._settings.node.log_format, level=self._settings.node.log_level)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._on_signal)
        with Spool(self._settings.node.spool, "node").take_over(wait_s=1.0):
            try:
                # Made once, before two processes would make it at the same time.
                Queue(self._settings.database, self._settings.queue).close()
                return self._supervise()
            finally:
                self._end_children()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stop.set()

    def _supervise(self) -> int:
        while not self._stop.is_set():
            for child in self._children:
                if child.process is None:
                    if time.monotonic() >= child.restart_at:
                        self._start(child)
                elif child.process.exitcode is not None:
                    if child.process.exitcode == EXIT_CONFIG:
                        return EXIT_CONFIG
                    self._bury(child)
            self._stop.wait(_POLL_S)
        return 0

    def _start(self, child: _Child) -> None:
        child.process = self._context.Process(
            target=child.main, args=(self._settings,), name=f"blindread-{child.name}"
        )
        child.process.start()
        child.started_at = time.monotonic()
        _LOG.info("process started", extra={"child": child.name, "pid": child.process.pid})

    def _bury(self, child: _Child) -> None:
        assert child.process is not None
        now = time.monotonic()
        if now - child.started_at > _HEALTHY_S:
            child.pause_s = _FIRST_PAUSE_S
        said = {"child": child.name, "status": child.process.exitcode, "again_in_s": child.pause_s}
        _LOG.error("process died", extra=said)
        child.process.close()
        child.process = None
        child.restart_at = now + child.pause_s
        child.pause_s = min(2 * child.pause_s, _LONGEST_PAUSE_S)

    def _end_children(self) -> None:
        living = [child.process for child in self._children if child.process is not None]
        for process in living:
            process.terminate()
        deadline = time.monotonic() + _GRACE_S
        for process in living:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                # Nothing is lost: the study goes on from its last step when the gateway starts again.
                process.kill()
                process.join()
            process.close()
