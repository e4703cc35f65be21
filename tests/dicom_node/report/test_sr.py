import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom import Dataset, FileDataset
from pydicom.data import get_testdata_file

from dicom_node.config import CodeSettings, ReportSettings
from dicom_node.intake.errors import IntakeError
from dicom_node.report import build_report, print_content_tree, report_uid
from dicom_node.report.errors import CodeInvalid, ImageUnsuitable, ResultUnsuitable
from dicom_node.steps import FindingResult, InferenceResult

Card = Mapping[str, Any]
CLASSES = {
    "comprehensive-3d": "1.2.840.10008.5.1.4.1.1.88.34",
    "comprehensive": "1.2.840.10008.5.1.4.1.1.88.33",
    "enhanced": "1.2.840.10008.5.1.4.1.1.88.22",
    "basic-text": "1.2.840.10008.5.1.4.1.1.88.11",
}


def parse(content: bytes) -> FileDataset:
    return pydicom.dcmread(io.BytesIO(content))


def items(dataset: Dataset) -> Iterator[Dataset]:
    yield dataset
    for child in dataset.get("ContentSequence", ()):
        yield from items(child)


def named(dataset: Dataset, value: str) -> list[Dataset]:
    return [
        item
        for item in items(dataset)
        if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == value
    ]


def resaved(radiograph: FileDataset, path: Path) -> Path:
    radiograph.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("sop_class", CLASSES)
def test_report_has_the_configured_class(
    image: Path, result: InferenceResult, card: Card, sop_class: str
) -> None:
    report = parse(build_report(image, result, card, ReportSettings(sop_class=sop_class)))
    assert report.SOPClassUID == report.file_meta.MediaStorageSOPClassUID == CLASSES[sop_class]
    assert report.file_meta.MediaStorageSOPInstanceUID == report.SOPInstanceUID
    assert (report.Modality, report.CompletionFlag) == ("SR", "COMPLETE")
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")


def test_report_lies_in_the_images_study_and_names_its_order(
    radiograph: FileDataset, tmp_path: Path, result: InferenceResult, card: Card
) -> None:
    request = Dataset()
    request.RequestedProcedureID, request.ScheduledProcedureStepID = "RP7", "SPS7"
    radiograph.RequestAttributesSequence = [request]
    radiograph.IssuerOfPatientID = "HOSPITAL"
    report = parse(
        build_report(resaved(radiograph, tmp_path / "r.dcm"), result, card, ReportSettings(series_number=77))
    )
    for keyword in (
        "StudyInstanceUID",
        "PatientID",
        "PatientName",
        "PatientSex",
        "PatientAge",
        "IssuerOfPatientID",
        "AccessionNumber",
        "StudyDate",
        "StudyTime",
        "StudyID",
        "StudyDescription",
    ):
        assert report[keyword].value == radiograph[keyword].value
    assert report.SeriesInstanceUID != radiograph.SeriesInstanceUID
    assert (report.SeriesNumber, report.SeriesDescription) == (77, "AI findings")
    order = report.ReferencedRequestSequence[0]
    assert (order.RequestedProcedureID, order.AccessionNumber) == ("RP7", radiograph.AccessionNumber)
    reference = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert reference.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == radiograph.SOPInstanceUID


