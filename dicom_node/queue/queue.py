"""The queue of studies: every change is one transaction that is on the disk when the method returns."""

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from random import SystemRandom
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from dicom_node.config import QueueSettings
from dicom_node.errors import LeaseLost, NodeError
from dicom_node.queue import views
from dicom_node.queue.moves import Details, Lease, Reason, move, study_row
from dicom_node.queue.records import (
    Arrival,
    Claim,
    ObjectRecord,
    Outcome,
    Receipt,
    StudyView,
)
from dicom_node.queue.states import CLAIMABLE, Event, State
from dicom_node.queue.store import open_engine, reading, writing
from dicom_node.queue.tables import deliveries, history, instances, outcomes, studies

_JITTER = SystemRandom()


class Queue:
    """Studies, their objects, results, reports and deliveries.

    Threads and processes may use one database at the same time; a `Queue` may be shared between threads.

    Parameters
    ----------
    file : Path
        The SQLite file; made when it is not there.
    settings : QueueSettings
        Times and limits.
    clock : callable, optional
        Seconds since 1970.
    jitter : callable, optional
        A number from 0 to 1, spread evenly.
    """

    def __init__(
        self,
        file: Path,
        settings: QueueSettings,
        *,
        clock: Callable[[], float] = time.time,
        jitter: Callable[[], float] = _JITTER.random,
    ) -> None:
        self._engine = open_engine(file)
        self._settings = settings
        self._clock = clock
        self._jitter = jitter

    def close(self) -> None:
        """Closes the database."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # what arrives

    def add_object(self, record: ObjectRecord) -> Receipt:
        """Files an object that lies in the spool under its study.

        Raises
        ------
        SpoolFull
            The disk has no room; nothing happened.
        """
        now = self._clock()
        with writing(self._engine) as connection:
            known = connection.execute(select(instances).where(instances.c.sop_uid == record.sop_uid)).all()
            same = next((row for row in known if row.digest == record.digest), None)
            if same is not None:
                return Receipt(same.study_id, Arrival.SAME)
            study = self._study_for(connection, record, now)
            connection.execute(
                insert(instances).values(
                    study_id=study.id,
                    sop_uid=record.sop_uid,
                    sop_class_uid=record.sop_class_uid,
                    transfer_syntax_uid=record.transfer_syntax_uid,
                    digest=record.digest,
                    path=record.path,
                    bytes=record.size,
                    calling_ae=record.calling_ae,
                    received_at=now,
                    conflict=bool(known),
                )
            )
            if known:
                flagged = update(studies).where(studies.c.id == study.id)
                connection.execute(flagged.values(conflicts=studies.c.conflicts + 1))
                return Receipt(study.id, Arrival.CONFLICT)
            details = Details(quiet_period_s=record.quiet_period_s)
            move(connection, study, Event.OBJECT_STORED, now=now, settings=self._settings, details=details)
            return Receipt(study.id, Arrival.NEW)

    def _study_for(self, connection: Connection, record: ObjectRecord, now: float) -> Row[Any]:
        by_uid = select(studies.c.id, studies.c.priority).where(studies.c.study_uid == record.study_uid)
        found = connection.execute(by_uid).first()
        if found is None:
            quiet = record.quiet_period_s
            quiet = self._settings.quiet_period_s if quiet is None else quiet
            force_at = now + self._settings.complete_after_s
            made = connection.execute(
                insert(studies).values(
                    study_uid=record.study_uid,
                    state=State.RECEIVING.value,
                    priority=record.priority,
                    created_at=now,
                    changed_at=now,
                    complete_at=min(now + quiet, force_at),
                    force_at=force_at,
                    next_attempt_at=now,
                )
            )
            assert made.inserted_primary_key is not None
            return study_row(connection, made.inserted_primary_key[0])
        if record.priority < found.priority:
            urgent = update(studies).where(studies.c.id == found.id)
            connection.execute(urgent.values(priority=record.priority))
        return study_row(connection, found.id)

    # the clock's turns

    def complete_studies(self) -> int:
        """Offers the studies whose quiet period has ended to the workers; returns how many."""
        now = self._clock()
        due = select(studies).where(studies.c.state == State.RECEIVING.value, studies.c.complete_at <= now)
        with writing(self._engine) as connection:
            rows = connection.execute(due.with_for_update()).all()
            for row in rows:
                move(connection, row, Event.COMPLETED, now=now, settings=self._settings)
        return len(rows)

    def expire_leases(self, *, owner: str | None = None) -> int:
        """Takes studies back from workers that are gone; returns how many.

        Parameters
        ----------
        owner : str, optional
            With it, this worker is known to be gone: all of its leases. Without, those whose time is over.
        """
        now = self._clock()
        gone = studies.c.lease_until < now if owner is None else studies.c.lease_owner == owner
        with writing(self._engine) as connection:
            rows = connection.execute(select(studies).where(gone).with_for_update()).all()
            for row in rows:
                event, reason = Event.LEASE_EXPIRED, None
                if row.crashes + 1 >= self._settings.crashes_allowed:
                    event = Event.GAVE_UP
                    reason = Reason(
                        "queue.crashes", f"the worker ended {row.crashes + 1} times in {row.state}"
                    )
                move(connection, row, event, now=now, settings=self._settings, details=Details(reason=reason))
        return len(rows)

    def renew_leases(self, owner: str) -> int:
        """Lets a worker that lives keep its studies for another lease; returns how many."""
        until = self._clock() + self._settings.lease_s
        with writing(self._engine) as connection:
            renewed = update(studies).where(studies.c.lease_owner == owner).values(lease_until=until)
            return connection.execute(renewed).rowcount

    def purge(self, *, older_than_s: float) -> int:
        """Forgets studies that ended well, long ago; returns how many. Their files are orphans then."""
        limit = self._clock() - older_than_s
        ended = [State.DELIVERED.value, State.SKIPPED.value, State.CANCELLED.value]
        old = select(studies.c.id).where(studies.c.state.in_(ended), studies.c.changed_at < limit)
        with writing(self._engine) as connection:
            ids = list(connection.scalars(old))
            made = select(outcomes.c.id).where(outcomes.c.study_id.in_(ids))
            connection.execute(delete(deliveries).where(deliveries.c.outcome_id.in_(made)))
            for table in (outcomes, history, instances):
                connection.execute(delete(table).where(table.c.study_id.in_(ids)))
            connection.execute(delete(studies).where(studies.c.id.in_(ids)))
        return len(ids)

    def known_files(self) -> frozenset[str]:
        """Every path in the spool that a study needs."""
        with reading(self._engine) as connection:
            reports = select(outcomes.c.report_path).where(outcomes.c.report_path.is_not(None))
            return frozenset([*connection.scalars(select(instances.c.path)), *connection.scalars(reports)])

    # a worker's turn

    def claim(self, owner: str) -> Claim | None:
        """Gives the most urgent study that waits to a worker; None when there is none."""
        now = self._clock()
        waiting = (
            select(studies)
            .where(
                studies.c.state.in_(sorted(state.value for state in CLAIMABLE)),
                studies.c.lease_owner.is_(None),
                studies.c.next_attempt_at <= now,
            )
            .order_by(studies.c.priority, studies.c.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        with writing(self._engine) as connection:
            row = connection.execute(waiting).first()
            if row is None:
                return None
            lease = Lease(owner, secrets.token_hex(16), now + self._settings.lease_s)
            details = Details(lease=lease)
            state = move(connection, row, Event.CLAIMED, now=now, settings=self._settings, details=details)
        return Claim(row.id, state, owner, lease.token)

    def images(self, claim: Claim) -> list[Path]:
        """The study's objects, first come first; those in conflict with an earlier one are left out."""
        own = select(instances.c.path).where(instances.c.study_id == claim.study, ~instances.c.conflict)
        with reading(self._engine) as connection:
            return [Path(path) for path in connection.scalars(own.order_by(instances.c.id))]

    def outcome(self, claim: Claim) -> Outcome | None:
        """What the study works on since its image was chosen."""
        with reading(self._engine) as connection:
            return views.outcome_of(connection, claim.study)

    def image_selected(
        self,
        claim: Claim,
        image: Path,
        bundle_digest: str,
        destinations: Sequence[str],
        intact: Callable[[Path, str], bool] = lambda _path, _digest: True,
    ) -> Claim:
        """The image is chosen; goes on with whatever is not there yet of result, report and deliveries.

        Parameters
        ----------
        image : Path
            One of `images`.
        bundle_digest : str
            Which version of the model will look at it.
        destinations : sequence of str
            Where the report has to go.
        intact : callable, optional
            Whether the report at a path, from the spool, still has a digest; one that hasn't is made again.
        """
        now = self._clock()
        with writing(self._engine) as connection:
            study = self._leased(connection, claim)
            mine = (instances.c.study_id == claim.study) & (instances.c.path == image.as_posix())
            instance_id = connection.scalar(select(instances.c.id).where(mine))
            row = _outcome_row(connection, claim.study, instance_id, bundle_digest)
            event = Event.SELECTED if row.result is None else Event.RESULT_FOUND
            if row.report_path is not None:
                if not _waiting_destinations(connection, row.id, destinations):
                    event = Event.UNCHANGED
                elif intact(Path(row.report_path), row.report_digest):
                    event = Event.REPORT_FOUND
            return self._advance(connection, study, claim, event, now, outcome_id=row.id)

    def result_ready(self, claim: Claim, result: str) -> Claim:
        """The inference gave a result; it is kept from here on."""
        with writing(self._engine) as connection:
            study = self._leased(connection, claim)
            connection.execute(
                update(outcomes).where(outcomes.c.id == study.outcome_id).values(result=result)
            )
            return self._advance(connection, study, claim, Event.INFERRED, self._clock())

    def report_ready(self, claim: Claim, report: Path, digest: str) -> Claim:
        """The report lies in the spool, and on the disk; it is what will be sent from here on."""
        with writing(self._engine) as connection:
            study = self._leased(connection, claim)
            values = {"report_path": report.as_posix(), "report_digest": digest}
            connection.execute(update(outcomes).where(outcomes.c.id == study.outcome_id).values(values))
            return self._advance(connection, study, claim, Event.REPORTED, self._clock())

    def model_changed(self, claim: Claim) -> Claim:
        """The bundle is not the one that the image was chosen for: chooses again."""
        with writing(self._engine) as connection:
            study = self._leased(connection, claim)
            return self._advance(connection, study, claim, Event.MODEL_CHANGED, self._clock())

    def waiting_destinations(self, claim: Claim, destinations: Sequence[str]) -> list[str]:
        """Those of the destinations that have not said yet that they have the report."""
        with reading(self._engine) as connection:
            outcome_id = select(studies.c.outcome_id).where(studies.c.id == claim.study)
            return _waiting_destinations(connection, connection.scalar(outcome_id), destinations)

    def record_delivery(self, claim: Claim, destination: str, status: str, *, delivered: bool) -> None:
        """Keeps what one destination said."""
        now = self._clock()
        values = {"status": status[:255], "delivered_at": now if delivered else None}
        with writing(self._engine) as connection:
            study = self._leased(connection, claim)
            key = {"outcome_id": study.outcome_id, "destination": destination}
            mine = (deliveries.c.outcome_id == study.outcome_id) & (deliveries.c.destination == destination)
            if connection.execute(update(deliveries).where(mine).values(values)).rowcount == 0:
                connection.execute(insert(deliveries).values(**key, **values))

    def finish(self, claim: Claim) -> State:
        """Every destination has the report."""
        return self._end(claim, Event.DELIVERED, None)

    def skip(self, claim: Claim, reason: Reason) -> State:
        """The model is for none of the study's images."""
        return self._end(claim, Event.NOT_FOR_MODEL, reason)

    def hold(self, claim: Claim, reason: Reason) -> State:
        """A person has to look."""
        return self._end(claim, Event.REFUSED, reason)

    def release(self, claim: Claim) -> State:
        """The worker stops in good order."""
        return self._end(claim, Event.RELEASED, None)

    def try_later(self, claim: Claim, reason: Reason) -> State:
        """Something that may pass: tries again after a pause, or gives up after the configured time."""
        now = self._clock()
        limits = self._settings
        with writing(self._engine) as connection:
            study = self._leased(connection, claim)
            first = now if study.first_failed_at is None else study.first_failed_at
            if now - first >= limits.give_up_after_s:
                return self._move(connection, study, Event.GAVE_UP, now, Details(reason=reason))
            longest = min(limits.retry_first_s * 2.0 ** min(study.attempts, 32), limits.retry_longest_s)
            pause = longest * (0.5 + 0.5 * self._jitter())
            return self._move(
                connection, study, Event.ATTEMPT_FAILED, now, Details(reason=reason, pause_s=pause)
            )

    # by hand

    def retry(self, study_id: int) -> State:
        """Tries a study again now; a delivered one is sent again. Raises StudyNotFound, IllegalEvent."""
        return self._by_hand(study_id, Event.RETRIED)

    def cancel(self, study_id: int) -> State:
        """Ends the work on a study. Raises StudyNotFound, IllegalEvent."""
        return self._by_hand(study_id, Event.CANCELLED)

    # for people

    def studies(self, *, states: Iterable[State] = (), limit: int = 100) -> list[StudyView]:
        """Studies, the latest first; all states when none is given."""
        with reading(self._engine) as connection:
            return views.study_list(connection, list(states), limit)

    def study(self, study_id: int) -> StudyView:
        """One study with everything that is known. Raises StudyNotFound."""
        with reading(self._engine) as connection:
            return views.study_detail(connection, study_id)

    def counts(self) -> dict[State, int]:
        """How many studies are in each state; states without any are left out."""
        query = select(studies.c.state, func.count()).group_by(studies.c.state)
        with reading(self._engine) as connection:
            return {State(state): count for state, count in connection.execute(query)}

    def idle(self) -> bool:
        """Whether nothing waits for the clock or for a worker."""
        return not {State.RECEIVING, *CLAIMABLE} & set(self.counts())

    # inside

    def _move(
        self,
        connection: Connection,
        study: Row[Any],
        event: Event,
        now: float,
        details: Details | None = None,
    ) -> State:
        return move(connection, study, event, now=now, settings=self._settings, details=details)

    def _leased(self, connection: Connection, claim: Claim) -> Row[Any]:
        row = study_row(connection, claim.study)
        if row.lease_token is None or not secrets.compare_digest(row.lease_token, claim.token):
            raise LeaseLost(
                f"lease of study {claim.study}", expected="this worker's", got="another's or none"
            )
        return row

    def _advance(
        self,
        connection: Connection,
        study: Row[Any],
        claim: Claim,
        event: Event,
        now: float,
        *,
        outcome_id: int | None = None,
    ) -> Claim:
        lease = Lease(claim.owner, claim.token, now + self._settings.lease_s)
        state = self._move(connection, study, event, now, Details(lease=lease, outcome_id=outcome_id))
        return Claim(claim.study, state, claim.owner, claim.token)

    def _end(self, claim: Claim, event: Event, reason: Reason | None) -> State:
        with writing(self._engine) as connection:
            study = self._leased(connection, claim)
            return self._move(connection, study, event, self._clock(), Details(reason=reason))

    def _by_hand(self, study_id: int, event: Event) -> State:
        with writing(self._engine) as connection:
            return self._move(connection, study_row(connection, study_id), event, self._clock())


def _outcome_row(
    connection: Connection, study_id: int, instance_id: int | None, bundle_digest: str
) -> Row[Any]:
    """The row of an image under a version of the model, made when it is not there."""
    if instance_id is None:
        raise NodeError("chosen image", expected="one of the study's", got="another path")
    key = {"instance_id": instance_id, "bundle_digest": bundle_digest}
    mine = (outcomes.c.instance_id == instance_id) & (outcomes.c.bundle_digest == bundle_digest)
    row = connection.execute(select(outcomes).where(mine)).first()
    if row is None:
        connection.execute(insert(outcomes).values(study_id=study_id, **key))
        row = connection.execute(select(outcomes).where(mine)).one()
    return row


def _waiting_destinations(
    connection: Connection, outcome_id: int | None, destinations: Sequence[str]
) -> list[str]:
    done = select(deliveries.c.destination).where(
        deliveries.c.outcome_id == outcome_id, deliveries.c.delivered_at.is_not(None)
    )
    have = set(connection.scalars(done))
    return [name for name in destinations if name not in have]
