"""A queue with a clock that only moves when told."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.config import QueueSettings
from dicom_node.queue import ObjectRecord, Priority, Queue


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


SETTINGS = QueueSettings(
    quiet_period_s=30.0,
    complete_after_s=100.0,
    lease_s=60.0,
    retry_first_s=10.0,
    retry_longest_s=40.0,
    give_up_after_s=1000.0,
    crashes_allowed=3,
)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(tmp_path: Path, clock: Clock) -> Iterator[Queue]:
    with Queue(tmp_path / "queue.sqlite", SETTINGS, clock=clock, jitter=lambda: 1.0) as made:
        yield made


@pytest.fixture
def new_object() -> Callable[..., ObjectRecord]:
    def make(
        study: str = "1.2.3",
        instance: str = "1.2.3.4",
        content: str = "a",
        *,
        stat: bool = False,
        quiet_period_s: float | None = None,
    ) -> ObjectRecord:
        digest = f"{study}/{instance}/{content}".encode().hex()[:64]
        return ObjectRecord(
            study_uid=study,
            sop_uid=instance,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
            transfer_syntax_uid="1.2.840.10008.1.2",
            digest=digest,
            path=f"objects/{digest}.dcm",
            size=100,
            calling_ae="MODALITY",
            priority=Priority.STAT if stat else Priority.ROUTINE,
            quiet_period_s=quiet_period_s,
        )

    return make
