"""Which image of a study the model may see.

Each object gets a verdict: eligible, or a reason code and whether a person should look. The view is sought
in View Code Sequence, View Position, Patient Orientation and the series' description, in that order, and the
first that says something decides (PS3.3 C.8.11.5, C.7.6.1.1.1). A study without an eligible image takes the
reason of the object that came furthest.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
)

from dicom_node.config import SelectionSettings
from dicom_node.intake.errors import IntakeError
from dicom_node.intake.reading import MALFORMED, Limits, read
from dicom_node.steps import Selection


class Reason(IntEnum):
    """Why an object is not for the model, in the order of the checks; the furthest speaks for the study."""

    NO_OBJECT = 0
    UNREADABLE = 1
    MODALITY = 2
    OBJECT_CLASS = 3
    BODY_PART = 4
    BODY_PART_UNKNOWN = 5
    FOR_PROCESSING = 6
    AGE = 7
    AGE_UNKNOWN = 8
    VIEW = 9
    VIEW_UNKNOWN = 10
    ORIENTATION = 11
    BURNED_IN = 12

    @property
    def code(self) -> str:
        """Stable name, as kept with the study."""
        return f"intake.{self.name.lower()}"


_SENTENCES: Final = {
    Reason.NO_OBJECT: "the study has no objects",
    Reason.UNREADABLE: "the object can't be read",
    Reason.MODALITY: "Modality is not one that the model is for",
    Reason.OBJECT_CLASS: "the object is no radiograph for presentation",
    Reason.BODY_PART: "the body part is not one that the model is for",
    Reason.BODY_PART_UNKNOWN: "the object does not say which body part it shows",
    Reason.FOR_PROCESSING: "Presentation Intent Type is FOR PROCESSING",
    Reason.AGE: "the patient's age is outside what the model is for",
    Reason.AGE_UNKNOWN: "the object does not say how old the patient is",
    Reason.VIEW: "the view is not one that the model is for",
    Reason.VIEW_UNKNOWN: "the object does not say which view it shows",
    Reason.ORIENTATION: "rows and columns do not run to the patient's left and feet",
    Reason.BURNED_IN: "Burned In Annotation is YES",
}

_RADIOGRAPHS: Final = frozenset(
    {
        ComputedRadiographyImageStorage,
        DigitalXRayImageStorageForPresentation,
        DigitalXRayImageStorageForProcessing,
        SecondaryCaptureImageStorage,
    }
)

_FRONTAL: Final = "FRONTAL"
_OTHER: Final = "OTHER"

# PS3.16 CID 4010 in SNOMED CT, with the SNOMED RT codes that older devices send. Codes that aren't here leave
# the view unknown: they are oblique or axial, and a person looks at them.
_VIEW_CODES: Final = {
    "272479007": "PA",
    "R-10214": "PA",
    "R-40888": "PA",
    "399348003": "AP",
    "R-10206": "AP",
    "399033003": _FRONTAL,
    "R-10202": _FRONTAL,
    "399173006": "LL",
    "R-10236": "LL",
    "399198007": "RL",
    "R-10232": "RL",
    "399067008": "LATERAL",
    "R-102CD": "LATERAL",
}
_VIEW_POSITIONS: Final = {
    "PA": "PA",
    "AP": "AP",
    "LL": "LL",
    "RL": "RL",
    "LLD": _OTHER,
    "RLD": _OTHER,
    "LLO": _OTHER,
    "RLO": _OTHER,
    "LAT": "LATERAL",
    "LATERAL": "LATERAL",
}
_ALLOWED_BY: Final = {_FRONTAL: {"PA", "AP"}, "LATERAL": {"LL", "RL"}}

# PS3.16 CID 4031, SNOMED CT and SRT; only what a model of radiographs may be for.
_BODY_PARTS: Final = {
    "816094009": "CHEST",
    "51185008": "CHEST",
    "T-D3000": "CHEST",
    "43799004": "CHEST",
    "T-D3200": "CHEST",
}

_WORD_FRONTAL: Final = re.compile(r"\b(PA|AP|P\.A\.|A\.P\.|FRONTAL|ANTEROPOSTERIOR|POSTEROANTERIOR)(?![A-Z])")
_WORD_LATERAL: Final = re.compile(r"\b(LAT|LATERAL|LL|RL|SEITLICH|PROFIL|DECUBITUS|OBLIQUE)\b")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one object.

    Attributes
    ----------
    reason : Reason or None
        None: eligible.
    hold : bool
        With a reason: whether a person should look.
    rank : tuple
        Orders the eligible objects of a study; the smallest is chosen.
    """

    reason: Reason | None
    hold: bool = False
    rank: tuple[int, int, int, str] = (0, 0, 0, "")


