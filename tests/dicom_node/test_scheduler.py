"""The clock: repeats, one at a time, late rather than never."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dicom_node.scheduler import Scheduler


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    made = Scheduler()
    yield made
    made.stop()


def reached(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def test_function_is_called_at_once_and_again(scheduler: Scheduler) -> None:
    calls: list[int] = []
    scheduler.every(0.02, lambda: calls.append(1), "count")
    scheduler.start()
    assert reached(lambda: len(calls) >= 3)


def test_function_that_fails_is_called_again_and_others_too(scheduler: Scheduler) -> None:
    calls: list[str] = []

    def fails() -> None:
        calls.append("fails")
        raise RuntimeError("of the test")

    scheduler.every(0.02, fails, "fails")
    scheduler.every(0.02, lambda: calls.append("works"), "works")
    scheduler.start()
    assert reached(lambda: calls.count("fails") >= 2 and calls.count("works") >= 2)


def test_function_that_takes_long_never_runs_twice_at_once_and_does_not_hold_others_up(
    scheduler: Scheduler,
) -> None:
    running: list[int] = []
    overlap = threading.Event()
    go = threading.Event()
    others: list[int] = []

    def slow() -> None:
        running.append(1)
        if len(running) > 1:
            overlap.set()
        go.wait(20)
        running.pop()

    scheduler.every(0.02, slow, "slow")
    scheduler.every(0.02, lambda: others.append(1), "other")
    scheduler.start()
    assert reached(lambda: len(others) >= 5)
    assert running == [1]
    go.set()
    assert not overlap.is_set()


def test_function_that_came_late_is_still_called(scheduler: Scheduler) -> None:
    """APScheduler's own default drops what is a second late."""
    calls: list[int] = []
    scheduler.every(3600, lambda: calls.append(1), "late")
    time.sleep(1.5)
    scheduler.start()
    assert reached(lambda: calls == [1])


def test_stop_waits_for_what_runs() -> None:
    scheduler = Scheduler()
    started, done = threading.Event(), threading.Event()

    def work() -> None:
        started.set()
        time.sleep(0.2)
        done.set()

    scheduler.every(3600, work, "work")
    scheduler.start()
    assert started.wait(20)
    scheduler.stop()
    assert done.is_set()
