import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dicom_node.config import CodeSettings
from dicom_node.config.load import valid_sctid
from dicom_node.report.codes import (
    _DEFAULTS,
    _SYNONYMS,
    CHEST,
    LUNG,
    PRIVATE_SCHEME,
    Concept,
    finding_code,
)
from dicom_node.report.errors import CodeInvalid
from dicom_node.steps import FindingResult

DIGITS = st.from_regex(r"[1-9][0-9]{4,16}", fullmatch=True)


def finding(name: str, code: dict[str, str] | None = None) -> FindingResult:
    return FindingResult(name, 0.5, 0.5, code)


def with_check_digit(digits: str) -> str:
    (found,) = [digits + d for d in "0123456789" if valid_sctid(digits + d)]
    return found


def test_published_identifiers_hold() -> None:
    for known in ("36118008", "138875005", "900000000000207008", "363679005", "705057003", "52101004"):
        assert valid_sctid(known)


@given(DIGITS)
def test_exactly_one_check_digit_fits(digits: str) -> None:
    assert sum(valid_sctid(digits + d) for d in "0123456789") == 1


@given(DIGITS, st.data())
def test_a_wrong_digit_is_always_found(digits: str, data: st.DataObject) -> None:
    good = with_check_digit(digits)
    place = data.draw(st.integers(1, len(good) - 1))
    wrong = data.draw(st.sampled_from([d for d in "0123456789" if d != good[place]]))
    assert not valid_sctid(good[:place] + wrong + good[place + 1 :])


@given(DIGITS, st.data())
def test_swapped_neighbours_are_always_found(digits: str, data: st.DataObject) -> None:
    good = with_check_digit(digits)
    place = data.draw(st.integers(1, len(good) - 2))
    assume(good[place] != good[place + 1])
    assert not valid_sctid(good[:place] + good[place + 1] + good[place] + good[place + 2 :])


@pytest.mark.parametrize("value", ["36118009", "63118008", "3611800", "036118008", "12a", "", "1" * 19])
def test_snomed_identifier_that_fails_its_check_is_refused(value: str) -> None:
    with pytest.raises(CodeInvalid):
        Concept(value, "SCT", "Pneumothorax")


def test_other_schemes_have_no_check_digit() -> None:
    assert Concept("RID5350", "RADLEX", "pneumonia").value == "RID5350"


@pytest.mark.parametrize(
    ("name", "value", "scheme", "site"),
    [
        ("Pneumonia", "233604007", "SCT", "Lung"),
        ("pneumonia", "233604007", "SCT", "Lung"),
        ("Lung Opacity", "112033", "DCM", "Lung"),
        ("Lung Lesion", "52988006", "SCT", "Lung"),
        ("Edema", "19242006", "SCT", "Lung"),
        ("Pleural_Effusion", "60046008", "SCT", "Pleura"),
        ("Cardiomegaly", "8186001", "SCT", "Heart"),
        ("Fracture", "125605004", "SCT", "Chest"),
    ],
)
def test_known_finding_has_its_code_and_site(name: str, value: str, scheme: str, site: str) -> None:
    got = finding_code(finding(name))
    assert (got.concept.value, got.concept.scheme, got.site.meaning) == (value, scheme, site)


def test_table_has_no_dangling_synonym() -> None:
    assert set(_SYNONYMS.values()) <= set(_DEFAULTS)


def test_findings_without_a_safe_code_get_different_private_ones() -> None:
    names = [
        "Enlarged Cardiomediastinum",
        "Enlarged Cardiomediastinal",
        "Pleural Other",
        "Support Devices",
        "No Finding",
    ]
    made = [finding_code(finding(name)).concept for name in names]
    assert {concept.scheme for concept in made} == {PRIVATE_SCHEME}
    assert len({concept.value for concept in made}) == len(names)
    assert all(len(concept.value) <= 16 for concept in made)
    assert finding_code(finding("No Finding")).site == CHEST


def test_sites_code_comes_before_the_models_and_the_table() -> None:
    own = {"scheme": "RADLEX", "value": "RID5350", "meaning": "pneumonia"}
    override = CodeSettings(finding="PNEUMONIA", scheme="99SITE", value="P1", meaning="Pneumonia (site)")
    assert finding_code(finding("Pneumonia", own), [override]).concept.value == "P1"
    assert finding_code(finding("Pneumonia", own)).concept.value == "RID5350"
    assert finding_code(finding("Pneumonia", own), [override]).site == LUNG


def test_sites_wrong_snomed_code_is_refused_here_too() -> None:
    wrong = CodeSettings(finding="Pneumonia", scheme="SCT", value="233604001", meaning="Pneumonia")
    with pytest.raises(CodeInvalid, match="SNOMED CT code for Pneumonia: expected an identifier"):
        finding_code(finding("Pneumonia"), [wrong])
