"""Reports before the validators that others use."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config import ReportSettings
from dicom_node.report import build_report
from dicom_node.steps import FindingResult, InferenceResult

pytestmark = pytest.mark.peer

PIXELMED = Path("/usr/share/java/pixelmed.jar")
CLASSES = ("comprehensive-3d", "comprehensive", "enhanced", "basic-text")
DERIVED = Path(__file__).parents[2] / "data" / "dicom" / "derived"


def need(*, present: bool, what: str) -> None:
    if not present and os.environ.get("CI") != "true":
        pytest.skip(f"{what} is not installed")
    assert present, f"{what} is not installed"


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr


def all_findings(result: InferenceResult) -> InferenceResult:
    names = (
        "No Finding, Enlarged Cardiomediastinum, Cardiomegaly, Lung Opacity, Lung Lesion, Edema, "
        "Consolidation, Pneumonia, Atelectasis, Pneumothorax, Pleural Effusion, Pleural Other, "
        "Fracture, Support Devices"
    )
    findings = tuple(FindingResult(name.strip(), 0.07 * i, 0.5) for i, name in enumerate(names.split(",")))
    return InferenceResult(findings, (0.0,) * 14, result.bundle_id, "ef" * 32, result.finished_at, 1.0)


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


@pytest.mark.parametrize("sop_class", CLASSES)
def test_dciodvfy_finds_no_error(
    image: Path, result: InferenceResult, card: Mapping[str, Any], tmp_path: Path, sop_class: str
) -> None:
    need(present=shutil.which("dciodvfy") is not None, what="dciodvfy (Debian package dicom3tools)")
    settings = ReportSettings(sop_class=sop_class, institution_name="Hospital")
    report = written(tmp_path / "sr.dcm", build_report(image, all_findings(result), card, settings))
    lines = run("dciodvfy", "-new", report).splitlines()
    assert any("SR" in line for line in lines)  # it did recognise the object
    assert [line for line in lines if line.startswith("Error")] == []


@pytest.mark.parametrize("path", sorted(DERIVED.glob("*.dcm")), ids=lambda p: p.stem)
def test_dciodvfy_finds_no_error_in_the_report_of_any_kind_of_image(
    path: Path, result: InferenceResult, card: Mapping[str, Any], tmp_path: Path
) -> None:
    need(present=shutil.which("dciodvfy") is not None, what="dciodvfy (Debian package dicom3tools)")
    report = written(tmp_path / "sr.dcm", build_report(path, result, card, ReportSettings()))
    lines = run("dciodvfy", "-new", report).splitlines()
    assert [line for line in lines if line.startswith("Error")] == []


def test_dciodvfy_finds_no_error_in_the_demonstrations_image(image: Path) -> None:
    need(present=shutil.which("dciodvfy") is not None, what="dciodvfy (Debian package dicom3tools)")
    lines = run("dciodvfy", "-new", str(image)).splitlines()
    assert [line for line in lines if line.startswith("Error")] == []


@pytest.mark.parametrize("sop_class", ["comprehensive-3d", "basic-text"])
def test_pixelmed_finds_no_error(
    image: Path, result: InferenceResult, card: Mapping[str, Any], tmp_path: Path, sop_class: str
) -> None:
    need(
        present=PIXELMED.is_file() and shutil.which("java") is not None,
        what="DicomSRValidator (Debian packages pixelmed-apps, default-jre-headless)",
    )
    settings = ReportSettings(sop_class=sop_class)
    report = written(tmp_path / "sr.dcm", build_report(image, result, card, settings))
    limits = [f"-Djdk.xml.xpath{name}=0" for name in ("TotalOpLimit", "ExprOpLimit", "ExprGrpLimit")]
    said = run("java", *limits, "-cp", str(PIXELMED), "com.pixelmed.validate.DicomSRValidator", report)
    assert "Root Template Validation Complete" in said
    assert "IOD validation complete" in said
    assert [line for line in said.splitlines() if "Error" in line or "Exception" in line] == []


@pytest.mark.parametrize("sop_class", CLASSES)
def test_dsrdump_reads_the_whole_document(
    image: Path, result: InferenceResult, card: Mapping[str, Any], tmp_path: Path, sop_class: str
) -> None:
    need(present=shutil.which("dsrdump") is not None, what="dsrdump (Debian package dcmtk)")
    settings = ReportSettings(sop_class=sop_class)
    report = written(tmp_path / "sr.dcm", build_report(image, result, card, settings))
    done = subprocess.run(["dsrdump", "+Pl", report], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "91.52" in done.stdout
    assert "not for clinical use" in done.stdout
    assert [line for line in done.stderr.splitlines() if line.startswith(("E:", "F:"))] == []
