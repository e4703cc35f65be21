"""The gateway's clock: APScheduler calls short functions again and again; the work itself is in the queue.

NOTE: never one job per study. APScheduler drops a job that waits longer than its grace time, and takes
one-shot jobs out of its store when they start, so a crash would lose them.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.schedulers.background import BackgroundScheduler

_LOG = logging.getLogger(__name__)


class Scheduler:
    """Calls functions at intervals, each in turn with itself, never dropped however late."""

    def __init__(self) -> None:
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={"default": ThreadPoolExecutor(8)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    def every(self, seconds: float, function: Callable[[], object], name: str) -> None:
        """Calls a function now and then every so many seconds; a call that takes longer delays the next.

        Parameters
        ----------
        seconds : float
            From the beginning of a call to the next one's.
        function : callable
            Its errors are logged, and end neither the job nor the scheduler.
        name : str
            For the log.
        """
        self._scheduler.add_job(
            function, "interval", seconds=seconds, id=name, name=name, next_run_time=datetime.now(UTC)
        )

    def start(self) -> None:
        """Begins, in threads of its own."""
        self._scheduler.start()

    def stop(self) -> None:
        """Starts nothing more and waits for what runs."""
        self._scheduler.shutdown(wait=True)
