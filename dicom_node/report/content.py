"""What the report says: the content tree (PS3.16 TID 1500, or TID 2000 for viewers that show text only).

One measurement group (TID 1501) a finding: the probability as Certainty of Finding in percent, presence at
the operating point, the site, the image, and how it was computed (TID 4019). Qualitative evaluations hold no
numbers (IHE AI Results, 1.3).
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import highdicom as hd
from highdicom import sr
from highdicom.sr.enum import RelationshipTypeValues
from pydicom import Dataset
from pydicom.sr.coding import Code

from dicom_node.config import CodeSettings
from dicom_node.report.codes import Concept, FindingCode, finding_code
from dicom_node.report.errors import ResultUnsuitable
from dicom_node.steps import FindingResult, InferenceResult

CERTAINTY: Final = Code("111012", "DCM", "Certainty of Finding")
PERCENT: Final = Code("%", "UCUM", "Percent")
PRESENCE: Final = Code("705057003", "SCT", "Presence")
PRESENT: Final = Code("52101004", "SCT", "Present")  # CID 240
ABSENT: Final = Code("272519000", "SCT", "Absent")
UNDETERMINED: Final = Code("373068000", "SCT", "Undetermined")
COMMENT: Final = Code("121106", "DCM", "Comment")
# The one that the validator of the Connectathons accepts for radiographs.
IMAGING_PROCEDURE: Final = Code("363679005", "SCT", "Imaging procedure")
ARTIFICIAL_INTELLIGENCE: Final = Code("123110", "DCM", "Artificial Intelligence")
QUALITATIVE_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")
MEASUREMENT_REPORT: Final = Code("126000", "DCM", "Imaging Measurement Report")
FINDINGS: Final = Code("121070", "DCM", "Findings")  # CID 7001
FINDING: Final = Code("121071", "DCM", "Finding")
CONCLUSIONS: Final = Code("121076", "DCM", "Conclusions")
CONCLUSION: Final = Code("121077", "DCM", "Conclusion")
DEVICE: Final = sr.CodedConcept("121007", "DCM", "Device")
ENGLISH: Final = sr.CodedConcept("en-US", "RFC5646", "English (United States)")
IMAGING_REPORT: Final = Code("18748-4", "LN", "Diagnostic Imaging Report")  # CID 7000

NOT_CLINICAL: Final = "Demonstration model, not for clinical use."


@dataclass(frozen=True, slots=True)
class Model:
    """The model, in the words of its card; the same in every place of a report."""

    name: str
    version: str
    manufacturer: str
    device_uid: str
    udi: str
    warnings: tuple[str, ...]

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> "Model":
        """Read a checked ``model_card.json``; a missing ``clinical_use`` counts as false."""
        warnings = [str(text) for text in card.get("warnings", ())]
        if not card.get("clinical_use", False) and not any("clinical use" in text for text in warnings):
            warnings.insert(0, NOT_CLINICAL)
        return cls(
            name=str(card["name"]),
            version=str(card["version"]),
            manufacturer=str(card["manufacturer"]),
            device_uid=str(card["device_uid"]),
            udi=str(card.get("udi", "")),
            warnings=tuple(warnings),
        )


@dataclass(frozen=True, slots=True)
class Subject:
    """What the content is about.

    Attributes
    ----------
    image : Dataset
        From `source.evidence`.
    encoding : str
        In which all texts must be writable.
    tracking_uids : sequence of str
        One a finding, in their order.
    serial_number : str
        Of the gateway.
    """

    image: Dataset
    encoding: str
    tracking_uids: Sequence[str]
    serial_number: str

    def text(self, text: str) -> str:
        """`text` in the image's character set, with plain letters where it lacks others."""
        try:
            text.encode(self.encoding)
        except UnicodeEncodeError:
            simple = unicodedata.normalize("NFKD", text.translate(_PLAIN))
            return simple.encode("ascii", "ignore").decode()
        return text


# Typographic characters that Unicode does not decompose: dashes, quotation marks, an ellipsis, sharp s.
_PLAIN: Final = {
    0x2013: "-",
    0x2014: "-",
    0x2018: "'",
    0x2019: "'",
    0x201C: '"',
    0x201D: '"',
    0x2026: "...",
    0x00DF: "ss",
}


@dataclass(frozen=True, slots=True)
class Statement:
    """One finding, ready to be written."""

    name: str
    code: FindingCode
    percent: float
    presence: Code
    threshold: float


def statements(result: InferenceResult, overrides: Sequence[CodeSettings]) -> list[Statement]:
    """The result in the report's terms.

    Raises
    ------
    ResultUnsuitable
        There is no finding, or one has no probability from 0 to 1.
    CodeInvalid
        See `codes.finding_code`.
    """
    if not result.findings:
        raise ResultUnsuitable("findings", expected="at least one", got=0)
    return [_statement(finding, overrides) for finding in result.findings]


def _statement(finding: FindingResult, overrides: Sequence[CodeSettings]) -> Statement:
    if not 0.0 <= finding.probability <= 1.0:
        raise ResultUnsuitable(f"probability of {finding.name}", expected="0 to 1", got="another number")
    return Statement(
        name=finding.name,
        code=finding_code(finding, overrides),
        percent=round(100.0 * finding.probability, 2),
        presence=PRESENT if finding.present else ABSENT,
        threshold=finding.threshold,
    )


