"""Applies one row of the state table to one study, inside of a transaction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from dicom_node.config import QueueSettings
from dicom_node.errors import StudyNotFound
from dicom_node.queue.states import Effect, Event, State, transition
from dicom_node.queue.tables import deliveries, history, studies

_NO_LEASE: Mapping[str, Any] = {"lease_owner": None, "lease_token": None, "lease_until": None}
_NEW_STEP: Mapping[str, Any] = {"attempts": 0, "crashes": 0, "first_failed_at": None}
_NO_REASON: Mapping[str, Any] = {"reason_code": None, "reason": None}

_LONGEST_REASON = 1000


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a study did not move on: a stable code and a sentence without patient data."""

    code: str
    text: str

    def columns(self) -> dict[str, str]:
        """The study's columns."""
        return {"reason_code": self.code[:64], "reason": self.text[:_LONGEST_REASON]}


@dataclass(frozen=True, slots=True)
class Lease:
    """Who takes a study, under which token, until when."""

    owner: str
    token: str
    until: float


@dataclass(frozen=True, slots=True)
class Details:
    """What an event brings along; each effect takes what it needs.

    Attributes
    ----------
    reason : Reason or None
        For BACK_OFF, CLOSE and COUNT_CRASH.
    lease : Lease or None
        For LEASE and ADVANCE.
    pause_s : float
        For BACK_OFF.
    quiet_period_s : float or None
        For AWAIT_MORE; None is the queue's own.
    outcome_id : int or None
        Which outcome the study now works on; None leaves it as it is.
    """

    reason: Reason | None = None
    lease: Lease | None = None
    pause_s: float = 0.0
    quiet_period_s: float | None = None
    outcome_id: int | None = None


def study_row(connection: Connection, study_id: int) -> Row[Any]:
    """The study's row, locked until the transaction ends.

    Raises
    ------
    StudyNotFound
        There is none.
    """
    row = connection.execute(select(studies).where(studies.c.id == study_id).with_for_update()).first()
    if row is None:
        raise StudyNotFound("study", expected="a number that `queue list` shows", got=study_id)
    return row


def move(
    connection: Connection,
    study: Row[Any],
    event: Event,
    *,
    now: float,
    settings: QueueSettings,
    details: Details | None = None,
) -> State:
    """Does what the table says for the study's state and the event.

    Returns
    -------
    State
        The study's new state.

    Raises
    ------
    IllegalEvent
        The table has no row for it.
    """
    details = details or Details()
    row = transition(State(study.state), event)
    changes = _changes(study, row.effect, now, settings, details)
    if details.outcome_id is not None:
        changes["outcome_id"] = details.outcome_id
    changes |= {"state": row.next.value, "changed_at": now}
    connection.execute(update(studies).where(studies.c.id == study.id).values(changes))
    if row.effect is Effect.SEND_AGAIN:
        sent = deliveries.c.outcome_id == study.outcome_id
        connection.execute(update(deliveries).where(sent).values(delivered_at=None))
    note = f"{details.reason.code}: {details.reason.text}"[:_LONGEST_REASON] if details.reason else None
    connection.execute(
        insert(history).values(
            study_id=study.id, at=now, event=event.value, state=row.next.value, detail=note
        )
    )
    if row.effect is Effect.CLOSE and study.late:
        closed = study_row(connection, study.id)
        late = Details(quiet_period_s=details.quiet_period_s)
        return move(connection, closed, Event.OBJECT_STORED, now=now, settings=settings, details=late)
    return row.next


def _changes(
    study: Row[Any], effect: Effect, now: float, settings: QueueSettings, details: Details
) -> dict[str, Any]:
    """The columns that an effect changes."""
    reason = details.reason.columns() if details.reason else {}
    lease: dict[str, Any] = {}
    if details.lease:
        lease = {
            "lease_owner": details.lease.owner,
            "lease_token": details.lease.token,
            "lease_until": details.lease.until,
        }
    match effect:
        case Effect.NOTHING:
            return {}
        case Effect.AWAIT_MORE:
            opening = State(study.state) is not State.RECEIVING
            force_at = now + settings.complete_after_s if opening else study.force_at
            quiet = settings.quiet_period_s if details.quiet_period_s is None else details.quiet_period_s
            times = {"force_at": force_at, "complete_at": min(now + quiet, force_at), "late": False}
            return {**_NO_LEASE, **_NEW_STEP, **_NO_REASON, **times}
        case Effect.NOTE_LATE:
            return {"late": True}
        case Effect.OFFER | Effect.SEND_AGAIN:
            return {**_NO_LEASE, **_NEW_STEP, **_NO_REASON, "next_attempt_at": now}
        case Effect.HURRY:
            return {"next_attempt_at": now}
        case Effect.LEASE:
            return lease
        case Effect.ADVANCE:
            return {**_NEW_STEP, **_NO_REASON, "next_attempt_at": now, **lease}
        case Effect.BACK_OFF:
            first = now if study.first_failed_at is None else study.first_failed_at
            tries = {"attempts": study.attempts + 1, "first_failed_at": first}
            return {**_NO_LEASE, **tries, "next_attempt_at": now + details.pause_s, **reason}
        case Effect.RELEASE:
            return {**_NO_LEASE, "next_attempt_at": now}
        case Effect.COUNT_CRASH:
            return {**_NO_LEASE, "crashes": study.crashes + 1, "next_attempt_at": now, **reason}
        case Effect.CLOSE:
            return {**_NO_LEASE, **_NO_REASON, **reason, "late": False}
