"""What goes into the queue and what comes out of it, as types without a database."""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from dicom_node.queue.states import State


class Priority:
    """Who goes first: smaller numbers."""

    STAT = 0
    ROUTINE = 1


class Arrival(StrEnum):
    """What an object was to the queue."""

    NEW = "new"
    SAME = "same"
    """The very same object was here already: acknowledged and ignored."""
    CONFLICT = "conflict"
    """Another object with the same SOP Instance UID was here already: kept apart and flagged."""


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """An object that lies in the spool.

    Attributes
    ----------
    path : str
        Relative to the spool.
    digest : str
        SHA-256 (hex) of what came.
    size : int
        Bytes of the file.
    quiet_period_s : float or None
        The sender's own quiet period; None is the queue's.
    """

    study_uid: str = field(repr=False)
    sop_uid: str = field(repr=False)
    sop_class_uid: str
    transfer_syntax_uid: str
    digest: str
    path: str
    size: int
    calling_ae: str
    priority: int = Priority.ROUTINE
    quiet_period_s: float | None = None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an object.

    Attributes
    ----------
    study : int
        The study's internal number, the only thing about it that logs may contain.
    """

    study: int
    arrival: Arrival


@dataclass(frozen=True, slots=True)
class Claim:
    """A study that belongs to a worker for a while.

    Attributes
    ----------
    token : str
        Proves it: a claim whose lease has been given to somebody else can't change the study any more.
    """

    study: int
    state: State
    owner: str = field(repr=False)
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is known about one image under one version of the model.

    Attributes
    ----------
    image : Path
        Relative to the spool, as `report`.
    result : str or None
        `InferenceResult.to_json`, once it is there.
    report : Path or None
        The stored report, once it is there.
    """

    id: int
    image: Path
    image_digest: str
    bundle_digest: str
    result: str | None = field(repr=False)
    report: Path | None
    report_digest: str | None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One thing that happened to a study."""

    at: float
    event: str
    state: str
    detail: str | None


@dataclass(frozen=True, slots=True)
class InstanceView:
    """One of a study's objects, for people."""

    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    path: str
    size: int
    calling_ae: str
    received_at: float
    conflict: bool


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """What a destination said, for people."""

    destination: str
    status: str | None
    delivered_at: float | None


@dataclass(frozen=True, slots=True)
class StudyView:
    """A study, for people.

    Attributes
    ----------
    next_attempt_at : float or None
        When a waiting study is tried again; None when it doesn't wait.
    report_path : str or None
        Relative to the spool.
    """

    id: int
    study_uid: str = field(repr=False)
    state: State
    stat: bool
    created_at: float
    changed_at: float
    objects: int
    conflicts: int
    attempts: int
    crashes: int
    next_attempt_at: float | None
    leased: bool
    reason_code: str | None
    reason: str | None
    result: str | None = field(default=None, repr=False)
    report_path: str | None = None
    deliveries: tuple[DeliveryView, ...] = ()
    instances: tuple[InstanceView, ...] = ()
    history: tuple[HistoryEntry, ...] = ()