def narrow(rules: SelectionSettings, model_card: Mapping[str, Any]) -> SelectionSettings:
    """A site's rules, within what the model is for (``intended_use`` in its card).

    Modalities and views are those that both allow; of the ages the narrower range holds. Body parts are left
    to the site, which knows how its modalities call them.
    """
    use = model_card.get("intended_use", {})
    youngest, oldest = use.get("age_years", (None, None))
    low = [age for age in (rules.minimum_age_years, youngest) if age is not None]
    high = [age for age in (rules.maximum_age_years, oldest) if age is not None]
    return replace(
        rules,
        modalities=tuple(m for m in rules.modalities if m in use.get("modalities", rules.modalities)),
        views=tuple(v for v in rules.views if v in use.get("views", rules.views)),
        minimum_age_years=max(low, default=None),
        maximum_age_years=min(high, default=None),
    )


def select_study(
    instances: Sequence[Path], rules: SelectionSettings, limits: Limits | None = None
) -> Selection:
    """Choose one image of a study.

    Of several eligible ones: PA before AP, then the lowest series and instance number, then the SOP Instance
    UID, so that the choice doesn't depend on the order of arrival.

    Parameters
    ----------
    instances : sequence of Path
        DICOM files.
    rules : SelectionSettings
    limits : Limits, optional

    Returns
    -------
    Selection
        A path, or the reason why there is none. Unreadable objects don't keep a readable one from being
        chosen.
    """
    verdicts = [(examine_file(path, rules, limits), path) for path in instances]
    eligible = [(verdict.rank, path) for verdict, path in verdicts if verdict.reason is None]
    if eligible:
        return Selection(min(eligible)[1])
    refused = [verdict for verdict, _ in verdicts] or [Verdict(Reason.NO_OBJECT, hold=True)]
    furthest = max(refused, key=lambda verdict: (verdict.reason or Reason.NO_OBJECT, verdict.hold))
    reason = furthest.reason or Reason.NO_OBJECT
    hold = any(verdict.hold for verdict in refused)
    return Selection(None, reason.code, hold, f"{_SENTENCES[reason]} ({len(instances)} objects)")


def examine_file(path: Path, rules: SelectionSettings, limits: Limits | None = None) -> Verdict:
    """Decide about one file; one that can't be read is held."""
    try:
        return examine(read(path, limits, with_pixels=False), rules)
    except (IntakeError, *MALFORMED):
        return Verdict(Reason.UNREADABLE, hold=True)


def examine(dataset: Dataset, rules: SelectionSettings) -> Verdict:
    """Decide about one dataset.

    Raises
    ------
    ValueError, TypeError, ...
        What `pydicom` raises on malformed values (`reading.MALFORMED`).
    """
    if _text(dataset, "Modality") not in rules.modalities:
        return Verdict(Reason.MODALITY)
    if dataset.get("SOPClassUID") not in _RADIOGRAPHS:
        return Verdict(Reason.OBJECT_CLASS)
    part = _body_part(dataset)
    if part is None and rules.body_part_missing != "accept":
        return Verdict(Reason.BODY_PART_UNKNOWN, hold=rules.body_part_missing == "hold")
    if part is not None and part not in rules.body_parts:
        return Verdict(Reason.BODY_PART)
    if not rules.for_processing and _for_processing(dataset):
        return Verdict(Reason.FOR_PROCESSING)
    refusal = _age_refusal(dataset, rules)
    if refusal is not None:
        return refusal
    view = view_of(dataset)
    if view is None:
        return Verdict(Reason.VIEW_UNKNOWN, hold=rules.view_unknown == "hold")
    if not _ALLOWED_BY.get(view, {view}) & set(rules.views):
        return Verdict(Reason.VIEW)
    if view in ("PA", "AP", _FRONTAL) and _orientation(dataset) not in (None, ("L", "F")):
        return Verdict(Reason.ORIENTATION, hold=True)
    if not rules.burned_in_annotation and _text(dataset, "BurnedInAnnotation") == "YES":
        return Verdict(Reason.BURNED_IN, hold=True)
    return Verdict(None, rank=_rank(dataset, view))


