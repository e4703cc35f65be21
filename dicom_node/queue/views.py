"""Reads the queue's tables into types, for workers and for people."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, func, select

from dicom_node.errors import StudyNotFound
from dicom_node.queue.records import DeliveryView, HistoryEntry, InstanceView, Outcome, Priority, StudyView
from dicom_node.queue.states import CLAIMABLE, State
from dicom_node.queue.tables import deliveries, history, instances, outcomes, studies


def outcome_of(connection: Connection, study_id: int) -> Outcome | None:
    """What a study works on; None before its image was chosen."""
    query = (
        select(outcomes, instances.c.path, instances.c.digest)
        .join(studies, studies.c.outcome_id == outcomes.c.id)
        .join(instances, instances.c.id == outcomes.c.instance_id)
        .where(studies.c.id == study_id)
    )
    row = connection.execute(query).first()
    if row is None:
        return None
    return Outcome(
        id=row.id,
        image=Path(row.path),
        image_digest=row.digest,
        bundle_digest=row.bundle_digest,
        result=row.result,
        report=None if row.report_path is None else Path(row.report_path),
        report_digest=row.report_digest,
    )


def study_list(connection: Connection, states: list[State], limit: int) -> list[StudyView]:
    """Studies without their details, the latest first."""
    count = select(func.count()).where(instances.c.study_id == studies.c.id).scalar_subquery()
    query = select(studies, count.label("objects")).order_by(studies.c.id.desc()).limit(limit)
    if states:
        query = query.where(studies.c.state.in_([state.value for state in states]))
    return [_view(row, row.objects) for row in connection.execute(query)]


def study_detail(connection: Connection, study_id: int) -> StudyView:
    """One study with its objects, result, deliveries and history. Raises StudyNotFound."""
    row = connection.execute(select(studies).where(studies.c.id == study_id)).first()
    if row is None:
        raise StudyNotFound("study", expected="a number that `queue list` shows", got=study_id)
    own = select(instances).where(instances.c.study_id == study_id).order_by(instances.c.id)
    objects = tuple(
        InstanceView(
            sop_uid=one.sop_uid,
            sop_class_uid=one.sop_class_uid,
            transfer_syntax_uid=one.transfer_syntax_uid,
            path=one.path,
            size=one.bytes,
            calling_ae=one.calling_ae,
            received_at=one.received_at,
            conflict=one.conflict,
        )
        for one in connection.execute(own)
    )
    past = select(history).where(history.c.study_id == study_id).order_by(history.c.id)
    sent = select(deliveries).where(deliveries.c.outcome_id == row.outcome_id).order_by(deliveries.c.id)
    outcome = outcome_of(connection, study_id)
    return _view(
        row,
        len(objects),
        result=outcome.result if outcome else None,
        report_path=str(outcome.report) if outcome and outcome.report else None,
        deliveries=tuple(
            DeliveryView(one.destination, one.status, one.delivered_at) for one in connection.execute(sent)
        ),
        instances=objects,
        history=tuple(
            HistoryEntry(one.at, one.event, one.state, one.detail) for one in connection.execute(past)
        ),
    )


def _view(row: Row[Any], objects: int, **details: Any) -> StudyView:
    state = State(row.state)
    next_at = row.next_attempt_at if state in CLAIMABLE and row.lease_owner is None else None
    if state is State.RECEIVING:
        next_at = row.complete_at
    return StudyView(
        id=row.id,
        study_uid=row.study_uid,
        state=state,
        stat=row.priority == Priority.STAT,
        created_at=row.created_at,
        changed_at=row.changed_at,
        objects=objects,
        conflicts=row.conflicts,
        attempts=row.attempts,
        crashes=row.crashes,
        next_attempt_at=next_at,
        leased=row.lease_owner is not None,
        reason_code=row.reason_code,
        reason=row.reason,
        **details,
    )
