"""The real gateway with a real developer's party: the main job, and what a person is told when it fails."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pydicom
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dicom_node.queue import State
from secure_infer import keys
from secure_infer.bundle import DeveloperBundle, write_bundle
from secure_infer.runtime import Credentials, DeveloperServer, Limits
from tests.tiny import tiny_arguments

pytestmark = [
    pytest.mark.filterwarnings(r"ignore::UserWarning:pydicom\..*"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SITE = """
[node]
spool = "spool"
log_format = "json"
low_space_mb = 0
[[listener]]
ae_title = "GATEWAY"
host = "127.0.0.1"
port = {listener_port}
any_caller = true
[queue]
quiet_period_s = 0
tick_s = 0.05
retry_first_s = 0.1
retry_longest_s = 0.5
[inference]
bundle = "{bundle}"
host = "127.0.0.1"
port = {party_port}
authority = "{authority}"
certificate = "{certificate}"
key = "{key}"
tickets = 1
[[destination]]
name = "pacs"
host = "127.0.0.1"
port = {archive_port}
ae_title = "ARCHIVE"
"""


class Parties:
    """Keys for both sides, bundles, and developer's servers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = keys.create_authority(folder / "ca", "Authority")
        self.developer = keys.issue(folder / "ca", folder / "developer", "developer", "party", ["127.0.0.1"])
        self.hospital = keys.issue(folder / "ca", folder / "hospital", "hospital", "clinic")
        self.running: list[DeveloperServer] = []

    def bundle(self, name: str) -> Path:
        arguments = tiny_arguments()
        arguments["preprocessing"] = arguments["preprocessing"] | {
            "resample": "area",
            "intensity": {"source": "8bit"},
        }
        write_bundle(self.folder / name, signing_key=Ed25519PrivateKey.generate(), **arguments)
        return self.folder / name

    def serve(self, bundle: Path, port: int = 0) -> DeveloperServer:
        credentials = Credentials(
            authority=self.authority.public, certificate=self.developer.public, key=self.developer.private
        )
        server = DeveloperServer(DeveloperBundle.open(bundle), f"127.0.0.1:{port}", credentials, Limits())
        self.running.append(server)
        return server


@pytest.fixture
def parties(tmp_path: Path) -> Iterator[Parties]:
    made = Parties(tmp_path)
    yield made
    for server in made.running:
        server.shutdown()


@pytest.fixture
def gateway(tmp_path: Path, new_site: Any, parties: Parties, archive: Any) -> Callable[..., Any]:
    """A running gateway, started as the command line starts it."""

    def start(bundle: Path, party_port: int, own: Any = None) -> Any:
        site = new_site(archive.port)
        own = own or parties.hospital
        site.config.write_text(
            SITE.format(
                listener_port=site.port,
                bundle=bundle,
                party_port=party_port,
                authority=parties.authority.public,
                certificate=own.public,
                key=own.private,
                archive_port=archive.port,
            )
        )
        return launch(site)

    def launch(site: Any) -> Any:
        script = (
            "import sys; from pathlib import Path; from dicom_node.config import load_settings; "
            "from dicom_node.node import Node; sys.exit(Node(load_settings(Path(sys.argv[1]))).run())"
        )
        log = (site.config.parent / "gateway.log").open("a")
        root = str(Path(__file__).parents[3])
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(site.config)],
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": root},
        )
        log.close()
        site.processes.append(process)
        site.restart = lambda: launch(site)
        return site

    return start


def test_radiograph_becomes_a_report_in_the_archive(
    gateway, parties, archive, radiograph, send_until_stored, until
) -> None:
    bundle = parties.bundle("tiny.bundle")
    site = gateway(bundle, parties.serve(bundle).port)
    send_until_stored(site.port, radiograph(1))
    until(lambda: site.states() == [State.DELIVERED], "delivery")
    (report,) = archive.reports()
    assert report.StudyInstanceUID == "1.2.826.0.1.1.1"
    assert report.Modality == "SR"
    assert report.CurrentRequestedProcedureEvidenceSequence
    process = site.processes[-1]
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    text = site.log()
    sent = pydicom.dcmread(radiograph(1), stop_before_pixels=True)
    for secret in (str(sent.PatientName), sent.PatientID, sent.AccessionNumber, sent.StudyInstanceUID):
        assert secret not in text


