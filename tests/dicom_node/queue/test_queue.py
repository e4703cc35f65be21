"""The queue's behaviour, one promise a test."""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import QueueSettings
from dicom_node.errors import IllegalEvent, LeaseLost, NodeError, QueueError, QueueVersion, StudyNotFound
from dicom_node.queue import Arrival, Claim, ObjectRecord, Queue, Reason, State

NewObject = Callable[..., ObjectRecord]
PACS = ["pacs"]


def ready(queue: Queue, clock: Any, record: ObjectRecord) -> int:
    study = queue.add_object(record).study
    clock.now += 31
    assert queue.complete_studies() >= 1
    return study


def claimed(queue: Queue) -> Claim:
    claim = queue.claim("worker")
    assert claim is not None
    return claim


def delivering(queue: Queue) -> Claim:
    claim = claimed(queue)
    claim = queue.image_selected(claim, queue.images(claim)[0], "bundle", PACS)
    claim = queue.result_ready(claim, "{}")
    return queue.report_ready(claim, Path("reports/1.dcm"), "digest")


def delivered(queue: Queue) -> Claim:
    claim = delivering(queue)
    queue.record_delivery(claim, "pacs", "0x0000", delivered=True)
    queue.finish(claim)
    return claim


def test_object_opens_a_study_and_waits_for_the_quiet_period(queue, clock, new_object) -> None:
    receipt = queue.add_object(new_object())
    assert receipt.arrival is Arrival.NEW
    clock.now += 29
    assert queue.complete_studies() == 0
    assert queue.claim("worker") is None
    clock.now += 2
    assert queue.complete_studies() == 1
    assert queue.study(receipt.study).state is State.READY


def test_second_object_restarts_the_quiet_period(queue, clock, new_object) -> None:
    queue.add_object(new_object(instance="1"))
    clock.now += 29
    queue.add_object(new_object(instance="2"))
    clock.now += 29
    assert queue.complete_studies() == 0
    clock.now += 2
    assert queue.complete_studies() == 1


def test_study_that_never_ends_is_completed_by_force(queue, clock, new_object) -> None:
    for instance in range(10):
        queue.add_object(new_object(instance=str(instance)))
        clock.now += 10
    assert queue.complete_studies() == 1


def test_senders_own_quiet_period_is_kept(queue, clock, new_object) -> None:
    queue.add_object(new_object(quiet_period_s=5.0))
    clock.now += 6
    assert queue.complete_studies() == 1


def test_same_object_again_is_ignored(queue, clock, new_object) -> None:
    first = queue.add_object(new_object())
    again = queue.add_object(new_object())
    assert again.study == first.study
    assert again.arrival is Arrival.SAME
    assert queue.study(first.study).objects == 1


def test_same_object_after_delivery_does_not_reopen(queue, clock, new_object) -> None:
    study = ready(queue, clock, new_object())
    delivered(queue)
    assert queue.add_object(new_object()).arrival is Arrival.SAME
    assert queue.study(study).state is State.DELIVERED


def test_other_content_under_the_same_uid_is_kept_apart_and_flagged(queue, clock, new_object) -> None:
    study = queue.add_object(new_object(content="a")).study
    receipt = queue.add_object(new_object(content="b"))
    assert receipt.arrival is Arrival.CONFLICT
    assert receipt.study == study
    clock.now += 31
    queue.complete_studies()
    assert queue.images(claimed(queue)) == [Path(new_object(content="a").path)]
    view = queue.study(study)
    assert view.conflicts == 1
    assert [one.conflict for one in view.instances] == [False, True]


def test_conflicting_object_of_another_study_is_not_used_there(queue, clock, new_object) -> None:
    queue.add_object(new_object(study="1", instance="9"))
    other = queue.add_object(new_object(study="2", instance="9"))
    assert other.arrival is Arrival.CONFLICT
    clock.now += 31
    queue.complete_studies()
    claims = [claimed(queue), claimed(queue)]
    assert [len(queue.images(claim)) for claim in claims] == [1, 0]


def test_stat_goes_before_routine_and_then_first_come_first(queue, clock, new_object) -> None:
    for number, stat in (("1", False), ("2", True), ("3", False), ("4", True)):
        queue.add_object(new_object(study=number, instance=number, stat=stat))
    clock.now += 31
    queue.complete_studies()
    order = [queue.study(claimed(queue).study).study_uid for _ in range(4)]
    assert order == ["2", "4", "1", "3"]


def test_stat_object_makes_its_study_stat(queue, clock, new_object) -> None:
    study = queue.add_object(new_object(instance="1")).study
    queue.add_object(new_object(instance="2", stat=True))
    queue.add_object(new_object(instance="3"))
    assert queue.study(study).stat


