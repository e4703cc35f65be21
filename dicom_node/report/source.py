"""What a report takes over from the image that it is about."""

import copy
from typing import Final

from pydicom import DataElement, Dataset
from pydicom.charset import python_encoding
from pydicom.datadict import tag_for_keyword
from pydicom.multival import MultiValue

from dicom_node.report.errors import ImageUnsuitable

_IDENTIFIERS: Final = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")

# PS3.3 C.7.1.1, C.7.2.1, C.7.2.2, C.12.1: what names patient, study and order, and the way of writing.
_COPIED: Final = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence",
    "StudyDescription",
    "ProcedureCodeSequence",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
)
_REQUEST: Final = (
    "RequestedProcedureID",
    "RequestedProcedureDescription",
    "RequestedProcedureCodeSequence",
    "PlacerOrderNumberImagingServiceRequest",
    "FillerOrderNumberImagingServiceRequest",
    "ReasonForTheRequestedProcedure",
)
_STUDY_TYPE_2: Final = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)


def evidence(image: Dataset) -> Dataset:
    """A stand-in for the image with only what the report's content refers to.

    highdicom refuses a whole report for an attribute of the patient that it thinks odd; those are copied
    later, as they came.

    Raises
    ------
    ImageUnsuitable
        An identifier is missing.
    """
    made = Dataset()
    for keyword in _IDENTIFIERS:
        value = image.get(keyword)
        if not value or isinstance(value, MultiValue):
            raise ImageUnsuitable(keyword, expected="one unique identifier", got="none")
        setattr(made, keyword, value)
    for keyword in _STUDY_TYPE_2:
        setattr(made, keyword, "")
    made.Rows, made.Columns = image.get("Rows"), image.get("Columns")
    orientation, spacing = image.get("PatientOrientation"), image.get("ImagerPixelSpacing")
    described = all(isinstance(value, MultiValue) and len(value) == 2 for value in (orientation, spacing))
    # highdicom describes these modalities by orientation and spacing, and requires both.
    made.Modality = image.get("Modality", "OT") if described else "OT"
    if described:
        made.PatientOrientation, made.ImagerPixelSpacing = orientation, spacing
    return made


def copy_identity(image: Dataset, report: Dataset) -> None:
    """Write the patient, the study, the order, the time zone and the character set as the image has them."""
    for keyword in _COPIED:
        element = _element(image, keyword)
        if element is not None:
            report[element.tag] = copy.deepcopy(element)
        elif keyword in ("SpecificCharacterSet", "TimezoneOffsetFromUTC") and keyword in report:
            del report[keyword]
    _copy_request(image, report)


def _element(image: Dataset, keyword: str) -> DataElement | None:
    tag = tag_for_keyword(keyword)
    return image[tag] if tag is not None and tag in image else None


def _copy_request(image: Dataset, report: Dataset) -> None:
    """Referenced Request Sequence (PS3.3 C.17.2) from the image's order, where it has one."""
    requests = list(image.get("RequestAttributesSequence") or ())
    if not requests and not image.get("AccessionNumber"):
        return
    items = []
    for request in requests or [Dataset()]:
        item = Dataset()
        item.StudyInstanceUID = image.StudyInstanceUID
        item.ReferencedStudySequence = []
        item.RequestedProcedureID = item.RequestedProcedureDescription = ""
        item.PlacerOrderNumberImagingServiceRequest = item.FillerOrderNumberImagingServiceRequest = ""
        item.RequestedProcedureCodeSequence = []
        item.AccessionNumber = request.get("AccessionNumber") or image.get("AccessionNumber", "")
        for keyword in _REQUEST:
            element = _element(request, keyword)
            if element is not None:
                item[element.tag] = copy.deepcopy(element)
        items.append(item)
    report.ReferencedRequestSequence = items


def encoding(image: Dataset) -> str:
    """Python's name of the image's first character set, in which the report's own texts must fit."""
    value = image.get("SpecificCharacterSet") or ""
    first = value[0] if isinstance(value, MultiValue | list) else value
    name = python_encoding.get(str(first), "ascii")
    return "ascii" if name == "iso8859" and not first else name
