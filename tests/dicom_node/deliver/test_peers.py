"""Reports go into archives that others made: Orthanc and DCMTK's storescp."""

import io
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest

from dicom_node import deliver
from dicom_node.config import DestinationSettings

pytestmark = pytest.mark.peer

Destination = Callable[..., DestinationSettings]


def need(tool: str, package: str) -> str:
    found = shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None and os.environ.get("CI") != "true":
        pytest.skip(f"{tool} (Debian package {package}) is not installed")
    assert found is not None, f"{tool} (Debian package {package}) is not installed"
    return found


def wait_until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "the peer did not start"
        time.sleep(0.05)


@contextmanager
def process(command: list[str], ready: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        try:
            wait_until(lambda: running.poll() is not None or ready())
            assert running.poll() is None, "the peer ended"
            yield running
        finally:
            running.terminate()
            running.wait(20)


class Orthanc:
    """Orthanc on free ports, with its database in `folder`; can be started again."""

    def __init__(self, folder: Path, dicom_port: int, http_port: int) -> None:
        self.folder, self.dicom_port, self.http_port = folder, dicom_port, http_port
        self.binary = need("Orthanc", "orthanc")
        settings = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "DicomPort": dicom_port,
            "HttpPort": http_port,
            "DicomAet": "ORTHANC",
            "DicomCheckCalledAet": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [],
        }
        folder.mkdir(exist_ok=True)
        (folder / "orthanc.json").write_text(json.dumps(settings))

    @contextmanager
    def running(self) -> Iterator[None]:
        with process([self.binary, str(self.folder / "orthanc.json")], self._answers):
            yield

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except (urllib.error.URLError, ConnectionError):
            return False

    def get(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http_port}{path}", timeout=10) as answer:
            return bytes(answer.read())

    def instances(self) -> list[str]:
        return list(json.loads(self.get("/instances")))


@pytest.fixture
def orthanc(tmp_path: Path, free_ports: tuple[int, int]) -> Orthanc:
    return Orthanc(tmp_path / "orthanc", *free_ports)


def test_orthanc_stores_the_report_in_the_images_study_and_gives_it_back(
    orthanc: Orthanc, image: Path, report: Path, destination: Destination
) -> None:
    pacs = destination(orthanc.dicom_port, ae_title="ORTHANC", timeout_s=20.0)
    with orthanc.running():
        assert deliver.send(image, pacs).delivered
        for _ in range(2):  # a re-send is the same object
            assert deliver.send(report, pacs).delivered
        assert len(orthanc.instances()) == 2
        (study,) = json.loads(orthanc.get("/studies?expand"))
        assert len(study["Series"]) == 2
        files = [
            pydicom.dcmread(io.BytesIO(orthanc.get(f"/instances/{i}/file"))) for i in orthanc.instances()
        ]
        (stored,) = [dataset for dataset in files if dataset.Modality == "SR"]
    sent = pydicom.dcmread(report)
    assert stored == sent
    assert stored.StudyInstanceUID == study["MainDicomTags"]["StudyInstanceUID"]


def test_orthanc_that_is_stopped_gets_the_report_after_it_was_started(
    orthanc: Orthanc, report: Path, destination: Destination
) -> None:
    pacs = destination(orthanc.dicom_port, ae_title="ORTHANC", timeout_s=20.0)
    got = deliver.send(report, pacs)
    assert (got.delivered, got.retryable) == (False, True)
    with orthanc.running():
        assert deliver.echo(pacs).delivered
        assert deliver.send(report, pacs).delivered
    assert not deliver.send(report, pacs).delivered
    with orthanc.running():
        assert len(orthanc.instances()) == 1


def test_orthanc_rejects_a_wrong_title_for_good(
    orthanc: Orthanc, report: Path, destination: Destination
) -> None:
    with orthanc.running():
        got = deliver.send(report, destination(orthanc.dicom_port, ae_title="WRONG", timeout_s=20.0))
    assert (got.delivered, got.retryable) == (False, False)
    assert "association rejected" in got.status


def test_storescp_takes_the_report(
    report: Path, destination: Destination, free_port: int, tmp_path: Path
) -> None:
    folder = tmp_path / "stored"
    folder.mkdir()
    pacs = destination(free_port, ae_title="STORESCP", timeout_s=10.0)
    command = [need("storescp", "dcmtk"), "-aet", "STORESCP", "-od", str(folder), str(free_port)]
    with process(command, lambda: deliver.echo(pacs).delivered):
        assert deliver.send(report, pacs).delivered
    (stored,) = folder.iterdir()
    assert pydicom.dcmread(stored) == pydicom.dcmread(report)


def test_storescp_that_breaks_off_is_tried_again(
    report: Path, destination: Destination, free_port: int, tmp_path: Path
) -> None:
    pacs = destination(free_port, ae_title="STORESCP", timeout_s=10.0)
    common = [need("storescp", "dcmtk"), "-aet", "STORESCP", "-od", str(tmp_path)]
    with process([*common, "--abort-during", str(free_port)], lambda: deliver.echo(pacs).delivered):
        got = deliver.send(report, pacs)
    assert (got.delivered, got.retryable) == (False, True)
    with process([*common, str(free_port)], lambda: deliver.echo(pacs).delivered):
        assert deliver.send(report, pacs).delivered


def test_storescp_that_refuses_is_tried_again(
    report: Path, destination: Destination, free_port: int, tmp_path: Path
) -> None:
    pacs = destination(free_port, ae_title="STORESCP", timeout_s=10.0)
    command = [need("storescp", "dcmtk"), "--refuse", "-od", str(tmp_path), str(free_port)]
    with process(command, lambda: "rejected" in deliver.echo(pacs).status):
        got = [deliver.send(report, pacs) for _ in range(12)]
    assert not any(one.delivered for one in got)
    # It closes at once after its refusal: about one time in ten the reset overtakes the answer.
    lost = [one for one in got if "association rejected" not in one.status]
    assert len(lost) < len(got)
    assert all(one.retryable for one in lost)
