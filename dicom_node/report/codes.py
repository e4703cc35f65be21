"""Which code stands for which of a model's findings.

A site's own code (``[[report.code]]``) comes first, then the model's own (``findings.json``), then the table
here; what has no safe code takes one of a private scheme, which the report identifies (PS3.3 C.12.1.1.7).
Every SNOMED CT identifier is checked by its Verhoeff digit: the site's when the configuration is read, the
others here. Wrong ones look as good as right ones.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from dicom_node.config import CodeSettings
from dicom_node.config.load import valid_sctid
from dicom_node.report.errors import CodeInvalid
from dicom_node.steps import FindingResult

PRIVATE_SCHEME: Final = "99BLINDREAD"
"""Coding Scheme Designator of the private codes (PS3.3 8.2: private ones begin with 99)."""


@dataclass(frozen=True, slots=True)
class Concept:
    """A coded concept (PS3.3 section 8).

    Raises
    ------
    CodeInvalid
        A part is empty or too long, or a SNOMED CT identifier fails its check digit.
    """

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        for name, text, longest in (("value", self.value, 64), ("meaning", self.meaning, 64)):
            if not 1 <= len(text) <= longest or not text.isprintable() or "\\" in text:
                raise CodeInvalid(f"code {name}", expected=f"1 to {longest} characters", got=repr(text))
        if not 1 <= len(self.scheme) <= 16:
            raise CodeInvalid("coding scheme", expected="1 to 16 characters", got=repr(self.scheme))
        if self.scheme == "SCT" and not valid_sctid(self.value):
            expected = "an identifier with a valid Verhoeff check digit"
            raise CodeInvalid(f"SNOMED CT code for {self.meaning}", expected=expected, got=self.value)


@dataclass(frozen=True, slots=True)
class FindingCode:
    """How a finding is coded in a report.

    Attributes
    ----------
    concept : Concept
        What was looked for.
    site : Concept
        Where.
    """

    concept: Concept
    site: Concept


LUNG: Final = Concept("39607008", "SCT", "Lung")
HEART: Final = Concept("80891009", "SCT", "Heart")
PLEURA: Final = Concept("3120008", "SCT", "Pleura")
CHEST: Final = Concept("816094009", "SCT", "Chest")

_DEFAULTS: Final = {
    "pneumothorax": FindingCode(Concept("36118008", "SCT", "Pneumothorax"), PLEURA),
    "pleural effusion": FindingCode(Concept("60046008", "SCT", "Pleural effusion"), PLEURA),
    "pulmonary edema": FindingCode(Concept("19242006", "SCT", "Pulmonary edema"), LUNG),
    "lung opacity": FindingCode(Concept("112033", "DCM", "Abnormal opacity"), LUNG),
    "lung lesion": FindingCode(Concept("52988006", "SCT", "Lesion"), LUNG),
    "cardiomegaly": FindingCode(Concept("8186001", "SCT", "Cardiomegaly"), HEART),
    "atelectasis": FindingCode(Concept("46621007", "SCT", "Atelectasis"), LUNG),
    "consolidation": FindingCode(Concept("95436008", "SCT", "Consolidation of lung"), LUNG),
    "pneumonia": FindingCode(Concept("233604007", "SCT", "Pneumonia"), LUNG),
    "fracture": FindingCode(Concept("125605004", "SCT", "Fracture"), CHEST),
}
_SYNONYMS: Final = {
    "effusion": "pleural effusion",
    "edema": "pulmonary edema",
    "oedema": "pulmonary edema",
    "pulmonary oedema": "pulmonary edema",
    "opacity": "lung opacity",
    "abnormal opacity": "lung opacity",
    "lesion": "lung lesion",
    "consolidation of lung": "consolidation",
}


def finding_code(finding: FindingResult, overrides: Iterable[CodeSettings] = ()) -> FindingCode:
    """The code of a finding; see the module for the order of the sources.

    Raises
    ------
    CodeInvalid
        The site's or the model's own code is malformed.
    """
    known = _known(finding.name)
    site = known.site if known else CHEST
    wanted = _normal(finding.name)
    for override in overrides:
        if _normal(override.finding) == wanted:
            return FindingCode(Concept(override.value, override.scheme, override.meaning), site)
    if finding.code is not None:
        code = finding.code
        return FindingCode(
            Concept(code.get("value", ""), code.get("scheme", ""), code.get("meaning", "")), site
        )
    return known or FindingCode(_private(finding.name), site)


def _known(name: str) -> FindingCode | None:
    normal = _normal(name)
    return _DEFAULTS.get(_SYNONYMS.get(normal, normal))


def _normal(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().lower()


def _private(name: str) -> Concept:
    """A code from the name alone, so that it is the same everywhere; at most 16 characters (VR SH)."""
    value = re.sub(r"[^A-Z0-9]+", "_", name.upper()).strip("_") or "FINDING"
    if len(value) > 16:
        value = f"{value[:11]}_{hashlib.sha256(value.encode()).hexdigest()[:4].upper()}"
    return Concept(value, PRIVATE_SCHEME, name[:64])
