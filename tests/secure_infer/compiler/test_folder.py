"""Model folders: what is found, what is refused, without reading a model."""

import json
from pathlib import Path
from typing import Any

import pytest

from secure_infer.bundle import Code
from secure_infer.bundle.card import check_model_card
from secure_infer.compiler.folder import open_folder, pictures_in, read_options
from secure_infer.errors import BundleFormat, ModelUnreadable, OptionError

SHIPPED = Path(__file__).parents[3] / "model_bundles" / "pneumonia_densenet121"


def test_shipped_model_folder_is_complete() -> None:
    folder = open_folder(SHIPPED)
    assert folder.model.name == "model.keras"
    assert folder.options.findings == ("Pneumonia",)
    assert folder.options.codes["Pneumonia"] == Code("SCT", "233604007", "Pneumonia")
    assert (len(folder.calibration), len(folder.examples)) == (24, 10)
    assert not {path.name for path in folder.calibration} & {path.name for path in folder.examples}
    assert set(json.loads((SHIPPED / "examples" / "probabilities.json").read_bytes())) == {
        path.name for path in folder.examples
    }
    check_model_card(folder.options.model_card)
    assert any("not for clinical use" in warning for warning in folder.options.model_card["warnings"])


def test_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnreadable, match=r"model\.keras"):
        open_folder(tmp_path)


def test_only_pictures_are_taken(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpeg", "c.txt", "d.dcm"):
        (tmp_path / name).touch()
    assert [path.name for path in pictures_in(tmp_path)] == ["a.jpeg", "b.PNG"]
    assert pictures_in(tmp_path / "none") == ()


@pytest.mark.parametrize(
    "content",
    [
        [],
        {"other": 1},
        {"input": {"source": "9bit"}},
        {"input": {"grey": 1}},
        {"findings": [{}]},
        {"findings": [{"name": "A", "code": {"scheme": "SCT"}}]},
        {"findings": ["A"]},
    ],
)
def test_malformed_options_are_refused(tmp_path: Path, content: Any) -> None:
    (tmp_path / "compile.json").write_text(json.dumps(content))
    with pytest.raises((BundleFormat, OptionError)):
        read_options(tmp_path / "compile.json", None)


def test_nothing_stated_leaves_the_compilers_choices() -> None:
    options = read_options(None, None)
    assert (options.findings, options.thresholds, options.model_card) == ((), 0.5, {})
