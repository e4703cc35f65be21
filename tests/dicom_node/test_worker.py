"""The worker's way with a study, with rooms that fail as told."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dicom_node.config import DestinationSettings, QueueSettings, ReportSettings, SelectionSettings
from dicom_node.errors import NodeError, PartyRejected, PartyUnreachable, SpoolFull
from dicom_node.queue import ObjectRecord, Queue, State
from dicom_node.spool import Spool
from dicom_node.steps import DeliveryResult, FindingResult, InferenceResult, Selection
from dicom_node.worker import Worker


class Rooms:
    """All four rooms in one; each call takes its next answer from `answers`, or does well."""

    bundle_digest = "b" * 64

    def __init__(self) -> None:
        self.preprocessing: dict[str, Any] = {}
        self.model_card: dict[str, Any] = {"name": "double"}
        self.answers: dict[str, list[Any]] = {}
        self.calls: list[str] = []
        self.sent: list[tuple[str, bytes]] = []

    def _answer(self, name: str) -> Any:
        self.calls.append(name)
        waiting = self.answers.get(name) or [None]
        answer = waiting.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer() if callable(answer) else answer

    def narrow(self, rules: Any, _card: Any) -> Any:
        return rules

    def select_study(self, paths: Any, _rules: Any) -> Selection:
        return self._answer("select") or Selection(paths[0])

    def pixels(self, path: Path, _preprocessing: Any) -> Any:
        assert path.is_file()
        return self._answer("pixels") or np.zeros((2, 2), np.float32)

    def infer(self, _image: Any) -> InferenceResult:
        self._answer("infer")
        finding = FindingResult("Pneumonia", 0.7, 0.5)
        return InferenceResult(
            (finding,), (0.8,), "00" * 16, self.bundle_digest, "2026-01-02T00:00:00+00:00", 0.1
        )

    def build_report(self, image: Path, result: InferenceResult, card: Any, _settings: Any) -> bytes:
        assert card["name"] == "double"
        assert result.findings[0].present
        return self._answer("report") or b"report on " + image.name.encode()

    def send(self, path: Path, destination: DestinationSettings) -> DeliveryResult:
        self.sent.append((destination.name, path.read_bytes()))
        return self._answer(f"send {destination.name}") or DeliveryResult(True, "0x0000")


class Bench:
    """A worker with its queue, spool and rooms, and a clock that is moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.now = 1000.0
        self.rooms = Rooms()
        self.spool = Spool(folder, "work")
        limits = QueueSettings(quiet_period_s=0, retry_first_s=10, retry_longest_s=10, give_up_after_s=100)
        self.queue = Queue(folder / "queue.sqlite", limits, clock=lambda: self.now)
        self.settings: Any = SimpleNamespace(
            selection=SelectionSettings(),
            report=ReportSettings(),
            destination=tuple(
                DestinationSettings(name=name, host="localhost", ae_title="PACS")
                for name in ("pacs", "archive")
            ),
        )
        rooms: dict[str, Any] = dict.fromkeys(("intake", "inference", "reporter", "sender"), self.rooms)
        self.worker = Worker(self.settings, self.queue, self.spool, owner="worker", **rooms)

    def add(self, number: int = 1) -> int:
        path = self.spool.store(Path("objects", "aa", f"{number}.dcm"), [b"object"])
        record = ObjectRecord(
            study_uid=f"1.{number}", sop_uid=f"2.{number}", sop_class_uid="1", transfer_syntax_uid="1",
            digest=f"{number}", path=path.as_posix(), size=6, calling_ae="A",
        )  # fmt: skip
        study = self.queue.add_object(record).study
        self.queue.complete_studies()
        return study

    def work(self, seconds: float = 0.0) -> Any:
        self.now += seconds
        self.worker.work()
        return self.queue.study(1)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.queue.close()


def test_study_goes_the_whole_way(bench: Bench) -> None:
    bench.add()
    assert bench.work().state is State.DELIVERED
    assert bench.rooms.calls == ["select", "pixels", "infer", "report", "send pacs", "send archive"]
    assert bench.rooms.sent == [("pacs", b"report on 1.dcm"), ("archive", b"report on 1.dcm")]