def test_whole_way_ends_delivered(queue, clock, new_object) -> None:
    study = ready(queue, clock, new_object())
    delivered(queue)
    view = queue.study(study)
    assert view.state is State.DELIVERED
    assert view.report_path == "reports/1.dcm"
    assert [(one.destination, one.status) for one in view.deliveries] == [("pacs", "0x0000")]
    assert [entry.event for entry in view.history] == [
        "object-stored", "completed", "claimed", "selected", "inferred", "reported", "delivered",
    ]  # fmt: skip
    assert queue.idle()


def test_late_object_during_work_reopens_afterwards_and_unchanged_choice_sends_nothing_more(
    queue, clock, new_object
) -> None:
    study = ready(queue, clock, new_object(instance="1"))
    claim = delivering(queue)
    queue.add_object(new_object(instance="2"))
    queue.record_delivery(claim, "pacs", "0x0000", delivered=True)
    assert queue.finish(claim) is State.RECEIVING
    clock.now += 31
    queue.complete_studies()
    claim = claimed(queue)
    assert len(queue.images(claim)) == 2
    claim = queue.image_selected(claim, queue.images(claim)[0], "bundle", PACS)
    assert claim.state is State.DELIVERED
    assert queue.study(study).state is State.DELIVERED


def test_late_object_after_delivery_reopens_and_other_choice_is_inferred(queue, clock, new_object) -> None:
    ready(queue, clock, new_object(instance="1"))
    delivered(queue)
    queue.add_object(new_object(instance="2"))
    clock.now += 31
    queue.complete_studies()
    claim = claimed(queue)
    claim = queue.image_selected(claim, queue.images(claim)[1], "bundle", PACS)
    assert claim.state is State.INFERRING
    outcome = queue.outcome(claim)
    assert outcome is not None
    assert outcome.result is None


def test_other_model_version_is_inferred_anew(queue, clock, new_object) -> None:
    study = ready(queue, clock, new_object(instance="1"))
    delivered(queue)
    queue.add_object(new_object(instance="2"))
    clock.now += 31
    queue.complete_studies()
    claim = claimed(queue)
    claim = queue.image_selected(claim, queue.images(claim)[0], "other bundle", PACS)
    assert claim.state is State.INFERRING
    assert queue.study(study).state is State.INFERRING


def test_model_changed_between_steps_chooses_again_and_finds_no_old_result(queue, clock, new_object) -> None:
    ready(queue, clock, new_object())
    claim = claimed(queue)
    image = queue.images(claim)[0]
    claim = queue.result_ready(queue.image_selected(claim, image, "old", PACS), "{}")
    claim = queue.model_changed(claim)
    assert claim.state is State.SELECTING
    assert queue.image_selected(claim, image, "new", PACS).state is State.INFERRING


def test_work_is_taken_up_where_it_was_left(queue, clock, new_object) -> None:
    ready(queue, clock, new_object())
    claim = claimed(queue)
    image = queue.images(claim)[0]
    queue.result_ready(queue.image_selected(claim, image, "bundle", PACS), '{"kept": 1}')
    assert queue.expire_leases(owner="worker") == 1
    claim = claimed(queue)
    assert claim.state is State.REPORTING
    outcome = queue.outcome(claim)
    assert outcome is not None
    assert outcome.result == '{"kept": 1}'


@pytest.mark.parametrize(("made", "state"), [("result", State.REPORTING), ("report", State.DELIVERING)])
def test_chosen_image_with_result_or_report_continues_behind_it(
    queue, clock, new_object, made, state
) -> None:
    study = ready(queue, clock, new_object())
    claim = queue.image_selected(
        claimed(queue), queue.images(Claim(study, State.SELECTING, "", ""))[0], "b", PACS
    )
    claim = queue.result_ready(claim, "{}")
    if made == "report":
        claim = queue.report_ready(claim, Path("reports/1.dcm"), "d")
    queue.hold(claim, Reason("x", "y"))
    queue.retry(study)
    claim = claimed(queue)
    assert claim.state is State.SELECTING
    assert queue.image_selected(claim, queue.images(claim)[0], "b", PACS).state is state