def view_of(dataset: Dataset) -> str | None:
    """The view: PA, AP, FRONTAL, LL, RL, LATERAL or OTHER; None when nothing tells."""
    for item in dataset.get("ViewCodeSequence") or ():
        code = _text(item, "CodeValue")
        if code:
            return _VIEW_CODES.get(code)
    position = _VIEW_POSITIONS.get(_text(dataset, "ViewPosition"))
    if position is not None:
        return position
    orientation = _orientation(dataset)
    if orientation is not None:
        axes = {letter.translate(str.maketrans("RPH", "LAF")) for letter in orientation}
        return {frozenset("LF"): _FRONTAL, frozenset("AF"): "LATERAL"}.get(frozenset(axes), _OTHER)
    return _described_view(dataset)


def _described_view(dataset: Dataset) -> str | None:
    """A view from what a person wrote; None where it names both kinds or neither."""
    words = " ".join(
        _text(dataset, keyword).upper()
        for keyword in ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
    )
    frontal, lateral = bool(_WORD_FRONTAL.search(words)), bool(_WORD_LATERAL.search(words))
    if frontal == lateral:
        return None
    return _FRONTAL if frontal else "LATERAL"


def _orientation(dataset: Dataset) -> tuple[str, str] | None:
    """Main directions of rows and columns (PS3.3 C.7.6.1.1.1), or None when not given."""
    value = dataset.get("PatientOrientation")
    if not isinstance(value, MultiValue | list) or len(value) != 2 or not all(value):
        return None
    return str(value[0])[0], str(value[1])[0]


def _body_part(dataset: Dataset) -> str | None:
    for item in dataset.get("AnatomicRegionSequence") or ():
        code = _text(item, "CodeValue")
        if code in _BODY_PARTS:
            return _BODY_PARTS[code]
        if code:
            return "OTHER"
    return _text(dataset, "BodyPartExamined").upper() or None


def _for_processing(dataset: Dataset) -> bool:
    intent = _text(dataset, "PresentationIntentType")
    return intent == "FOR PROCESSING" or dataset.get("SOPClassUID") == DigitalXRayImageStorageForProcessing


def _age_refusal(dataset: Dataset, rules: SelectionSettings) -> Verdict | None:
    low, high = rules.minimum_age_years, rules.maximum_age_years
    if low is None and high is None:
        return None
    age = age_in_years(dataset)
    if age is None:
        refused = rules.age_unknown != "accept"
        return Verdict(Reason.AGE_UNKNOWN, hold=rules.age_unknown == "hold") if refused else None
    inside = (low is None or age >= low) and (high is None or age < high + 1)
    return None if inside else Verdict(Reason.AGE)


def age_in_years(dataset: Dataset) -> float | None:
    """Patient's Age (PS3.5 6.2, AS), else from the dates of birth and study; None when unknown."""
    match = re.fullmatch(r"(\d{3})([DWMY])", _text(dataset, "PatientAge"))
    if match:
        return int(match[1]) / {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}[match[2]]
    born, seen = _date(dataset, "PatientBirthDate"), _date(dataset, "StudyDate")
    if born is None or seen is None or seen < born:
        return None
    return (seen - born).days / 365.25


def _date(dataset: Dataset, keyword: str) -> date | None:
    text = _text(dataset, keyword)
    if not re.fullmatch(r"\d{8}", text):
        return None
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:]))
    except ValueError:
        return None


def _rank(dataset: Dataset, view: str) -> tuple[int, int, int, str]:
    numbers = [dataset.get(keyword) for keyword in ("SeriesNumber", "InstanceNumber")]
    series, instance = (int(n) if isinstance(n, int) else 1 << 31 for n in numbers)
    return (0 if view == "PA" else 1, series, instance, _text(dataset, "SOPInstanceUID"))


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    if isinstance(value, MultiValue | list):
        value = value[0] if value else None
    return "" if value is None else str(value).strip()