def test_probability_presence_and_site_of_each_finding_are_said(
    image: Path, result: InferenceResult, card: Card
) -> None:
    report = parse(build_report(image, result, card, ReportSettings()))
    groups = named(report, "125007")
    assert len(groups) == 2
    said = []
    for group in groups:
        number = named(group, "111012")[0].MeasuredValueSequence[0]
        assert number.MeasurementUnitsCodeSequence[0].CodeValue == "%"
        said.append(
            (
                named(group, "121071")[0].ConceptCodeSequence[0].CodeValue,
                float(number.NumericValue),
                named(group, "705057003")[0].ConceptCodeSequence[0].CodeValue,
                named(group, "363698007")[0].ConceptCodeSequence[0].CodeValue,
            )
        )
        reference = named(group, "121112")[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == pydicom.dcmread(image).SOPInstanceUID
    assert said == [
        ("233604007", 91.52, "52101004", "39607008"),
        ("NO_FINDING", 12.0, "272519000", "816094009"),
    ]


def test_probability_at_the_threshold_is_present(image: Path, result: InferenceResult, card: Card) -> None:
    exact = InferenceResult(
        (FindingResult("Pneumonia", 0.8, 0.8),), (1.4,), result.bundle_id, "e" * 64, result.finished_at, 1.0
    )
    report = parse(build_report(image, exact, card, ReportSettings()))
    assert named(report, "705057003")[0].ConceptCodeSequence[0].CodeMeaning == "Present"


def test_algorithm_and_equipment_name_the_same_model(
    image: Path, result: InferenceResult, card: Card
) -> None:
    report = parse(build_report(image, result, dict(card, udi="(01)00844588003288"), ReportSettings()))
    (equipment,) = report.ContributingEquipmentSequence
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109102"
    assert equipment.DeviceUID == card["device_uid"]
    assert equipment.UDISequence[0].UniqueDeviceIdentifier == "(01)00844588003288"
    group = named(report, "125007")[0]
    assert equipment.ManufacturerModelName == named(group, "111001")[0].TextValue == card["name"]
    assert equipment.SoftwareVersions == named(group, "111003")[0].TextValue == card["version"]
    assert equipment.Manufacturer == named(group, "122405")[0].TextValue == card["manufacturer"]
    assert named(group, "111000")[0].ConceptCodeSequence[0].CodeValue == "123110"
    parameters = [item.TextValue for item in named(group, "111002")]
    assert "Operating threshold: 80 %" in parameters
    assert f"Model bundle SHA-256: {result.bundle_digest}" in parameters


@pytest.mark.parametrize("sop_class", ["comprehensive-3d", "basic-text"])
def test_demonstration_model_is_called_one(
    image: Path, result: InferenceResult, card: Card, sop_class: str
) -> None:
    settings = ReportSettings(sop_class=sop_class)
    text = print_content_tree(parse(build_report(image, result, card, settings)))
    assert "Demonstration model, not for clinical use." in text
    assert "Trained on children" in text
    registered = dict(card, clinical_use=True, warnings=[])
    text = print_content_tree(parse(build_report(image, result, registered, settings)))
    assert "clinical use" not in text


def test_same_arguments_give_the_same_bytes(image: Path, result: InferenceResult, card: Card) -> None:
    first = build_report(image, result, card, ReportSettings())
    assert build_report(image, result, card, ReportSettings()) == first


def test_identifiers_follow_image_and_model_but_not_the_result(
    image: Path, result: InferenceResult, card: Card
) -> None:
    report = parse(build_report(image, result, card, ReportSettings()))
    again = InferenceResult(
        (FindingResult("Pneumonia", 0.1, 0.8),), (0.0,), "x", result.bundle_digest, result.finished_at, 1.0
    )
    other = InferenceResult(result.findings, result.logits, "x", "ee" * 32, result.finished_at, 1.0)
    assert parse(build_report(image, again, card, ReportSettings())).SOPInstanceUID == report.SOPInstanceUID
    assert parse(build_report(image, other, card, ReportSettings())).SOPInstanceUID != report.SOPInstanceUID
    text = parse(build_report(image, result, card, ReportSettings(sop_class="basic-text")))
    assert text.SOPInstanceUID != report.SOPInstanceUID
    assert text.SeriesInstanceUID == report.SeriesInstanceUID
    image_uid = pydicom.dcmread(image).SOPInstanceUID
    assert report.SOPInstanceUID == report_uid(image_uid, result.bundle_digest)
    assert len(report.SOPInstanceUID) <= 64


def test_times_are_the_results_in_the_images_time_zone(
    radiograph: FileDataset, tmp_path: Path, result: InferenceResult, card: Card
) -> None:
    radiograph.TimezoneOffsetFromUTC = "+0530"
    path = resaved(radiograph, tmp_path / "r.dcm")
    report = parse(build_report(path, result, card, ReportSettings()))
    assert report.TimezoneOffsetFromUTC == "+0530"
    assert (report.ContentDate, report.ContentTime) == ("20261124", "105000.250000")
    assert (report.SeriesDate, report.SeriesTime) == ("20261124", "105000.250000")
    assert report.ContributingEquipmentSequence[0].ContributionDateTime == "20261124105000.250000+0530"


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 100", "M\u00fcller^J\u00f6rg"),
        ("ISO_IR 192", "\u041b\u044e\u043a\u0441\u0435\u043c\u0431\u0443\u0440\u0433"),
        (
            ["", "ISO 2022 IR 87"],
            "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce=\u3084\u307e\u3060^\u305f\u308d\u3046",
        ),
        (None, "Plain^Name"),
    ],
)
def test_patients_name_and_character_set_arrive_unchanged(
    radiograph: FileDataset,
    tmp_path: Path,
    result: InferenceResult,
    card: Card,
    charset: object,
    name: str,
) -> None:
    if charset is None:
        del radiograph.SpecificCharacterSet
    else:
        radiograph.SpecificCharacterSet = charset
    radiograph.PatientName = name
    path = resaved(radiograph, tmp_path / "r.dcm")
    settings = ReportSettings(institution_name="Klinik M\u00fcnchen")
    report = parse(build_report(path, result, card, settings))
    assert report.PatientName == name
    assert report.get("SpecificCharacterSet") == charset
    assert report.InstitutionName in ("Klinik M\u00fcnchen", "Klinik Munchen")
    assert "Trained on children of one to five years" in print_content_tree(report)


