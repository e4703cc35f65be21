"""The state table, row by row: as a table, and as the database carries it out."""

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update

from dicom_node.config import QueueSettings
from dicom_node.errors import IllegalEvent
from dicom_node.queue import CLAIMABLE, ENDED, TRANSITIONS, Effect, Event, Queue, State, transition
from dicom_node.queue.moves import Details, Lease, Reason, move, study_row
from dicom_node.queue.states import Transition
from dicom_node.queue.store import open_engine, writing
from dicom_node.queue.tables import deliveries, history, instances, outcomes, studies

NOW = 5_000.0
SETTINGS = QueueSettings(quiet_period_s=30.0, complete_after_s=100.0)

#: The whole table again, written down independently: state -> event -> next state.
EXPECTED = {
    "receiving": "object-stored>receiving completed>ready retried>ready cancelled>cancelled",
    "ready": "object-stored>receiving claimed>selecting retried>ready cancelled>cancelled",
    "selecting": (
        "selected>inferring result-found>reporting report-found>delivering unchanged>delivered "
        "not-for-model>skipped"
    ),
    "inferring": "inferred>reporting model-changed>selecting",
    "reporting": "reported>delivering model-changed>selecting",
    "delivering": "delivered>delivered",
    "delivered": "object-stored>receiving retried>delivering",
    "skipped": "object-stored>receiving retried>ready cancelled>cancelled",
    "held": "object-stored>receiving retried>ready cancelled>cancelled",
    "failed": "object-stored>receiving retried>ready cancelled>cancelled",
    "cancelled": "object-stored>cancelled retried>ready",
}
WHILE_WORKING = (
    "object-stored>{0} claimed>{0} attempt-failed>{0} refused>held gave-up>failed released>{0} "
    "lease-expired>{0} retried>{0} cancelled>cancelled"
)


def expected_table() -> dict[tuple[str, str], str]:
    table = {}
    for state, row in EXPECTED.items():
        shared = WHILE_WORKING.format(state) if state in WORKING else ""
        for entry in f"{row} {shared}".split():
            event, following = entry.split(">")
            table[state, event] = following
    return table


WORKING = ("selecting", "inferring", "reporting", "delivering")


def test_table_is_what_was_agreed() -> None:
    assert {(row.state.value, row.event.value): row.next.value for row in TRANSITIONS} == expected_table()
    assert len(TRANSITIONS) == len(expected_table())


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_pair_is_a_row_or_refused(state: State, event: Event) -> None:
    following = expected_table().get((state.value, event.value))
    if following is None:
        with pytest.raises(IllegalEvent, match=f"event in state '{state.value}'") as caught:
            transition(state, event)
        assert caught.value.code == "queue.event"
        assert caught.value.got == event.value
    else:
        assert transition(state, event).next.value == following


def test_every_state_event_and_effect_is_used() -> None:
    assert {row.state for row in TRANSITIONS} == set(State)
    assert {row.event for row in TRANSITIONS} == set(Event)
    assert {row.effect for row in TRANSITIONS} == set(Effect)


def test_every_state_can_be_reached_from_receiving() -> None:
    reached = {State.RECEIVING}
    while True:
        more = {row.next for row in TRANSITIONS if row.state in reached} - reached
        if not more:
            break
        reached |= more
    assert reached == set(State)


def test_delivered_can_be_reached_from_every_state() -> None:
    for start in State:
        reached = {start}
        while more := {row.next for row in TRANSITIONS if row.state in reached} - reached:
            reached |= more
        assert State.DELIVERED in reached, start


def test_work_is_claimed_before_it_is_done_and_ended_states_are_not_claimed() -> None:
    assert {State.READY, *(State(one) for one in WORKING)} == CLAIMABLE
    assert not ENDED & CLAIMABLE
    assert State.RECEIVING not in ENDED | CLAIMABLE