def test_only_one_worker_gets_a_study(queue, clock, new_object) -> None:
    for number in range(20):
        queue.add_object(new_object(study=str(number), instance=str(number)))
    clock.now += 31
    queue.complete_studies()
    taken: list[int] = []

    def take(owner: str) -> None:
        while (claim := queue.claim(owner)) is not None:
            taken.append(claim.study)

    threads = [threading.Thread(target=take, args=(f"worker {n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 21))


def test_expired_lease_goes_to_another_worker_and_the_first_one_cannot_change_anything(
    queue, clock, new_object
) -> None:
    study = ready(queue, clock, new_object())
    first = claimed(queue)
    clock.now += 61
    assert queue.expire_leases() == 1
    second = queue.claim("other")
    assert second is not None
    image = queue.images(first)[0]
    for attempt in (
        lambda: queue.image_selected(first, image, "bundle", PACS),
        lambda: queue.result_ready(first, "{}"),
        lambda: queue.report_ready(first, Path("r"), "d"),
        lambda: queue.record_delivery(first, "pacs", "ok", delivered=True),
        lambda: queue.finish(first),
        lambda: queue.hold(first, Reason("x", "y")),
        lambda: queue.skip(first, Reason("x", "y")),
        lambda: queue.try_later(first, Reason("x", "y")),
        lambda: queue.release(first),
        lambda: queue.model_changed(first),
    ):
        with pytest.raises(LeaseLost, match=f"lease of study {study}: expected this worker's"):
            attempt()
    assert queue.image_selected(second, image, "bundle", PACS).state is State.INFERRING


def test_renewed_lease_does_not_expire(queue, clock, new_object) -> None:
    ready(queue, clock, new_object())
    claimed(queue)
    clock.now += 59
    assert queue.renew_leases("worker") == 1
    clock.now += 59
    assert queue.expire_leases() == 0


def test_step_that_keeps_killing_the_worker_is_given_up(queue, clock, new_object) -> None:
    study = ready(queue, clock, new_object())
    for _ in range(3):
        assert queue.study(study).state is not State.FAILED
        claimed(queue)
        queue.expire_leases(owner="worker")
    view = queue.study(study)
    assert view.state is State.FAILED
    assert (view.reason_code, view.reason) == ("queue.crashes", "the worker ended 3 times in selecting")


def test_stop_in_good_order_counts_no_crash(queue, clock, new_object) -> None:
    study = ready(queue, clock, new_object())
    assert queue.release(claimed(queue)) is State.SELECTING
    assert queue.study(study).crashes == 0
    assert queue.claim("worker") is not None


def test_pauses_grow_to_the_longest_and_the_step_is_given_up_in_the_end(queue, clock, new_object) -> None:
    study = ready(queue, clock, new_object())
    pauses = []
    started = clock.now
    reason = Reason("inference.unreachable", "nobody there")
    while queue.study(study).state is State.SELECTING or not pauses:
        queue.try_later(claimed(queue), reason)
        view = queue.study(study)
        if view.state is State.SELECTING:
            assert view.next_attempt_at is not None
            pauses.append(view.next_attempt_at - clock.now)
            assert queue.claim("worker") is None
            clock.now = view.next_attempt_at
    assert pauses[:4] == [10.0, 20.0, 40.0, 40.0]
    assert view.state is State.FAILED
    assert view.reason_code == "inference.unreachable"
    assert clock.now - started >= 1000


def test_pause_is_spread_by_the_jitter(tmp_path, clock, new_object) -> None:
    settings = QueueSettings(quiet_period_s=0, retry_first_s=10)
    with Queue(tmp_path / "other.sqlite", settings, clock=clock, jitter=lambda: 0.0) as queue:
        study = queue.add_object(new_object()).study
        queue.complete_studies()
        queue.try_later(claimed(queue), Reason("x", "y"))
        assert queue.study(study).next_attempt_at == clock.now + 5.0


def test_next_step_starts_with_all_attempts(queue, clock, new_object) -> None:
    study = ready(queue, clock, new_object())
    queue.try_later(claimed(queue), Reason("x", "y"))
    clock.now += 100
    claim = claimed(queue)
    queue.image_selected(claim, queue.images(claim)[0], "bundle", PACS)
    view = queue.study(study)
    assert (view.attempts, view.crashes, view.reason_code) == (0, 0, None)


def test_every_destination_has_to_have_it(queue, clock, new_object) -> None:
    ready(queue, clock, new_object())
    claim = delivering(queue)
    both = ["pacs", "archive"]
    assert queue.waiting_destinations(claim, both) == both
    queue.record_delivery(claim, "pacs", "0x0000", delivered=True)
    queue.record_delivery(claim, "archive", "refused", delivered=False)
    assert queue.waiting_destinations(claim, both) == ["archive"]
    queue.record_delivery(claim, "archive", "0xB000", delivered=True)
    assert queue.waiting_destinations(claim, both) == []


def test_retry_of_a_delivered_study_sends_the_same_report_again(queue, clock, new_object) -> None:
    study = ready(queue, clock, new_object())
    delivered(queue)
    assert queue.retry(study) is State.DELIVERING
    claim = claimed(queue)
    assert queue.waiting_destinations(claim, PACS) == PACS
    outcome = queue.outcome(claim)
    assert outcome is not None
    assert outcome.report == Path("reports/1.dcm")


def test_retry_ends_the_pause(queue, clock, new_object) -> None:
    study = ready(queue, clock, new_object())
    queue.try_later(claimed(queue), Reason("x", "y"))
    assert queue.claim("worker") is None
    queue.retry(study)
    assert queue.claim("worker") is not None


def test_cancelled_study_is_taken_from_its_worker_and_late_objects_do_not_bring_it_back(
    queue, clock, new_object
) -> None:
    study = ready(queue, clock, new_object())
    claim = claimed(queue)
    assert queue.cancel(study) is State.CANCELLED
    with pytest.raises(LeaseLost):
        queue.image_selected(claim, queue.images(claim)[0], "bundle", PACS)
    queue.add_object(new_object(instance="2"))
    assert queue.study(study).state is State.CANCELLED
    assert queue.retry(study) is State.READY


def test_delivered_study_cannot_be_cancelled(queue, clock, new_object) -> None:
    study = ready(queue, clock, new_object())
    delivered(queue)
    with pytest.raises(
        IllegalEvent, match="event in state 'delivered': expected one of object-stored, retried"
    ):
        queue.cancel(study)


@pytest.mark.parametrize("call", ["retry", "cancel", "study"])
def test_unknown_study_is_refused(queue, call) -> None:
    with pytest.raises(StudyNotFound, match="study: expected a number that `queue list` shows, got 7"):
        getattr(queue, call)(7)


def test_foreign_image_is_refused(queue, clock, new_object) -> None:
    ready(queue, clock, new_object())
    with pytest.raises(NodeError, match="chosen image: expected one of the study's, got another path"):
        queue.image_selected(claimed(queue), Path("objects/else"), "bundle", PACS)


def test_list_shows_the_latest_first_and_only_the_states_asked_for(queue, clock, new_object) -> None:
    for number in ("1", "2", "3"):
        queue.add_object(new_object(study=number, instance=number))
    queue.cancel(2)
    assert [view.id for view in queue.studies()] == [3, 2, 1]
    assert [view.id for view in queue.studies(states=[State.CANCELLED])] == [2]
    assert [view.id for view in queue.studies(limit=1)] == [3]
    assert queue.counts() == {State.RECEIVING: 2, State.CANCELLED: 1}


def test_purge_forgets_old_studies_that_ended_well_and_nothing_else(queue, clock, new_object) -> None:
    ready(queue, clock, new_object(study="1", instance="1"))
    delivered(queue)
    ready(queue, clock, new_object(study="2", instance="2"))
    queue.hold(claimed(queue), Reason("x", "y"))
    clock.now += 1000
    ready(queue, clock, new_object(study="3", instance="3"))
    delivered(queue)
    assert queue.purge(older_than_s=500) == 1
    assert [view.study_uid for view in queue.studies()] == ["3", "2"]
    assert queue.known_files() == {
        new_object(study="2", instance="2").path,
        new_object(study="3", instance="3").path,
        "reports/1.dcm",
    }


def test_purged_studies_object_opens_it_anew(queue, clock, new_object) -> None:
    ready(queue, clock, new_object())
    delivered(queue)
    clock.now += 1000
    queue.purge(older_than_s=500)
    assert queue.add_object(new_object()).arrival is Arrival.NEW


def test_everything_is_there_after_reopening(tmp_path, clock, new_object) -> None:
    file = tmp_path / "kept.sqlite"
    with Queue(file, QueueSettings(), clock=clock) as queue:
        study = queue.add_object(new_object()).study
    with Queue(file, QueueSettings(), clock=clock) as queue:
        assert queue.study(study).state is State.RECEIVING


def test_database_is_in_wal_mode_and_synchronous(queue, tmp_path) -> None:
    with queue._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_database_of_another_version_is_refused(tmp_path) -> None:
    file = tmp_path / "queue.sqlite"
    Queue(file, QueueSettings()).close()
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE schema SET version = 99")
    connection.close()
    with pytest.raises(QueueVersion, match="version of the queue's database: expected 1, got 99"):
        Queue(file, QueueSettings())


def test_file_that_is_no_database_is_refused(tmp_path) -> None:
    file = tmp_path / "queue.sqlite"
    file.write_bytes(b"not a database" * 100)
    with pytest.raises(QueueError, match="queue's database: expected an SQLite file that can be written"):
        Queue(file, QueueSettings())


def test_folder_that_is_not_there_is_refused(tmp_path) -> None:
    with pytest.raises(QueueError, match="unable to open database file"):
        Queue(tmp_path / "none" / "queue.sqlite", QueueSettings())
