from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import Dataset, FileDataset
from pydicom.data import get_testdata_file
from pydicom.uid import DigitalXRayImageStorageForProcessing

from dicom_node.config import SelectionSettings
from dicom_node.intake.selection import Reason, examine, narrow, select_study, view_of

Write = Callable[..., Path]
RULES = SelectionSettings()
DERIVED = Path(__file__).parents[2] / "data" / "dicom" / "derived"


def code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "x"
    return item


def viewless(radiograph: FileDataset) -> FileDataset:
    for keyword in ("ViewCodeSequence", "ViewPosition", "PatientOrientation", "SeriesDescription"):
        del radiograph[keyword]
    return radiograph


def test_frontal_chest_radiograph_is_chosen(radiograph: FileDataset, stored: Write) -> None:
    path = stored(radiograph)
    assert select_study([path], RULES).path == path


@pytest.mark.parametrize("path", sorted(DERIVED.glob("[cd][rx]_*.dcm")), ids=lambda p: p.stem)
def test_shipped_radiograph_is_chosen(path: Path) -> None:
    assert select_study([path], RULES).path == path


def test_several_eligible_images_choose_pa_whatever_the_order(radiograph: FileDataset, stored: Write) -> None:
    first = stored(radiograph, "a.dcm")
    radiograph.ViewCodeSequence, radiograph.ViewPosition = [code("272479007")], "PA"
    radiograph.InstanceNumber = 9
    second = stored(radiograph, "b.dcm")
    assert select_study([first, second], RULES).path == second
    assert select_study([second, first], RULES).path == second


def test_unreadable_object_does_not_hide_a_good_one(
    radiograph: FileDataset, stored: Write, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"nothing")
    good = stored(radiograph)
    assert select_study([bad, good], RULES).path == good


@pytest.mark.parametrize(
    ("name", "reason", "hold"),
    [
        ("CT_small.dcm", "intake.modality", False),
        ("MR_small_bigendian.dcm", "intake.modality", False),
        ("test-SR.dcm", "intake.modality", False),
    ],
)
def test_real_object_of_another_kind_is_skipped(name: str, reason: str, hold: bool) -> None:
    got = select_study([Path(get_testdata_file(name))], RULES)
    assert (got.path, got.reason, got.hold) == (None, reason, hold)
    assert got.detail


def test_study_without_objects_and_unreadable_study_are_held(tmp_path: Path) -> None:
    assert select_study([], RULES).reason == "intake.no_object"
    bad = tmp_path / "bad.dcm"
    bad.write_bytes(b"nothing")
    got = select_study([bad], RULES)
    assert (got.reason, got.hold) == ("intake.unreadable", True)


@pytest.mark.parametrize(
    ("changes", "reason", "hold"),
    [
        ({"Modality": "MG"}, Reason.MODALITY, False),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, Reason.OBJECT_CLASS, False),
        ({"AnatomicRegionSequence": [], "BodyPartExamined": "KNEE"}, Reason.BODY_PART, False),
        ({"AnatomicRegionSequence": [code("72696002")]}, Reason.BODY_PART, False),
        ({"AnatomicRegionSequence": [], "BodyPartExamined": ""}, Reason.BODY_PART_UNKNOWN, True),
        ({"PresentationIntentType": "FOR PROCESSING"}, Reason.FOR_PROCESSING, False),
        ({"SOPClassUID": DigitalXRayImageStorageForProcessing}, Reason.FOR_PROCESSING, False),
        ({"ViewCodeSequence": [code("399067008")]}, Reason.VIEW, False),
        ({"ViewCodeSequence": [code("399312000")]}, Reason.VIEW_UNKNOWN, True),
        ({"PatientOrientation": ["R", "F"]}, Reason.ORIENTATION, True),
        ({"BurnedInAnnotation": "YES"}, Reason.BURNED_IN, True),
    ],
)
def test_object_outside_the_rules_gets_its_reason(
    radiograph: FileDataset, changes: dict[str, object], reason: Reason, hold: bool
) -> None:
    for keyword, value in changes.items():
        setattr(radiograph, keyword, value)
    got = examine(radiograph, RULES)
    assert (got.reason, got.hold) == (reason, hold)


