"""Processes of the gateway that kill themselves (SIGKILL) where told; only the inference is a double.

::

    killable.py node CONFIG            the supervisor with its two processes; each dies once at every point
                                       that the file named by BLINDREAD_KILLS lists
    killable.py fork listener CONFIG   reads kill points from standard input, a line each ("-" for none); for
    killable.py fork worker CONFIG     each it forks that process, says "pid N", waits, says "exit STATUS"

A kill point is "Class.method:before" or ":after" of those listed below. Everything else is the real gateway:
the real report, the real delivery. The double of the inference stands behind the interface of
`dicom_node.inference`, so that a kill costs milliseconds and not an inference.
"""

import hashlib
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node import deliver, intake, processes, report
from dicom_node.config import ReportSettings, Settings, load_settings
from dicom_node.node import Node
from dicom_node.steps import FindingResult, InferenceResult

LISTENER_POINTS = ("spool.os.fsync", "spool.Spool.store", "queue.Queue.add_object")
WORKER_POINTS = (
    "queue.Queue.claim",
    "intake.select_study",
    "queue.Queue.image_selected",
    "intake.pixels",
    "Double.infer",
    "queue.Queue.result_ready",
    "report.build_report",
    "spool.os.fsync",
    "spool.Spool.store",
    "queue.Queue.report_ready",
    "deliver.send",
    "queue.Queue.record_delivery",
    "queue.Queue.finish",
)


class Double:
    """An inference that looks at the image and needs nobody else."""

    bundle_digest = hashlib.sha256(b"double").hexdigest()
    preprocessing: Mapping[str, Any] = {
        "height": 32, "width": 32, "channels": 1, "resample": "area", "intensity": {"source": "8bit"},
    }  # fmt: skip
    model_card: Mapping[str, Any] = {
        "name": "Double",
        "version": "1",
        "description": "A double for tests",
        "manufacturer": "Tests",
        "device_uid": "2.25.1",
        "clinical_use": False,
        "intended_use": {"modalities": ["DX"], "body_parts": ["CHEST"], "views": ["PA"], "purpose": "tests"},
        "training_data": "none",
        "licence": "none",
    }

    def infer(self, image: NDArray[np.float32]) -> InferenceResult:
        assert image.shape == (32, 32)
        assert image.max() > 1
        probability = float(image.mean()) / 255
        return InferenceResult(
            findings=(FindingResult("Pneumonia", probability, 0.5),),
            logits=(0.0,),
            bundle_id="00" * 16,
            bundle_digest=self.bundle_digest,
            finished_at="2026-01-02T03:04:05+00:00",
            seconds=0.0,
        )

    def fill_pool(self) -> None:
        """There are no tickets."""

    def close(self) -> None:
        """There is no connection."""


def worker_main(settings: Settings) -> None:
    """The worker's process, with a double for the inference."""
    arm_from_environment(settings, WORKER_POINTS)
    processes._run(settings, "worker", serve_worker)


def listener_main(settings: Settings) -> None:
    """The listener's process."""
    arm_from_environment(settings, LISTENER_POINTS)
    processes.listener_main(settings)


def serve_worker(settings: Settings, stop: threading.Event) -> None:
    processes.serve_worker(settings, stop, intake=intake, inference=Double(), reporter=report, sender=deliver)


def arm(point: str, once: Path | None = None) -> None:
    """Makes this process kill itself at a point; with `once`, only when that file isn't there yet."""
    name, _, moment = point.partition(":")
    owner, attribute = resolve(name)
    original: Callable[..., Any] = getattr(owner, attribute)

    def die() -> None:
        if once is not None:
            if once.exists():
                return
            once.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def replaced(*arguments: Any, **named: Any) -> Any:
        if moment == "before":
            die()
        result = original(*arguments, **named)
        # A worker's turn without a study is not a step.
        if moment == "after" and not (attribute == "claim" and result is None):
            die()
        return result

    setattr(owner, attribute, replaced)


def resolve(name: str) -> tuple[Any, str]:
    first, _, rest = name.partition(".")
    found: Any = Double if first == "Double" else importlib.import_module(f"dicom_node.{first}")
    *middle, last = rest.split(".")
    for part in middle:
        found = getattr(found, part)
    return found, last


def arm_from_environment(settings: Settings, allowed: tuple[str, ...]) -> None:
    kills = os.environ.get("BLINDREAD_KILLS")
    for point in Path(kills).read_text().split() if kills else []:
        if point.partition(":")[0] in allowed:
            arm(point, settings.node.spool / f"killed {allowed is WORKER_POINTS} {point}")


def fork_for_each_line(main: Callable[[Settings], None], settings: Settings) -> None:
    # Loaded once, before the first fork.
    importlib.import_module("dicom_node.receive")
    importlib.import_module("dicom_node.scheduler")
    if main is worker_main:
        sample = Path(__file__).parents[2] / "data" / "dicom" / "derived" / "dx_rle_12bit.dcm"
        double = Double()
        result = double.infer(intake.pixels(sample, double.preprocessing))
        report.build_report(sample, result, double.model_card, ReportSettings())
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            try:
                if line.strip() != "-":
                    arm(line.strip())
                main(settings)
            finally:
                os._exit(0)
        print(f"pid {child}", flush=True)
        _, status = os.waitpid(child, 0)
        print(f"exit {os.waitstatus_to_exitcode(status)}", flush=True)


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    configuration = load_settings(Path(arguments[-1]))
    mains = {"listener": listener_main, "worker": worker_main}
    if mode == "node":
        sys.exit(Node(configuration, mains).run())
    fork_for_each_line(mains[arguments[0]], configuration)
