from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydicom import FileDataset

from dicom_node.demo import modality
from dicom_node.steps import FindingResult, InferenceResult

DATA = Path(__file__).parents[2] / "data" / "dicom"


@pytest.fixture
def radiograph() -> FileDataset:
    return modality.wrap(DATA / "ref" / "B512.png")


@pytest.fixture
def image(radiograph: FileDataset, tmp_path: Path) -> Path:
    path = tmp_path / "image.dcm"
    radiograph.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def result() -> InferenceResult:
    return InferenceResult(
        findings=(FindingResult("Pneumonia", 0.91524, 0.8), FindingResult("No Finding", 0.12, 0.5)),
        logits=(2.38, -1.99),
        bundle_id="ab" * 16,
        bundle_digest="cd" * 32,
        finished_at="2026-11-24T05:20:00.250000+00:00",
        seconds=12.0,
    )


@pytest.fixture
def card() -> Mapping[str, Any]:
    return {
        "name": "Pneumonia DenseNet-121",
        "version": "1.0",
        "description": "Pneumonia on frontal chest radiographs of children",
        "manufacturer": "blindread developers",
        "device_uid": "2.25.123456789",
        "clinical_use": False,
        "intended_use": {"modalities": ["DX"], "body_parts": ["CHEST"], "views": ["PA"], "purpose": "demo"},
        "training_data": "x",
        "licence": "x",
        "warnings": ["Trained on children of one to five years \u2013 from one hospital."],
    }
