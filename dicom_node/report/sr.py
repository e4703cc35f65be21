"""The report as a DICOM object: a Structured Report in the image's study (PS3.3 A.35, IHE AI Results 1.3).

The same image, model and result give the same bytes: unique identifiers derive from image and bundle, times
from the result. So a re-send is the same object, and the report of another model version is another one.
"""

import hashlib
import io
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from highdicom import sr
from pydicom import Dataset
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    EnhancedSRStorage,
)

from dicom_node.config import ReportSettings
from dicom_node.identity import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.intake.reading import MALFORMED, read
from dicom_node.report import content, source
from dicom_node.report.codes import PRIVATE_SCHEME
from dicom_node.report.errors import ReportError
from dicom_node.steps import InferenceResult

_CLASSES: Final = {
    "comprehensive-3d": (Comprehensive3DSRStorage, sr.Comprehensive3DSR),
    "comprehensive": (ComprehensiveSRStorage, sr.ComprehensiveSR),
    "enhanced": (EnhancedSRStorage, sr.EnhancedSR),
    "basic-text": (BasicTextSRStorage, sr.EnhancedSR),
}


def build_report(
    image_path: Path, result: InferenceResult, model_card: Mapping[str, Any], settings: ReportSettings
) -> bytes:
    """Make the report of one image.

    Parameters
    ----------
    image_path : Path
        The DICOM file that was looked at.
    result : InferenceResult
    model_card : mapping
        A checked ``model_card.json``.
    settings : ReportSettings

    Returns
    -------
    bytes
        A DICOM file (PS3.10), Explicit VR Little Endian.

    Raises
    ------
    IntakeError, ImageUnsuitable
        The image can't be read, or lacks an identifier.
    ResultUnsuitable, CodeInvalid
        The result can't be said.
    ReportError
        The report would not be valid.
    """
    image = read(image_path, with_pixels=False)
    try:
        return _report(image, result, model_card, settings)
    except MALFORMED as error:
        # highdicom's and pydicom's messages may quote values of the patient.
        raise ReportError("report", expected="valid attributes", got=type(error).__name__) from error


def _report(
    image: Dataset, result: InferenceResult, model_card: Mapping[str, Any], settings: ReportSettings
) -> bytes:
    model = content.Model.from_card(model_card)
    findings = content.statements(result, settings.code)
    evidence = source.evidence(image)
    sop_class = _CLASSES[settings.sop_class][0]
    instance = report_uid(evidence.SOPInstanceUID, result.bundle_digest, sop_class)
    subject = content.Subject(
        image=evidence,
        encoding=source.encoding(image),
        tracking_uids=[derived_uid(instance, "finding", finding.name) for finding in findings],
        serial_number=settings.device_serial_number,
    )
    document = _document(subject, model, result, findings, settings, instance)
    source.copy_identity(image, document)
    _complete(document, image, subject, model, result)
    return _encode(document)


def report_uid(image_uid: str, bundle_digest: str, sop_class: str = Comprehensive3DSRStorage) -> str:
    """SOP Instance UID of the report of an image by a model; does not depend on the result."""
    return derived_uid("report", image_uid, bundle_digest, sop_class)


def derived_uid(*parts: str) -> str:
    """A unique identifier from texts (PS3.5 B.2, with the first 128 bits of a SHA-256)."""
    digest = hashlib.sha256("\x1f".join(("blindread", *parts)).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def _document(
    subject: content.Subject,
    model: content.Model,
    result: InferenceResult,
    findings: list[content.Statement],
    settings: ReportSettings,
    instance: str,
) -> Dataset:
    """The content tree in its SOP class, not yet with the patient's attributes."""
    sop_class, constructor = _CLASSES[settings.sop_class]
    build = content.text_report if settings.sop_class == "basic-text" else content.measurement_report
    document: Dataset = constructor(
        evidence=[subject.image],
        content=build(subject, model, result, findings)[0],
        series_instance_uid=derived_uid("series", subject.image.StudyInstanceUID, result.bundle_digest),
        series_number=settings.series_number,
        sop_instance_uid=instance,
        instance_number=1,
        is_complete=True,
        is_final=False,
        is_verified=False,
        manufacturer=subject.text(settings.manufacturer),
        institution_name=subject.text(settings.institution_name) if settings.institution_name else None,
        series_description=subject.text(settings.series_description),
        manufacturer_model_name="blindread gateway",
        software_versions=_software_version(),
        device_serial_number=subject.text(settings.device_serial_number),
    )
    document.SOPClassUID = sop_class
    document.file_meta.MediaStorageSOPClassUID = sop_class
    return document


def _complete(
    document: Dataset,
    image: Dataset,
    subject: content.Subject,
    model: content.Model,
    result: InferenceResult,
) -> None:
    """What highdicom leaves out or fills with the present time."""
    moment = result.finished.astimezone(_zone(image))
    day, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S.%f")
    document.InstanceCreationDate = document.ContentDate = document.SeriesDate = day
    document.InstanceCreationTime = document.ContentTime = document.SeriesTime = time
    document.InstanceCreatorUID = IMPLEMENTATION_CLASS_UID
    document.ContributingEquipmentSequence = [_equipment(subject, model, moment)]
    if any(
        item.value == PRIVATE_SCHEME
        for item in document.iterall()
        if item.keyword == "CodingSchemeDesignator"
    ):
        document.CodingSchemeIdentificationSequence = [_private_scheme()]
    meta = document.file_meta
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME


def _zone(image: Dataset) -> timezone | None:
    """The image's time zone; None (the gateway's own) when it has none."""
    text = str(image.get("TimezoneOffsetFromUTC", "") or "")
    if len(text) != 5 or text[0] not in "+-" or not text[1:].isdigit():
        return None
    offset = timedelta(hours=int(text[1:3]), minutes=int(text[3:]))
    return timezone(-offset if text[0] == "-" else offset) if offset < timedelta(days=1) else None


def _equipment(subject: content.Subject, model: content.Model, moment: datetime) -> Dataset:
    """The model as contributing equipment (PS3.3 C.12.1.1.5, IHE AI Results); equal to TID 4019's values."""
    item = Dataset()
    purpose = Dataset()
    purpose.CodeValue, purpose.CodingSchemeDesignator = "109102", "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    item.PurposeOfReferenceCodeSequence = [purpose]
    item.Manufacturer = subject.text(model.manufacturer)
    item.ManufacturerModelName = subject.text(model.name)
    item.SoftwareVersions = subject.text(model.version)
    item.DeviceSerialNumber = subject.text(subject.serial_number)
    item.DeviceUID = model.device_uid
    if model.udi:
        udi = Dataset()
        udi.UniqueDeviceIdentifier = model.udi
        item.UDISequence = [udi]
    item.ContributionDateTime = moment.strftime("%Y%m%d%H%M%S.%f%z")
    item.ContributionDescription = "Private inference of the findings"
    return item


def _private_scheme() -> Dataset:
    """Coding Scheme Identification (PS3.3 C.12.1.1.7)."""
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE_SCHEME
    item.CodingSchemeUID = derived_uid("coding scheme", PRIVATE_SCHEME)
    item.CodingSchemeName = "blindread findings without a standard code"
    item.CodingSchemeResponsibleOrganization = "blindread"
    return item


def _software_version() -> str:
    try:
        return version("blindread")
    except PackageNotFoundError:
        return "unpackaged"


def _encode(document: Dataset) -> bytes:
    buffer = io.BytesIO()
    document.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