@pytest.mark.parametrize(
    ("changes", "view"),
    [
        ({"ViewCodeSequence": [code("R-10206")], "ViewPosition": "LL"}, "AP"),
        ({"ViewPosition": "PA", "PatientOrientation": ["P", "F"]}, "PA"),
        ({"ViewPosition": "LL"}, "LL"),
        ({"ViewPosition": "RLD"}, "OTHER"),
        ({"ViewPosition": "??", "PatientOrientation": ["L", "F"]}, "FRONTAL"),
        ({"PatientOrientation": ["P", "F"]}, "LATERAL"),
        ({"PatientOrientation": ["A", "F"], "SeriesDescription": "chest pa"}, "LATERAL"),
        ({"PatientOrientation": ["LA", "FH"]}, "FRONTAL"),
        ({"SeriesDescription": "Chest p.a."}, "FRONTAL"),
        ({"SeriesDescription": "THORAX AP LIEGEND"}, "FRONTAL"),
        ({"SeriesDescription": "W chest lat"}, "LATERAL"),
        ({"ProtocolName": "Chest PA and lateral"}, None),
        ({"SeriesDescription": "chest happy"}, None),
        ({}, None),
    ],
)
def test_view_is_found_in_order_of_trust(
    radiograph: FileDataset, changes: dict[str, object], view: str | None
) -> None:
    dataset = viewless(radiograph)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    assert view_of(dataset) == view


@pytest.mark.parametrize(("configured", "hold"), [("hold", True), ("skip", False)])
def test_unknown_view_is_held_or_skipped_as_configured(
    radiograph: FileDataset, configured: str, hold: bool
) -> None:
    got = examine(viewless(radiograph), SelectionSettings(view_unknown=configured))
    assert (got.reason, got.hold) == (Reason.VIEW_UNKNOWN, hold)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"PatientAge": "004Y"}, None),
        ({"PatientAge": "005Y"}, None),
        ({"PatientAge": "006Y"}, Reason.AGE),
        ({"PatientAge": "011M"}, Reason.AGE),
        ({"PatientAge": "060W"}, None),
        ({"PatientAge": "", "PatientBirthDate": "20220301"}, None),
        ({"PatientAge": "", "PatientBirthDate": "19700301"}, Reason.AGE),
        ({"PatientAge": "old", "PatientBirthDate": "20229999"}, Reason.AGE_UNKNOWN),
        ({"PatientAge": ""}, Reason.AGE_UNKNOWN),
    ],
)
def test_age_is_checked_against_the_models_range(
    radiograph: FileDataset, changes: dict[str, str], reason: Reason | None
) -> None:
    rules = SelectionSettings(minimum_age_years=1, maximum_age_years=5, age_unknown="hold")
    radiograph.StudyDate = "20260102"
    for keyword, value in changes.items():
        setattr(radiograph, keyword, value)
    assert examine(radiograph, rules).reason == reason


def test_configured_exceptions_are_accepted(radiograph: FileDataset) -> None:
    radiograph.PresentationIntentType, radiograph.BurnedInAnnotation = "FOR PROCESSING", "YES"
    radiograph.AnatomicRegionSequence, radiograph.BodyPartExamined = [], ""
    rules = SelectionSettings(for_processing=True, burned_in_annotation=True, body_part_missing="accept")
    assert examine(radiograph, rules).reason is None


def test_furthest_object_speaks_for_the_study(radiograph: FileDataset, stored: Write) -> None:
    radiograph.ViewCodeSequence, radiograph.ViewPosition = [code("399067008")], "LL"
    lateral = stored(radiograph, "lateral.dcm")
    got = select_study([Path(get_testdata_file("CT_small.dcm")), lateral], RULES)
    assert got.reason == "intake.view"
    assert not got.hold


def test_models_intended_use_narrows_the_sites_rules() -> None:
    card = {"intended_use": {"modalities": ["CR", "SC"], "views": ["PA"], "age_years": [0, 6]}}
    rules = SelectionSettings(modalities=("CR", "DX"), views=("PA", "AP"), minimum_age_years=1)
    got = narrow(rules, card)
    assert (got.modalities, got.views) == (("CR",), ("PA",))
    assert (got.minimum_age_years, got.maximum_age_years) == (1, 6)
    assert got.body_parts == rules.body_parts


def test_card_without_limits_leaves_the_sites_rules() -> None:
    assert narrow(RULES, {}) == RULES
