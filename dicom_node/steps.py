"""What the queue's worker expects of the rooms on a study's way: the values that they exchange, as types.

The worker (`dicom_node.worker`) knows intake, inference, report and delivery only through these protocols.
A function that fails raises a subclass of `dicom_node.errors.NodeError`; its ``code`` and message are kept
with the study, and its ``retryable`` decides between another attempt and a person.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_node.config import DestinationSettings, ReportSettings, SelectionSettings


@dataclass(frozen=True, slots=True)
class Selection:
    """Which of a study's images the model is for.

    Attributes
    ----------
    path : Path or None
        The chosen image; None when there is none.
    reason : str or None
        Stable code of why there is none (``intake.view_unknown``), or None when an image was chosen.
    hold : bool
        With a reason: True keeps the study for a person, False skips it.
    detail : str
        One sentence for people, without patient data.
    """

    path: Path | None
    reason: str | None = None
    hold: bool = True
    detail: str = ""


@dataclass(frozen=True, slots=True)
class FindingResult:
    """One finding of a model for one image.

    Attributes
    ----------
    name : str
        As in the bundle's ``findings.json``.
    probability : float
        0 to 1.
    threshold : float
        The operating point: a finding is present from here on.
    code : mapping or None
        The bundle's own coded concept for it (``scheme``, ``value``, ``meaning``), or None.
    """

    name: str
    probability: float
    threshold: float
    code: Mapping[str, str] | None = None

    @property
    def present(self) -> bool:
        """Whether the probability reaches the operating point."""
        return self.probability >= self.threshold


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """What one private inference gave; everything that a report needs besides the image.

    Attributes
    ----------
    findings : tuple of FindingResult
        In the bundle's order.
    logits : tuple of float
        In the same order.
    bundle_id : str
        The bundle's identifier (hex).
    bundle_digest : str
        SHA-256 (hex) of the bundle's manifest: names this very version of the model.
    finished_at : str
        ISO 8601 time with offset. Stored once, so that a report made again carries the same times.
    seconds : float
        Duration of the inference.
    """

    findings: tuple[FindingResult, ...]
    logits: tuple[float, ...]
    bundle_id: str
    bundle_digest: str
    finished_at: str
    seconds: float

    @property
    def finished(self) -> datetime:
        """`finished_at` as an aware time."""
        moment = datetime.fromisoformat(self.finished_at)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)

    def to_json(self) -> str:
        """Text for the queue's table."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "InferenceResult":
        """The value that `to_json` wrote."""
        fields = json.loads(text)
        fields["findings"] = tuple(FindingResult(**item) for item in fields["findings"])
        fields["logits"] = tuple(fields["logits"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class DeliveryResult:
    """What a destination said about an object.

    Attributes
    ----------
    delivered : bool
        The destination said that it has the object (success or warning).
    status : str
        For people and logs: ``0x0000``, ``rejected: called AE title not recognised``, ...
    retryable : bool
        When not delivered: whether trying later may help.
    """

    delivered: bool
    status: str
    retryable: bool = True


class Intake(Protocol):
    """`dicom_node.intake`: chooses the image and makes its pixels."""

    def narrow(self, rules: SelectionSettings, model_card: Mapping[str, Any]) -> SelectionSettings:
        """The site's rules within the model's intended use."""
        ...

    def select_study(self, instances: Sequence[Path], rules: SelectionSettings) -> Selection:
        """Chooses one of a study's objects."""
        ...

    def pixels(self, path: Path, preprocessing: Mapping[str, Any]) -> NDArray[np.float32]:
        """The image in the model's input units, [H, W] or [H, W, C], as the bundle's preprocessing says."""
        ...


class Inference(Protocol):
    """`dicom_node.inference.SecureInference`: the door to the two-party protocol."""

    @property
    def bundle_digest(self) -> str:
        """SHA-256 (hex) of the bundle's manifest."""
        ...

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """The bundle's ``preprocessing.json``."""
        ...

    @property
    def model_card(self) -> Mapping[str, Any]:
        """The bundle's ``model_card.json``."""
        ...

    def infer(self, image: NDArray[np.float32]) -> InferenceResult:
        """Runs the protocol on one image in the model's input units."""
        ...


class Reporter(Protocol):
    """`dicom_node.report`: makes the DICOM report."""

    def build_report(
        self,
        image_path: Path,
        result: InferenceResult,
        model_card: Mapping[str, Any],
        settings: ReportSettings,
    ) -> bytes:
        """A DICOM file (Part 10); the same arguments give the same SOP Instance UID."""
        ...


class Sender(Protocol):
    """`dicom_node.deliver`: takes a report to a destination."""

    def send(self, path: Path, destination: DestinationSettings) -> DeliveryResult:
        """Stores the file at `destination`; does not raise for the network."""
        ...
