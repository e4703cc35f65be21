"""Whatever happens in whatever order: nothing is lost, nobody works twice, a report is stored once."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dicom_node.config import QueueSettings
from dicom_node.errors import IllegalEvent, LeaseLost
from dicom_node.queue import CLAIMABLE, ENDED, Claim, ObjectRecord, Queue, Reason, State

WORKERS = ("one", "two")
LIMITS = QueueSettings(
    quiet_period_s=5, complete_after_s=20, lease_s=30, retry_first_s=2, retry_longest_s=8, give_up_after_s=40,
    crashes_allowed=3,
)  # fmt: skip


class QueueMachine(RuleBasedStateMachine):
    """Two workers, one person and some modalities at one queue, with a model of what they may expect."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.now = 0.0
        self.claims: dict[str, Claim] = {}
        self.stored: set[tuple[str, str]] = set()
        self.reports: dict[int, str] = {}

    def open(self) -> Queue:
        return Queue(Path(self.folder.name, "q.sqlite"), LIMITS, clock=lambda: self.now, jitter=lambda: 0.5)

    @initialize()
    def start(self) -> None:
        self.queue = self.open()

    def teardown(self) -> None:
        self.queue.close()
        self.folder.cleanup()

    @rule(
        study=st.sampled_from("ab"),
        instance=st.integers(1, 3),
        content=st.sampled_from("xy"),
        stat=st.booleans(),
    )
    def store(self, study: str, instance: int, content: str, stat: bool) -> None:
        sop_uid = f"{ord(study)}.{instance}"
        name = f"{sop_uid}{content}"
        self.queue.add_object(
            ObjectRecord(
                study_uid=str(ord(study)), sop_uid=sop_uid, sop_class_uid="1", transfer_syntax_uid="1",
                digest=name, path=name, size=1, calling_ae="A", priority=0 if stat else 1,
            )
        )  # fmt: skip
        self.stored.add((sop_uid, name))

    @rule(seconds=st.sampled_from([1, 6, 31]))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule()
    def tick(self) -> None:
        self.queue.complete_studies()
        self.queue.expire_leases()

    @rule(worker=st.sampled_from(WORKERS))
    def claim(self, worker: str) -> None:
        if worker not in self.claims:
            claim = self.queue.claim(worker)
            if claim:
                view = self.queue.study(claim.study)
                assert view.leased
                assert view.state is claim.state
                assert claim.state in CLAIMABLE - {State.READY}
                self.claims[worker] = claim

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(),
        worker=st.sampled_from(WORKERS),
        how=st.sampled_from(["step"] * 4 + ["later", "hold", "stop"]),
    )
    def work(self, data: Any, worker: str, how: str) -> None:
        claim = self.claims.pop(worker, None)
        if claim is None:
            return
        try:
            following = self.step(claim, data) if how == "step" else self.stop(claim, how)
        except LeaseLost:
            return
        if following is not None:
            self.claims[worker] = following

    def step(self, claim: Claim, data: Any) -> Claim | None:
        if claim.state is State.SELECTING:
            images = self.queue.images(claim)
            if not images:
                self.queue.skip(claim, Reason("none", ""))
                return None
            chosen = data.draw(st.sampled_from(images))
            after = self.queue.image_selected(claim, chosen, "bundle", ["pacs"])
            return None if after.state in ENDED or after.state is State.RECEIVING else after
        outcome = self.queue.outcome(claim)
        assert outcome is not None
        if claim.state is State.INFERRING:
            return self.queue.result_ready(claim, f"result of {outcome.id}")
        if claim.state is State.REPORTING:
            assert outcome.result == f"result of {outcome.id}"
            assert outcome.id not in self.reports, "a stored report is never made again"
            after = self.queue.report_ready(claim, Path(f"{outcome.id}"), f"digest {claim.token}")
            self.reports[outcome.id] = f"digest {claim.token}"
            return after
        assert outcome.report_digest == self.reports[outcome.id], "what is sent is what was stored"
        self.queue.record_delivery(claim, "pacs", "ok", delivered=True)
        self.queue.finish(claim)
        return None

    def stop(self, claim: Claim, how: str) -> None:
        if how == "later":
            self.queue.try_later(claim, Reason("later", ""))
        elif how == "hold":
            self.queue.hold(claim, Reason("held", ""))
        else:
            self.queue.release(claim)

    @rule(worker=st.sampled_from(WORKERS))
    def crash(self, worker: str) -> None:
        self.claims.pop(worker, None)

    @rule(worker=st.sampled_from(WORKERS))
    def restart(self, worker: str) -> None:
        self.claims.pop(worker, None)
        self.queue.expire_leases(owner=worker)

    @rule(worker=st.sampled_from(WORKERS))
    def renew(self, worker: str) -> None:
        self.queue.renew_leases(worker)

    @rule(study=st.integers(1, 2), what=st.sampled_from(["retry", "cancel"]))
    def by_hand(self, study: int, what: str) -> None:
        if study <= len(self.queue.studies()):
            try:
                getattr(self.queue, what)(study)
            except IllegalEvent:
                assert what == "cancel"
                assert self.queue.study(study).state in {State.DELIVERED, State.CANCELLED}

    @rule()
    def reopen(self) -> None:
        self.queue.close()
        self.queue = self.open()

    @invariant()
    def nothing_is_lost(self) -> None:
        kept = {
            (one.sop_uid, one.path)
            for view in self.queue.studies()
            for one in self.queue.study(view.id).instances
        }
        assert kept == self.stored

    @invariant()
    def studies_are_consistent(self) -> None:
        for view in map(self.queue.study, range(1, len(self.queue.studies()) + 1)):
            if view.leased:
                assert view.state in CLAIMABLE - {State.READY}
            if view.state in {State.HELD, State.FAILED, State.SKIPPED}:
                assert view.reason_code
            if view.state is State.DELIVERED:
                assert [one.destination for one in view.deliveries if one.delivered_at is not None] == [
                    "pacs"
                ]
            assert (view.next_attempt_at is None) == (view.leased or view.state in ENDED)


QueueMachine.TestCase.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)
TestQueue = QueueMachine.TestCase