def test_all_waiting_studies_are_worked_on(bench: Bench) -> None:
    for number in range(5):
        bench.add(number)
    assert bench.worker.work() == 5
    assert bench.queue.counts() == {State.DELIVERED: 5}


@pytest.mark.parametrize(
    ("hold", "state"),
    [(True, State.HELD), (False, State.SKIPPED)],
)
def test_study_without_an_image_is_held_or_skipped_with_its_reason(
    bench: Bench, hold: bool, state: State
) -> None:
    bench.rooms.answers["select"] = [Selection(None, "intake.view", hold, "no frontal view")]
    bench.add()
    view = bench.work()
    assert (view.state, view.reason_code, view.reason) == (state, "intake.view", "no frontal view")


@pytest.mark.parametrize("room", ["select", "pixels", "infer", "report"])
def test_error_that_may_pass_is_tried_again_from_the_same_step(bench: Bench, room: str) -> None:
    bench.rooms.answers[room] = [PartyUnreachable("party", expected="a connection", got="none")]
    bench.add()
    view = bench.work()
    assert view.reason_code == "inference.unreachable"
    assert view.reason == "party: expected a connection, got none"
    assert view.attempts == 1
    before = list(bench.rooms.calls)
    assert bench.work(9).state is State.DELIVERED or bench.work(2).state is State.DELIVERED
    assert bench.rooms.calls[len(before)] == ("pixels" if room == "infer" else room)


@pytest.mark.parametrize("room", ["select", "pixels", "infer", "report"])
def test_error_for_a_person_holds_the_study_with_its_reason(bench: Bench, room: str) -> None:
    bench.rooms.answers[room] = [PartyRejected("certificate", expected="a valid one", got="an expired one")]
    bench.add()
    view = bench.work()
    assert (view.state, view.reason_code) == (State.HELD, "inference.rejected")
    assert view.reason == "certificate: expected a valid one, got an expired one"
    bench.queue.retry(1)
    assert bench.work().state is State.DELIVERED


def test_unexpected_error_is_recorded_by_its_kind_only_and_ends_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.rooms.answers["pixels"] = [ZeroDivisionError("Quayle^Ximena")]
    bench.add(1)
    bench.add(2)
    view = bench.work()
    assert (view.state, view.reason_code, view.reason) == (
        State.INFERRING,
        "node.unexpected",
        "ZeroDivisionError",
    )
    assert bench.queue.study(2).state is State.DELIVERED
    from dicom_node.logs import JsonFormatter, TextFormatter

    for formatter in (JsonFormatter(), TextFormatter()):
        lines = [formatter.format(record) for record in caplog.records]
        assert any("ZeroDivisionError" in line for line in lines)
        assert not any("Quayle" in line for line in lines)


def test_study_is_given_up_after_the_configured_time(bench: Bench) -> None:
    bench.rooms.answers["infer"] = [PartyUnreachable("party") for _ in range(100)]
    bench.add()
    for _ in range(12):
        view = bench.work(10)
    assert (view.state, view.reason_code) == (State.FAILED, "inference.unreachable")


def test_only_destinations_that_have_not_said_yes_are_sent_to_again_and_the_same_bytes(bench: Bench) -> None:
    bench.rooms.answers["send pacs"] = [DeliveryResult(False, "connection refused", retryable=True)]
    bench.add()
    view = bench.work()
    assert (view.state, view.reason_code, view.reason) == (
        State.DELIVERING,
        "deliver",
        "pacs: connection refused",
    )
    bench.rooms.answers["report"] = [AssertionError("made once")]
    assert bench.work(11).state is State.DELIVERED
    assert [name for name, _ in bench.rooms.sent] == ["pacs", "archive", "pacs"]
    assert len({content for _, content in bench.rooms.sent}) == 1