def test_odd_attributes_of_the_patient_do_not_stop_the_report(
    radiograph: FileDataset, tmp_path: Path, result: InferenceResult, card: Card
) -> None:
    for keyword in ("PatientBirthDate", "StudyID", "AccessionNumber", "ReferringPhysicianName"):
        del radiograph[keyword]
    for keyword in ("ImagerPixelSpacing", "PatientOrientation"):
        del radiograph[keyword]
    radiograph.PatientSex = "O"
    radiograph.PatientName = "NOCARETS"
    radiograph.StudyTime = "101500.123"
    report = parse(build_report(resaved(radiograph, tmp_path / "r.dcm"), result, card, ReportSettings()))
    assert report.PatientBirthDate in ("", None)
    assert report.AccessionNumber in ("", None)
    assert "ReferencedRequestSequence" not in report


@pytest.mark.parametrize("name", ["dx_deflated_12bit", "cr_mono1_voilut_jpegll", "sc_ybr422_jpeg"])
def test_report_can_be_made_for_each_kind_of_image(name: str, result: InferenceResult, card: Card) -> None:
    path = Path(__file__).parents[2] / "data" / "dicom" / "derived" / f"{name}.dcm"
    report = parse(build_report(path, result, card, ReportSettings()))
    assert report.StudyInstanceUID == pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID


def test_private_scheme_is_identified_only_where_it_is_used(
    image: Path, result: InferenceResult, card: Card
) -> None:
    report = parse(build_report(image, result, card, ReportSettings()))
    (scheme,) = report.CodingSchemeIdentificationSequence
    assert scheme.CodingSchemeDesignator == "99BLINDREAD"
    site = CodeSettings(finding="No Finding", scheme="99SITE", value="NF", meaning="No finding")
    report = parse(build_report(image, result, card, ReportSettings(code=(site,))))
    assert "CodingSchemeIdentificationSequence" not in report
    assert named(report, "121071")[1].ConceptCodeSequence[0].CodeValue == "NF"


def test_image_without_identifiers_is_refused(
    radiograph: FileDataset, tmp_path: Path, result: InferenceResult, card: Card
) -> None:
    del radiograph.StudyInstanceUID
    path = resaved(radiograph, tmp_path / "r.dcm")
    with pytest.raises(ImageUnsuitable, match="StudyInstanceUID: expected one unique identifier"):
        build_report(path, result, card, ReportSettings())


def test_file_that_is_no_image_is_refused(tmp_path: Path, result: InferenceResult, card: Card) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(b"nothing")
    with pytest.raises(IntakeError):
        build_report(path, result, card, ReportSettings())


@pytest.mark.parametrize("probability", [1.5, -0.1, float("nan")])
def test_number_that_is_no_probability_is_refused(
    image: Path, result: InferenceResult, card: Card, probability: float
) -> None:
    bad = InferenceResult(
        (FindingResult("Pneumonia", probability, 0.5),), (1.5,), "x", "ee" * 32, result.finished_at, 1.0
    )
    with pytest.raises(ResultUnsuitable, match="probability of Pneumonia: expected 0 to 1"):
        build_report(image, bad, card, ReportSettings())


def test_models_own_wrong_code_is_refused(image: Path, result: InferenceResult, card: Card) -> None:
    wrong = {"scheme": "SCT", "value": "233604001", "meaning": "Pneumonia"}
    bad = InferenceResult(
        (FindingResult("Pneumonia", 0.5, 0.5, wrong),), (0.0,), "x", "ee" * 32, result.finished_at, 1.0
    )
    with pytest.raises(CodeInvalid, match="233604001"):
        build_report(image, bad, card, ReportSettings())


def test_content_tree_of_a_strange_report_is_printed() -> None:
    text = print_content_tree(pydicom.dcmread(get_testdata_file("test-SR.dcm")))
    assert text.count("\n") > 5