@pytest.mark.parametrize("row", TRANSITIONS, ids=lambda row: f"{row.state}-{row.event}")
def test_row_changes_the_database_as_its_effect_says(row: Transition, tmp_path: Path) -> None:
    engine = open_engine(tmp_path / "queue.sqlite")
    before = {
        "study_uid": "1.2",
        "state": row.state.value,
        "priority": 1,
        "created_at": 1.0,
        "changed_at": 1.0,
        "complete_at": 2.0,
        "force_at": 4_999_999.0,
        "attempts": 4,
        "crashes": 2,
        "first_failed_at": 3.0,
        "next_attempt_at": 6_000.0,
        "lease_owner": "worker",
        "lease_token": "old",
        "lease_until": 7_000.0,
        "reason_code": "old",
        "reason": "old reason",
        "late": False,
    }
    with writing(engine) as connection:
        connection.execute(insert(studies).values(id=1, **before))
        connection.execute(
            insert(instances).values(
                id=1, study_id=1, sop_uid="1", sop_class_uid="1", transfer_syntax_uid="1", digest="d",
                path="p", bytes=1, calling_ae="A", received_at=1.0,
            )
        )  # fmt: skip
        connection.execute(insert(outcomes).values(id=1, study_id=1, instance_id=1, bundle_digest="b"))
        connection.execute(update(studies).values(outcome_id=1))
        connection.execute(insert(deliveries).values(outcome_id=1, destination="pacs", delivered_at=9.0))
        details = Details(
            reason=Reason("new", "new reason"), lease=Lease("other", "new", 8_000.0), pause_s=10.0
        )
        state = move(
            connection, study_row(connection, 1), row.event, now=NOW, settings=SETTINGS, details=details
        )
        after = study_row(connection, 1)
        delivered_at = connection.scalar(select(deliveries.c.delivered_at))
        log = connection.execute(select(history)).one()
    engine.dispose()
    assert state is row.next
    assert after.state == row.next.value
    assert (log.event, log.state, log.at, log.detail) == (
        row.event.value,
        row.next.value,
        NOW,
        "new: new reason",
    )
    free = {"lease_owner": None, "lease_token": None, "lease_until": None}
    fresh = {"attempts": 0, "crashes": 0, "first_failed_at": None}
    clean = {"reason_code": None, "reason": None}
    reason = {"reason_code": "new", "reason": "new reason"}
    lease = {"lease_owner": "other", "lease_token": "new", "lease_until": 8_000.0}
    opening = row.state is not State.RECEIVING
    wanted: dict[Effect, dict[str, object]] = {
        Effect.NOTHING: {},
        Effect.AWAIT_MORE: {
            **free, **fresh, **clean,
            "complete_at": NOW + 30.0, "force_at": NOW + 100.0 if opening else 4_999_999.0,
        },
        Effect.NOTE_LATE: {"late": True},
        Effect.OFFER: {**free, **fresh, **clean, "next_attempt_at": NOW},
        Effect.SEND_AGAIN: {**free, **fresh, **clean, "next_attempt_at": NOW},
        Effect.HURRY: {"next_attempt_at": NOW},
        Effect.LEASE: lease,
        Effect.ADVANCE: {**lease, **fresh, **clean, "next_attempt_at": NOW},
        Effect.BACK_OFF: {**free, **reason, "attempts": 5, "next_attempt_at": NOW + 10.0},
        Effect.RELEASE: {**free, "next_attempt_at": NOW},
        Effect.COUNT_CRASH: {**free, **reason, "crashes": 3, "next_attempt_at": NOW},
        Effect.CLOSE: {**free, **reason},
    }  # fmt: skip
    changed = {**wanted[row.effect], "state": row.next.value, "changed_at": NOW}
    assert {key: getattr(after, key) for key in before} == {**before, **changed}
    assert (delivered_at is None) == (row.effect is Effect.SEND_AGAIN)


def closing_rows() -> list[Transition]:
    return [row for row in TRANSITIONS if row.effect is Effect.CLOSE and row.state.value in WORKING]


@pytest.mark.parametrize("row", closing_rows(), ids=lambda row: f"{row.state}-{row.event}")
def test_study_with_late_objects_reopens_when_work_ends_unless_cancelled(
    row: Transition, queue: Queue, new_object: Callable[..., object], tmp_path: Path
) -> None:
    queue.add_object(new_object())  # type: ignore[arg-type]
    engine = open_engine(tmp_path / "queue.sqlite")
    with writing(engine) as connection:
        connection.execute(update(studies).values(state=row.state.value, late=True))
        state = move(connection, study_row(connection, 1), row.event, now=NOW, settings=SETTINGS)
    engine.dispose()
    assert state is (State.CANCELLED if row.next is State.CANCELLED else State.RECEIVING)