def test_permanent_refusal_waits_for_a_person_once_the_others_have_it(bench: Bench) -> None:
    refusal = DeliveryResult(False, "0xA900", retryable=False)
    bench.rooms.answers["send pacs"] = [refusal, refusal]
    bench.rooms.answers["send archive"] = [DeliveryResult(False, "timeout", retryable=True)]
    bench.add()
    assert bench.work().state is State.DELIVERING
    view = bench.work(11)
    assert (view.state, view.reason) == (State.HELD, "pacs: 0xA900")
    bench.queue.retry(1)
    assert bench.work().state is State.DELIVERED
    assert [name for name, _ in bench.rooms.sent] == ["pacs", "archive", "pacs", "archive", "pacs"]


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_damaged_report_is_not_sent_and_made_anew_on_retry(bench: Bench, damage: str) -> None:
    bench.rooms.answers["send pacs"] = [DeliveryResult(False, "refused")]
    bench.add()
    bench.work()
    report = bench.spool.root / "reports" / "1.dcm"
    good = report.read_bytes()
    report.write_bytes(b"other") if damage == "changed" else report.unlink()
    view = bench.work(11)
    assert (view.state, view.reason_code) == (State.HELD, "queue.outcome")
    bench.queue.retry(1)
    assert bench.work().state is State.DELIVERED
    assert {content for _, content in bench.rooms.sent} == {good}
    assert bench.rooms.calls.count("infer") == 1


def test_cancelled_study_stops_quietly_between_steps(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    bench.rooms.answers["infer"] = [lambda: bench.queue.cancel(1)]
    bench.add()
    assert bench.work().state is State.CANCELLED
    assert "report" not in bench.rooms.calls
    assert [record.message for record in caplog.records] == ["study given up to another"]


def test_failure_that_cannot_be_recorded_leaves_the_study_to_its_lease(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.rooms.answers["infer"] = [PartyUnreachable("party")]
    bench.add()

    def full(*_: object) -> None:
        raise SpoolFull("queue's database")

    with monkeypatch.context() as patch:
        patch.setattr(bench.queue, "try_later", full)
        bench.worker.work()
    assert bench.queue.study(1).leased
    bench.now += 1000
    bench.queue.expire_leases()
    assert bench.work().state is State.DELIVERED


def test_full_disk_under_the_report_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.add()
    with monkeypatch.context() as patch:
        patch.setattr(bench.spool, "has_room", lambda: False)
        view = bench.work()
    assert (view.state, view.reason_code) == (State.REPORTING, "receive.full")
    assert bench.work(11).state is State.DELIVERED


def test_other_model_is_chosen_for_anew_between_inference_and_report(bench: Bench) -> None:
    bench.rooms.answers["report"] = [PartyUnreachable("later")]
    bench.add()
    bench.work()
    bench.rooms.bundle_digest = "c" * 64
    assert bench.work(11).state is State.DELIVERED
    once = ["select", "pixels", "infer", "report"]
    assert bench.rooms.calls == [*once, *once, "send pacs", "send archive"]


def test_stop_gives_the_study_back_between_steps(bench: Bench) -> None:
    bench.rooms.answers["infer"] = [bench.worker.stop]
    bench.add()
    view = bench.work()
    assert (view.state, view.leased, view.attempts, view.crashes) == (State.REPORTING, False, 0, 0)


def test_recovery_takes_back_what_an_earlier_worker_of_the_name_had(bench: Bench) -> None:
    bench.add()
    assert bench.queue.claim("worker") is not None
    assert bench.worker.work() == 0
    assert bench.worker.recover() == 1
    assert bench.work().state is State.DELIVERED


def test_errors_of_the_tree_are_documented_in_its_drawing() -> None:
    from dicom_node import errors

    def all_of(kind: type[NodeError]) -> Iterator[type[NodeError]]:
        yield kind
        for one in kind.__subclasses__():
            yield from all_of(one)

    drawn: Callable[[str], bool] = (errors.__doc__ or "").__contains__
    for kind in all_of(NodeError):
        if kind.__module__ == errors.__name__:
            assert drawn(kind.__name__), kind
            assert drawn(kind.code), kind
