"""Takes studies from the queue and goes their way with them: choose, infer, report, deliver.

After each step its product and the study's new state are one transaction on the disk. A worker that is killed
at any moment leaves a study that another one goes on with from there, and whatever was half done is done
again in the same way: the report is the same object each time, and once it is stored, it is what is sent.
"""

import hashlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from dicom_node.config import Settings
from dicom_node.errors import LeaseLost, NodeError, OutcomeDamaged
from dicom_node.queue import Claim, Outcome, Queue, Reason, State
from dicom_node.spool import Spool
from dicom_node.steps import Inference, InferenceResult, Intake, Reporter, Sender

_LOG = logging.getLogger(__name__)


class Worker:
    """Works on one study at a time.

    Parameters
    ----------
    settings : Settings
        The whole configuration.
    queue : Queue
        Where the studies are.
    spool : Spool
        Where their files are.
    intake, inference, reporter, sender
        The rooms on the way.
    owner : str
        This worker's name in leases.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        spool: Spool,
        *,
        intake: Intake,
        inference: Inference,
        reporter: Reporter,
        sender: Sender,
        owner: str,
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._spool = spool
        self._intake = intake
        self._inference = inference
        self._reporter = reporter
        self._sender = sender
        self._owner = owner
        self._stopping = threading.Event()
        self._steps: dict[State, Callable[[Claim], Claim | None]] = {
            State.SELECTING: self._select,
            State.INFERRING: self._infer,
            State.REPORTING: self._report,
            State.DELIVERING: self._deliver,
        }

    def recover(self) -> int:
        """Takes back the studies that an earlier worker of this name left behind; returns how many."""
        count = self._queue.expire_leases(owner=self._owner)
        if count:
            _LOG.warning("studies taken back after a crash", extra={"count": count})
        return count

    def stop(self) -> None:
        """Ends `work` after the step that is under way."""
        self._stopping.set()

    def work(self) -> int:
        """Works until nothing waits or `stop` was called; returns how many studies were taken."""
        count = 0
        while not self._stopping.is_set():
            claim = self._queue.claim(self._owner)
            if claim is None:
                break
            count += 1
            self._take_on(claim)
        return count

    def _take_on(self, claim: Claim) -> None:
        """Goes on with a study as far as it gets: the outermost place where a broad except is right."""
        step: Claim | None = claim
        try:
            while step is not None:
                if self._stopping.is_set():
                    self._queue.release(step)
                    return
                claim = step
                step = self._steps[claim.state](claim)
        except LeaseLost as error:
            _LOG.warning("study given up to another", extra={"study": claim.study, "code": error.code})
        except NodeError as error:
            self._failed(claim, Reason(error.code, str(error)), retryable=error.retryable)
        except Exception as error:  # noqa: BLE001 - the outermost place of a study
            _LOG.exception("unexpected error", extra={"study": claim.study, "state": claim.state.value})
            self._failed(claim, Reason("node.unexpected", type(error).__name__), retryable=True)

    def _failed(self, claim: Claim, reason: Reason, *, retryable: bool) -> None:
        try:
            state = self._queue.try_later(claim, reason) if retryable else self._queue.hold(claim, reason)
        except NodeError as error:
            # A person cancelled it meanwhile, or the disk is full: the lease's end brings it back.
            _LOG.warning("failure not recorded", extra={"study": claim.study, "code": error.code})
            return
        said = {"study": claim.study, "code": reason.code, "reason": reason.text, "state": state.value}
        _LOG.warning("step failed", extra=said)

    def _select(self, claim: Claim) -> Claim | None:
        paths = [self._spool.root / path for path in self._queue.images(claim)]
        rules = self._intake.narrow(self._settings.selection, self._inference.model_card)
        choice = self._intake.select_study(paths, rules)
        if choice.path is None:
            reason = Reason(choice.reason or "intake", choice.detail)
            state = self._queue.hold(claim, reason) if choice.hold else self._queue.skip(claim, reason)
            _LOG.info("no image for the model", extra={"study": claim.study, "state": state.value})
            return None
        return self._queue.image_selected(
            claim,
            choice.path.relative_to(self._spool.root),
            self._inference.bundle_digest,
            self._destinations(),
            self._intact,
        )

    def _infer(self, claim: Claim) -> Claim | None:
        outcome = self._outcome(claim)
        if outcome.bundle_digest != self._inference.bundle_digest:
            return self._queue.model_changed(claim)
        image = self._intake.pixels(self._spool.root / outcome.image, self._inference.preprocessing)
        result = self._inference.infer(image)
        _LOG.info("inference done", extra={"study": claim.study, "seconds": round(result.seconds, 3)})
        return self._queue.result_ready(claim, result.to_json())

    def _report(self, claim: Claim) -> Claim | None:
        outcome = self._outcome(claim)
        if outcome.bundle_digest != self._inference.bundle_digest:
            return self._queue.model_changed(claim)
        if outcome.result is None:
            raise OutcomeDamaged("result", expected="one, in this state", got="none")
        report = self._reporter.build_report(
            self._spool.root / outcome.image,
            InferenceResult.from_json(outcome.result),
            self._inference.model_card,
            self._settings.report,
        )
        path = self._spool.store(Path("reports", f"{outcome.id}.dcm"), [report])
        return self._queue.report_ready(claim, path, hashlib.sha256(report).hexdigest())

    def _deliver(self, claim: Claim) -> Claim | None:
        outcome = self._outcome(claim)
        file = self._stored_report(outcome)
        refusals: list[tuple[str, str, bool]] = []
        waiting = self._queue.waiting_destinations(claim, self._destinations())
        for destination in self._settings.destination:
            if destination.name not in waiting:
                continue
            answer = self._sender.send(file, destination)
            said = {"study": claim.study, "destination": destination.name, "status": answer.status}
            _LOG.info("report delivered" if answer.delivered else "report not delivered", extra=said)
            self._queue.record_delivery(claim, destination.name, answer.status, delivered=answer.delivered)
            if not answer.delivered:
                refusals.append((destination.name, answer.status, answer.retryable))
        if not refusals:
            self._queue.finish(claim)
            return None
        text = "; ".join(f"{name}: {status}" for name, status, _ in refusals)
        retryable = any(one for _, _, one in refusals)
        self._failed(claim, Reason("deliver", text), retryable=retryable)
        return None

    def _stored_report(self, outcome: Outcome) -> Path:
        """The report's file, when it is still what was stored."""
        if outcome.report is None:
            raise OutcomeDamaged("report", expected="one, in this state", got="none")
        if not self._intact(outcome.report, outcome.report_digest):
            raise OutcomeDamaged("stored report", expected="the file that was stored", got="another or none")
        return self._spool.root / outcome.report

    def _intact(self, report: Path, digest: str | None) -> bool:
        file = self._spool.root / report
        return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == digest

    def _outcome(self, claim: Claim) -> Outcome:
        outcome = self._queue.outcome(claim)
        if outcome is None:
            raise OutcomeDamaged("chosen image", expected="one, in this state", got="none")
        return outcome

    def _destinations(self) -> list[str]:
        return [one.name for one in self._settings.destination]
