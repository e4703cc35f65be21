import socket
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dicom_node.config import DestinationSettings, ReportSettings
from dicom_node.demo import modality
from dicom_node.report import build_report
from dicom_node.steps import FindingResult, InferenceResult

DATA = Path(__file__).parents[2] / "data" / "dicom"
Destination = Callable[..., DestinationSettings]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.dcm"
    modality.wrap(DATA / "ref" / "B512.png").save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def report(tmp_path: Path, image: Path) -> Path:
    result = InferenceResult(
        (FindingResult("Pneumonia", 0.91524, 0.8),),
        (2.38,),
        "ab" * 16,
        "cd" * 32,
        "2026-11-24T05:20:00+00:00",
        12.0,
    )
    card: Mapping[str, object] = {
        "name": "Pneumonia DenseNet-121",
        "version": "1.0",
        "manufacturer": "blindread developers",
        "device_uid": "2.25.123456789",
        "clinical_use": False,
    }
    path = tmp_path / "report.dcm"
    path.write_bytes(build_report(image, result, card, ReportSettings()))
    return path


@pytest.fixture
def destination() -> Destination:
    def make(port: int, **changes: object) -> DestinationSettings:
        values = {"name": "pacs", "host": "127.0.0.1", "port": port, "ae_title": "ARCHIVE", "timeout_s": 5.0}
        return DestinationSettings(**(values | changes))

    return make


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return int(first.getsockname()[1]), int(second.getsockname()[1])
