import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset, FileDataset
from pynetdicom import AE

from dicom_node.demo import modality
from dicom_node.demo.archive import Archive
from dicom_node.demo.modality import SendFailed, send

DATA = Path(__file__).parents[2] / "data" / "dicom"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


@pytest.fixture
def radiograph() -> FileDataset:
    return modality.wrap(DATA / "ref" / "B512.png")


def find(port: int, **keys: str) -> list[Dataset]:
    query = Dataset()
    for keyword, value in keys.items():
        setattr(query, keyword, value)
    entity = AE()
    entity.add_requested_context(STUDY_ROOT_FIND)
    association = entity.associate("127.0.0.1", port)
    assert association.is_established
    try:
        answers = [(s.Status, d) for s, d in association.send_c_find(query, STUDY_ROOT_FIND) if s]
    finally:
        association.release()
    assert answers[-1][0] == 0x0000
    return [dataset for status, dataset in answers if status == 0xFF00 and dataset is not None]


def test_what_the_modality_sends_is_stored_as_it_is(tmp_path: Path, radiograph: FileDataset) -> None:
    with Archive(tmp_path) as archive:
        send([radiograph], "127.0.0.1", archive.port, called_ae="ARCHIVE")
        send([radiograph], "127.0.0.1", archive.port, called_ae="ARCHIVE")
        (stored,) = archive.files(radiograph.SOPClassUID)
    assert pydicom.dcmread(stored) == radiograph


def test_modality_says_when_it_can_not_send(tmp_path: Path, radiograph: FileDataset) -> None:
    with Archive(tmp_path) as archive:
        port = archive.port
        (tmp_path / radiograph.StudyInstanceUID).write_text("in the way")
        with pytest.raises(SendFailed, match="C-STORE: expected 0x0000, got 0xA700"):
            send([radiograph], "127.0.0.1", port, called_ae="ARCHIVE")


def test_queries_find_studies_series_and_objects(tmp_path: Path, radiograph: FileDataset) -> None:
    with Archive(tmp_path) as archive:
        send([radiograph], "127.0.0.1", archive.port, called_ae="ARCHIVE")
        (study,) = find(
            archive.port, QueryRetrieveLevel="STUDY", PatientID="DEMO*", StudyInstanceUID="", PatientName=""
        )
        assert study.StudyInstanceUID == radiograph.StudyInstanceUID
        assert study.PatientName == radiograph.PatientName
        (image,) = find(
            archive.port,
            QueryRetrieveLevel="IMAGE",
            StudyInstanceUID=radiograph.StudyInstanceUID,
            SOPInstanceUID="",
        )
        assert image.SOPInstanceUID == radiograph.SOPInstanceUID
        assert find(archive.port, QueryRetrieveLevel="STUDY", PatientID="OTHER") == []


@pytest.mark.filterwarnings("ignore:.*[Ii]nvalid value for VR UI")
def test_identifier_that_would_leave_the_folder_is_refused(tmp_path: Path, radiograph: FileDataset) -> None:
    with pydicom.config.disable_value_validation():
        radiograph.StudyInstanceUID = "../../evil"
    folder = tmp_path / "archive"
    with Archive(folder) as archive, pytest.raises(SendFailed, match="got 0xC000"):
        send([radiograph], "127.0.0.1", archive.port, called_ae="ARCHIVE")
    assert not list(tmp_path.rglob("*evil*"))


@contextmanager
def process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "dicom_node.demo.archive", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            word, port = running.stdout.readline().split()
            assert word == "ready"
            yield running, int(port)
        finally:
            running.kill()


def test_killed_archive_has_what_it_acknowledged(tmp_path: Path, radiograph: FileDataset) -> None:
    with process(tmp_path) as (running, port):
        send([radiograph], "127.0.0.1", port, called_ae="ARCHIVE")
        running.send_signal(signal.SIGKILL)
        running.wait(20)
    with process(tmp_path) as (running, port):
        assert len(find(port, QueryRetrieveLevel="IMAGE", SOPInstanceUID="")) == 1
        running.terminate()
        assert running.wait(20) == 0
