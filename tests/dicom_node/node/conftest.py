"""Gateways as processes, an archive, and radiographs to send."""

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE

from dicom_node.config import Settings, load_settings
from dicom_node.demo.archive import Archive
from dicom_node.queue import Queue, State
from dicom_node.receive import silence_libraries

ROOT = Path(__file__).parents[3]
KILLABLE = ROOT / "tests" / "dicom_node" / "doubles" / "killable.py"
SAMPLE = ROOT / "tests" / "data" / "dicom" / "derived" / "dx_rle_12bit.dcm"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {seconds} s")


@pytest.fixture
def until() -> Callable[..., Any]:
    return wait_for


class CountingArchive(Archive):
    """An archive that remembers everything that it was sent."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.received: list[tuple[str, str]] = []
        self.failing = threading.Event()
        super().__init__(folder, port=port)
        # pynetdicom counts connections that are gone for half a minute.
        self._server.ae.maximum_associations = 1000

    def _on_store(self, event: Any) -> int:
        if self.failing.is_set():
            return 0xA700
        answer = super()._on_store(event)
        content = event.request.DataSet.getvalue()
        self.received.append((str(event.request.AffectedSOPInstanceUID), hashlib.sha256(content).hexdigest()))
        return answer

    def reports(self) -> list[Dataset]:
        return [pydicom.dcmread(file) for file in self.files()]


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[CountingArchive]:
    with CountingArchive(tmp_path / "archive") as made:
        yield made


@dataclass
class Site:
    """A configuration file, and what it leads to."""

    config: Path
    settings: Settings
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def port(self) -> int:
        return self.settings.listener[0].port

    @contextlib.contextmanager
    def queue(self) -> Iterator[Queue]:
        with Queue(self.settings.database, self.settings.queue) as queue:
            yield queue

    def states(self) -> list[State]:
        with self.queue() as queue:
            return [view.state for view in queue.studies()]

    def start(self, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
        log = (self.config.parent / "gateway.log").open("a")
        process = subprocess.Popen(
            [sys.executable, str(KILLABLE), *arguments, str(self.config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        )
        log.close()
        self.processes.append(process)
        return process

    def log(self) -> str:
        return (self.config.parent / "gateway.log").read_text()

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()


@pytest.fixture
def new_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(archive_port: int, *, extra: str = "", queue: str = "") -> Site:
        folder = tmp_path / f"site{len(sites)}"
        (folder / "bundle").mkdir(parents=True)
        (folder / "file").write_text("not read by the double")
        (folder / "gateway.toml").write_text(
            f"""
[node]
spool = "spool"
log_format = "json"
low_space_mb = 0
[[listener]]
ae_title = "GATEWAY"
host = "127.0.0.1"
port = {free_port()}
any_caller = true
timeout_s = 10
[queue]
quiet_period_s = 0
tick_s = 0.05
retry_first_s = 0.1
retry_longest_s = 0.5
crashes_allowed = 1000
{queue}
[inference]
bundle = "bundle"
host = "localhost"
port = 1
authority = "file"
certificate = "file"
key = "file"
tickets = 0
[[destination]]
name = "pacs"
host = "127.0.0.1"
port = {archive_port}
ae_title = "ARCHIVE"
timeout_s = 5
{extra}
"""
        )
        site = Site(folder / "gateway.toml", load_settings(folder / "gateway.toml"))
        sites.append(site)
        return site

    yield make
    for site in sites:
        site.close()


class Forks:
    """The script's fork mode: one killable process after the other."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def start(self, point: str = "-") -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{point}\n")
        self._process.stdin.flush()
        return int(self._line().removeprefix("pid "))

    def ended(self) -> int:
        """Waits until it has; negative numbers are signals."""
        return int(self._line().removeprefix("exit "))

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the script ended"
        return line.strip()


@pytest.fixture
def forks() -> Callable[[subprocess.Popen[str]], Forks]:
    return Forks


@pytest.fixture
def radiograph(tmp_path: Path) -> Callable[[int], Path]:
    """A radiograph of its own study for each number."""

    def make(number: int) -> Path:
        dataset = pydicom.dcmread(SAMPLE)
        dataset.StudyInstanceUID = f"1.2.826.0.1.1.{number}"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.1.{number}.1"
        file = tmp_path / f"radiograph{number}.dcm"
        buffer = BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        file.write_bytes(buffer.getvalue())
        return file

    return make


@pytest.fixture
def send() -> Callable[[int, Path], int | None]:
    """Sends a file once; the status, or None when there was no answer."""
    silence_libraries()

    def make(port: int, file: Path) -> int | None:
        raw = file.read_bytes()
        meta = pydicom.filereader.read_file_meta_info(file)
        request = C_STORE()
        request.MessageID, request.Priority = 1, 2
        request.AffectedSOPClassUID = meta.MediaStorageSOPClassUID
        request.AffectedSOPInstanceUID = meta.MediaStorageSOPInstanceUID
        request.DataSet = BytesIO(raw[144 + meta.FileMetaInformationGroupLength :])
        entity = AE(ae_title="MODALITY")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
        entity.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", port, ae_title="GATEWAY")
        if not association.is_established:
            return None
        association._reactor_checkpoint.clear()
        association.dimse.send_msg(request, association.accepted_contexts[0].context_id)
        _, answer = association.dimse.get_msg(block=True)
        association._reactor_checkpoint.set()
        association.abort() if answer is None else association.release()
        return None if answer is None else int(answer.Status)

    return make


@pytest.fixture
def send_until_stored(send: Callable[[int, Path], int | None]) -> Callable[[int, Path], None]:
    """What a modality does: sends again until it is told that the object is kept."""

    def make(port: int, file: Path) -> None:
        wait_for(lambda: send(port, file) == 0x0000, "success")

    return make


@pytest.fixture
def killable_points() -> Callable[[str], list[str]]:
    def read(name: str) -> list[str]:
        text = KILLABLE.read_text()
        block = text.split(f"{name} = (")[1].split(")")[0]
        return [part.strip(' "\n') for part in block.split(",") if part.strip()]

    return read
