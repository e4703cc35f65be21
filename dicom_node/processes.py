"""The gateway's two processes: the listener, away from tensors, and the worker.

Each ends on SIGTERM after what is under way, and at once when the supervisor is gone.
"""

import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from dicom_node.config import Settings
from dicom_node.errors import ConfigError, InferenceError, NodeError
from dicom_node.logs import configure_logging
from dicom_node.queue import Queue
from dicom_node.spool import Spool, remove_orphans
from dicom_node.steps import Inference, Intake, Reporter, Sender
from dicom_node.worker import Worker

_LOG = logging.getLogger(__name__)

#: Exit status (sysexits.h EX_CONFIG): starting again does not help.
EXIT_CONFIG = 78

_TAKE_OVER_S = 30.0
_DRAIN_S = 5.0
_FILL_S = 5.0
_WATERMARK_S = 60.0
_HOUSEKEEPING_S = 3600.0
_ORPHAN_AGE_S = 86_400.0
_DAY_S = 86_400.0


class PooledInference(Inference, Protocol):
    """`inference.SecureInference`, as the worker's process uses it."""

    def fill_pool(self) -> None:
        """Keeps the pool of tickets filled."""
        ...

    def close(self) -> None:
        """Ends the connection."""
        ...


def listener_main(settings: Settings) -> None:
    """The listener's process: serves every configured port until it is told to end."""
    _run(settings, "listener", serve_listeners)


def worker_main(settings: Settings) -> None:
    """The worker's process: takes studies their way until it is told to end."""
    _run(settings, "worker", _serve_real_worker)


def serve_listeners(settings: Settings, stop: threading.Event) -> None:
    """Serves every configured port until `stop` is set."""
    # Only this process knows pynetdicom.
    from dicom_node.receive import Listener, silence_libraries

    silence_libraries()
    spool = Spool(settings.node.spool, "receive", low_space_bytes=settings.node.low_space_mb << 20)
    with spool.take_over(wait_s=_TAKE_OVER_S), Queue(settings.database, settings.queue) as queue:
        listeners = [Listener(one, settings.peer, spool, queue) for one in settings.listener]
        for listener in listeners:
            listener.start()
        stop.wait()
        for listener in listeners:
            listener.stop()
        deadline = time.monotonic() + _DRAIN_S
        while time.monotonic() < deadline and not all(listener.drained() for listener in listeners):
            time.sleep(0.05)
        for listener in listeners:
            listener.abort()


def _serve_real_worker(settings: Settings, stop: threading.Event) -> None:
    # Only this process loads the protocol's core and the imaging libraries.
    from dicom_node import deliver, intake, report
    from dicom_node.inference import SecureInference

    try:
        inference = SecureInference(settings.inference)
    except InferenceError as error:
        raise ConfigError(f"inference ({error.code}): {error}") from error
    serve_worker(settings, stop, intake=intake, inference=inference, reporter=report, sender=deliver)


def serve_worker(
    settings: Settings,
    stop: threading.Event,
    *,
    intake: Intake,
    inference: PooledInference,
    reporter: Reporter,
    sender: Sender,
) -> None:
    """Takes studies their way until `stop` is set; the rooms are given by the caller."""
    from dicom_node.scheduler import Scheduler

    spool = Spool(settings.node.spool, "work", low_space_bytes=settings.node.low_space_mb << 20)
    with spool.take_over(wait_s=_TAKE_OVER_S), Queue(settings.database, settings.queue) as queue:
        worker = Worker(
            settings,
            queue,
            spool,
            intake=intake,
            inference=inference,
            reporter=reporter,
            sender=sender,
            owner=settings.node.name,
        )
        worker.recover()
        scheduler = Scheduler()
        scheduler.every(settings.queue.tick_s, queue.complete_studies, "complete studies")
        scheduler.every(settings.queue.tick_s, worker.work, "work")
        lease_turn_s = settings.queue.lease_s / 3
        scheduler.every(lease_turn_s, partial(queue.renew_leases, settings.node.name), "renew leases")
        scheduler.every(lease_turn_s, queue.expire_leases, "expire leases")
        scheduler.every(_WATERMARK_S, partial(_watch_space, spool), "watch the disk")
        scheduler.every(_HOUSEKEEPING_S, partial(_clear_up, settings, queue), "clear up")
        if settings.inference.tickets:
            scheduler.every(_FILL_S, inference.fill_pool, "fill the pool of tickets")
        scheduler.start()
        _LOG.info("working")
        stop.wait()
        worker.stop()
        scheduler.stop()
        inference.close()


def _watch_space(spool: Spool) -> None:
    """Says when the disk is below the watermark: from there on objects are refused."""
    if not spool.has_room():
        _LOG.error("low space: associations are rejected and nothing is stored")


def _clear_up(settings: Settings, queue: Queue) -> None:
    """Forgets old studies and removes files that nobody needs."""
    if settings.node.retention_days:
        purged = queue.purge(older_than_s=settings.node.retention_days * _DAY_S)
        orphans = remove_orphans(settings.node.spool, queue.known_files(), older_than_s=_ORPHAN_AGE_S)
        _LOG.info("cleared up", extra={"studies": purged, "files": orphans})


def _run(settings: Settings, name: str, serve: Callable[[Settings, threading.Event], None]) -> None:
    """What both processes do around their work."""
    configure_logging(form=settings.node.log_format, level=settings.node.log_level)
    os.umask(0o077)
    # A core dump would hold images and keys.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    # An interrupt at the terminal goes to all processes; the supervisor passes it on in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    try:
        serve(settings, stop)
    except ConfigError as error:
        _LOG.error("%s can't start", name, extra={"code": error.code, "reason": str(error)})
        sys.exit(EXIT_CONFIG)
    except NodeError as error:
        _LOG.error("%s ended", name, extra={"code": error.code, "reason": str(error)})
        sys.exit(1)
    except OSError as error:
        _LOG.error("%s ended", name, extra={"code": "node", "reason": error.strerror})
        sys.exit(1)
    _LOG.info("%s ended", name)


def _end_with(parent: multiprocessing.process.BaseProcess) -> None:
    parent.join()
    # Nothing is lost by ending at any moment, and another supervisor may be waiting for this one's locks.
    os._exit(1)