def measurement_report(
    subject: Subject, model: Model, result: InferenceResult, findings: Sequence[Statement]
) -> sr.MeasurementReport:
    """A content tree with root TID 1500."""
    groups = [
        _measurement_group(subject, model, result, finding, uid)
        for finding, uid in zip(findings, subject.tracking_uids, strict=True)
    ]
    report = sr.MeasurementReport(
        observation_context=_observer(subject, model),
        procedure_reported=IMAGING_PROCEDURE,
        imaging_measurements=groups,
        title=MEASUREMENT_REPORT,
        referenced_images=[subject.image],
    )
    if model.warnings:
        container = _container(QUALITATIVE_EVALUATIONS)
        container.ContentSequence = sr.ContentSequence(
            [_text(subject, COMMENT, warning) for warning in model.warnings]
        )
        report[0].ContentSequence.append(container)
    return report


def _measurement_group(
    subject: Subject, model: Model, result: InferenceResult, finding: Statement, uid: str
) -> sr.MeasurementsAndQualitativeEvaluations:
    """TID 1501 for one finding."""
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=uid, identifier=subject.text(finding.name)),
        finding_type=_coded(subject, finding.code.concept),
        finding_sites=[sr.FindingSite(anatomic_location=_coded(subject, finding.code.site))],
        algorithm_id=sr.AlgorithmIdentification(
            name=subject.text(model.name),
            version=subject.text(model.version),
            manufacturer=subject.text(model.manufacturer),
            family=ARTIFICIAL_INTELLIGENCE,
            parameters=algorithm_parameters(result, finding),
        ),
        measurements=[sr.Measurement(name=CERTAINTY, value=finding.percent, unit=PERCENT)],
        qualitative_evaluations=[sr.QualitativeEvaluation(name=PRESENCE, value=finding.presence)],
        source_images=[
            sr.SourceImageForMeasurementGroup(subject.image.SOPClassUID, subject.image.SOPInstanceUID)
        ],
    )


def algorithm_parameters(result: InferenceResult, finding: Statement) -> list[str]:
    """What fixes the computation besides the image (TID 4019, Algorithm Parameters)."""
    return [
        f"Operating threshold: {100 * finding.threshold:g} %",
        f"Model bundle: {result.bundle_id}",
        f"Model bundle SHA-256: {result.bundle_digest}",
        "Computation: secure, between two parties",
    ]


def text_report(
    subject: Subject, model: Model, result: InferenceResult, findings: Sequence[Statement]
) -> sr.ContentSequence:
    """A content tree with root TID 2000, of texts, codes and the image only (Basic Text SR)."""
    root = sr.ContainerContentItem(name=IMAGING_REPORT, template_id="2000")
    items = sr.ContentSequence()
    items.extend(sr.LanguageOfContentItemAndDescendants(ENGLISH))
    items.extend(_observer(subject, model))
    items.append(_section(FINDINGS, _finding_texts(subject, result, findings)))
    said = [_text(subject, CONCLUSION, f"{model.name} {model.version}, {model.manufacturer}")]
    said += [_text(subject, CONCLUSION, warning) for warning in model.warnings]
    items.append(_section(CONCLUSIONS, said))
    root.ContentSequence = items
    return sr.ContentSequence([root], is_root=True)


def _finding_texts(
    subject: Subject, result: InferenceResult, findings: Sequence[Statement]
) -> list[sr.ContentItem]:
    image = sr.ImageContentItem(
        name=Code("121080", "DCM", "Best illustration of finding"),
        referenced_sop_class_uid=subject.image.SOPClassUID,
        referenced_sop_instance_uid=subject.image.SOPInstanceUID,
        relationship_type=RelationshipTypeValues.CONTAINS,
    )
    lines = []
    for finding in findings:
        line = (
            f"{finding.code.concept.meaning}: {finding.presence.meaning.lower()}, probability "
            f"{finding.percent:.2f} % (operating threshold {100 * finding.threshold:g} %)"
        )
        lines.append(_text(subject, FINDING, line))
    lines.append(_text(subject, FINDING, f"Model bundle SHA-256: {result.bundle_digest}"))
    return [*lines, image]


def _observer(subject: Subject, model: Model) -> sr.ObservationContext:
    """TID 1001: the model is the device that observed."""
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=hd.UID(model.device_uid),
        name=subject.text(model.name),
        manufacturer_name=subject.text(model.manufacturer),
        model_name=subject.text(model.name),
        serial_number=subject.text(subject.serial_number),
    )
    context = sr.ObserverContext(observer_type=DEVICE, observer_identifying_attributes=device)
    return sr.ObservationContext(observer_device_context=context)


def _section(heading: Code, items: Sequence[sr.ContentItem]) -> sr.ContainerContentItem:
    container = _container(heading)
    container.ContentSequence = sr.ContentSequence(items)
    return container


def _container(name: Code) -> sr.ContainerContentItem:
    return sr.ContainerContentItem(name=name, relationship_type=RelationshipTypeValues.CONTAINS)


def _text(subject: Subject, name: Code, text: str) -> sr.TextContentItem:
    return sr.TextContentItem(
        name=name, value=subject.text(text), relationship_type=RelationshipTypeValues.CONTAINS
    )


def _coded(subject: Subject, concept: Concept) -> sr.CodedConcept:
    return sr.CodedConcept(
        value=concept.value, scheme_designator=concept.scheme, meaning=subject.text(concept.meaning)
    )