def test_party_that_comes_late_and_is_restarted_gets_its_images(
    gateway, parties, archive, radiograph, send_until_stored, until
) -> None:
    bundle = parties.bundle("tiny.bundle")
    server = parties.serve(bundle)
    port = server.port
    server.shutdown()
    site = gateway(bundle, port)
    send_until_stored(site.port, radiograph(1))

    def waits() -> bool:
        with site.queue() as queue:
            view = queue.study(1)
            return view.state is State.INFERRING and view.reason_code == "inference.unreachable"

    until(waits, "an attempt without party")
    server = parties.serve(bundle, port)
    until(lambda: site.states() == [State.DELIVERED], "delivery")
    server.shutdown()
    parties.serve(bundle, port)
    send_until_stored(site.port, radiograph(2))
    until(lambda: site.states() == [State.DELIVERED] * 2, "delivery")
    assert len(archive.reports()) == 2


@pytest.mark.parametrize("wrong", ["bundle", "certificate"])
def test_what_only_a_person_can_mend_is_held_with_its_reason(
    gateway, parties, archive, radiograph, send_until_stored, until, tmp_path, wrong
) -> None:
    bundle, other = parties.bundle("tiny.bundle"), parties.bundle("other.bundle")
    server = parties.serve(bundle)
    stranger = None
    if wrong == "certificate":
        keys.create_authority(tmp_path / "other ca", "Stranger")
        stranger = keys.issue(tmp_path / "other ca", tmp_path / "stranger", "hospital", "stranger")
    site = gateway(other if wrong == "bundle" else bundle, server.port, stranger)
    send_until_stored(site.port, radiograph(1))
    until(lambda: site.states() == [State.HELD], "holding")
    with site.queue() as queue:
        view = queue.study(1)
    assert view.reason_code == {"bundle": "inference.bundle", "certificate": "inference.rejected"}[wrong]
    assert view.reason
    site.processes[-1].send_signal(signal.SIGTERM)
    assert site.processes[-1].wait(30) == 0
    assert archive.reports() == []


def test_unsuitable_objects_are_kept_with_their_reasons(
    gateway, parties, archive, radiograph, send_until_stored, until
) -> None:
    bundle = parties.bundle("tiny.bundle")
    site = gateway(bundle, parties.serve(bundle).port)
    cut, lateral, hand = (radiograph(number) for number in (1, 2, 3))
    cut.write_bytes(cut.read_bytes()[:-5000])
    for file, changes in (
        (lateral, {"ViewPosition": "LL", "PatientOrientation": ["A", "F"]}),
        (hand, {"BodyPartExamined": "HAND"}),
    ):
        dataset = pydicom.dcmread(file)
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.save_as(file)
    for file in (cut, lateral, hand):
        send_until_stored(site.port, file)
    until(lambda: {State.HELD, State.SKIPPED} >= set(site.states()), "an end")
    with site.queue() as queue:
        reasons = {view.study_uid[-1]: view.reason_code for view in queue.studies()}
    assert reasons == {"1": "intake.no_pixels", "2": "intake.view", "3": "intake.body_part"}
    assert archive.reports() == []


def test_configuration_that_cannot_work_ends_the_gateway_with_its_own_status(gateway, parties) -> None:
    bundle = parties.bundle("tiny.bundle")
    manifest = bundle / "hospital" / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b"sha256", b"sha257", 1))
    site = gateway(bundle, 1)
    assert site.processes[-1].wait(60) == 78
    assert "worker can't start" in site.log()


def test_everything_is_killed_again_and_again_and_each_study_has_one_report(
    gateway, parties, archive, radiograph, send_until_stored, until, tmp_path
) -> None:
    bundle = parties.bundle("tiny.bundle")
    probe = parties.serve(bundle)
    port = probe.port
    probe.shutdown()
    serve = [sys.executable, "-m", "dicom_node.cli", "party", "serve", "--bundle", str(bundle)]
    serve += ["--listen", f"127.0.0.1:{port}", "--authority", str(parties.authority.public)]
    serve += ["--certificate", str(parties.developer.public), "--key", str(parties.developer.private)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}

    def party() -> subprocess.Popen[bytes]:
        quiet = subprocess.DEVNULL
        return subprocess.Popen(serve, env=environment, stdin=quiet, stdout=quiet, stderr=quiet)

    site = gateway(bundle, port)
    running = party()
    files = {number: radiograph(number) for number in range(1, 5)}
    random = Random(7)
    try:
        for number, file in files.items():
            send_until_stored(site.port, file)
            time.sleep(random.uniform(0, 1.5))
            running.kill()
            running.wait()
            if number == 2:
                site.processes[-1].kill()
                site.processes[-1].wait()
                site = site.restart()
            running = party()
        until(lambda: site.states() == [State.DELIVERED] * len(files), "delivery", 120)
    finally:
        running.kill()
        running.wait()
    assert len(archive.reports()) == len(files)
    assert len(set(archive.received)) == len(files)
    assert sorted(one.StudyInstanceUID[-1] for one in archive.reports()) == [str(number) for number in files]
