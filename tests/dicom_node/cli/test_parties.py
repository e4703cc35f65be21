"""Two real processes: `party serve` on one side, `infer` on the other, TLS between them."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dicom_node.cli import main
from secure_infer import keys
from secure_infer.bundle import DeveloperBundle, HospitalBundle
from secure_infer.runtime import ReferenceBackend
from secure_infer.runtime.coding import encode_image, interpret
from secure_infer.runtime.preprocess import prepare_file
from tests.tiny import Made

BLINDREAD = [sys.executable, "-m", "dicom_node.cli"]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki")
    keys.create_authority(folder, "Authority")
    keys.issue(folder, folder, "developer", "Developer", ["localhost"])
    keys.issue(folder, folder, "hospital", "Hospital")
    return folder


@pytest.fixture
def server(tiny_bundle: Made, pki: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [
        *BLINDREAD, "party", "serve", "--bundle", str(tiny_bundle.path), "--listen", "127.0.0.1:0",
        "--authority", str(pki / "ca.pem"), "--certificate", str(pki / "developer.pem"),
        "--key", str(pki / "developer.key"), "--noise", "0", "--json",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = ""
        while not said.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            said += line
        yield process, json.loads(said)["port"]
        process.kill()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(5).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png"


def flags(tiny_bundle: Made, pki: Path, port: int) -> list[str]:
    return [
        "--bundle", str(tiny_bundle.path / "hospital"), "--host", "localhost", "--port", str(port),
        "--authority", str(pki / "ca.pem"), "--certificate", str(pki / "hospital.pem"),
        "--key", str(pki / "hospital.key"),
    ]  # fmt: skip


def test_files_get_the_reference_backends_findings(
    server: tuple[subprocess.Popen[str], int],
    tiny_bundle: Made,
    pki: Path,
    picture: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process, port = server
    assert main(["infer", str(picture), str(picture), *flags(tiny_bundle, pki, port), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    bundle = HospitalBundle.open(tiny_bundle.path)
    image = prepare_file(picture, bundle.preprocessing)
    backend = ReferenceBackend(bundle.program, DeveloperBundle.open(tiny_bundle.path).parameters)
    expected = interpret(list(backend.run(encode_image(image, bundle)).values()), bundle.findings)
    assert said["digest"] == tiny_bundle.digest
    assert len(said["results"]) == 2
    for result in said["results"]:
        logits = [finding["logit"] for finding in result["findings"]]
        # Rounding of 256 inputs of the last layer, whose weights are below 10,000.
        np.testing.assert_allclose(logits, expected.logits, atol=5 * 16 * 10_000 * 1e-4)
        assert result["timings"]["round_trips"] >= 5

    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    assert not re.search("Traceback", log)


def test_unknown_hospital_is_refused_with_status_76(
    server: tuple[subprocess.Popen[str], int],
    tiny_bundle: Made,
    tmp_path: Path,
    pki: Path,
    picture: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keys.create_authority(tmp_path, "Somebody else")
    keys.issue(tmp_path, tmp_path, "hospital", "Intruder")
    argv = [
        "infer",
        str(picture),
        *flags(tiny_bundle, tmp_path, server[1]),
        "--authority",
        str(pki / "ca.pem"),
    ]
    assert main(argv) == 76
    assert "[peer.rejected]" in capsys.readouterr().err


def test_no_server_is_status_69(
    tiny_bundle: Made, pki: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["infer", str(picture), *flags(tiny_bundle, pki, 1)]) == 69
    assert "[peer.unreachable]" in capsys.readouterr().err


def test_server_with_a_hospitals_certificate_does_not_start(
    tiny_bundle: Made, pki: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["party", "serve", "--bundle", str(tiny_bundle.path), "--authority", str(pki / "ca.pem")]
    argv += ["--certificate", str(pki / "hospital.pem"), "--key", str(pki / "hospital.key")]
    assert main(argv) == 77
    assert "expected one for the developer, got one for the hospital" in capsys.readouterr().err


def test_missing_flags_are_named(picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", str(picture), "--host", "x"]) == 78
    assert "got no --bundle, --authority, --certificate, --key" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "code"), [(b"", "intake.not_dicom"), (b"\x89PNG\r\n\x1a\nxx", "input")])
def test_unreadable_file_is_status_65_before_anything_is_sent(
    tiny_bundle: Made,
    pki: Path,
    tmp_path: Path,
    content: bytes,
    code: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_bytes(content)
    assert main(["infer", str(tmp_path / "file"), *flags(tiny_bundle, pki, 1)]) == 65
    assert f"[{code}]" in capsys.readouterr().err
