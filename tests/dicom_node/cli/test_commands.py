"""Commands that need no other party: keys, inspect, queue, as a person and as a program would run them."""

import json
from pathlib import Path
from typing import Any

import pytest

from dicom_node.cli import main
from tests.tiny import Made

Capture = pytest.CaptureFixture[str]


def run_json(capsys: Capture, *argv: object) -> Any:
    capsys.readouterr()
    assert main([str(one) for one in argv] + ["--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_keys_from_authority_to_a_checked_certificate(tmp_path: Path, capsys: Capture) -> None:
    assert main(["keys", "authority", "--out", str(tmp_path), "--name", "Ours"]) == 0
    assert "ca.key" in capsys.readouterr().out
    made = run_json(
        capsys, "keys", "issue", "--authority", tmp_path, "--role", "developer", "--name", "D",
        "--host", "localhost", "--out", tmp_path,
    )  # fmt: skip
    assert made == {"private": str(tmp_path / "developer.key"), "public": str(tmp_path / "developer.pem")}
    shown = run_json(capsys, "keys", "show", tmp_path / "developer.pem", "--authority", tmp_path / "ca.pem")
    assert (shown["role"], shown["name"], shown["issuer"]) == ("developer", "D", "Ours")
    assert main(["keys", "show", str(tmp_path / "developer.pem")]) == 0
    assert f"fingerprint  {shown['fingerprint']}" in capsys.readouterr().out


def test_keys_between_institutions(tmp_path: Path, capsys: Capture) -> None:
    office, home = tmp_path / "office", tmp_path / "home"
    run_json(capsys, "keys", "authority", "--out", office)
    asked = run_json(capsys, "keys", "request", "--role", "hospital", "--name", "H", "--out", home)
    signed = run_json(
        capsys, "keys", "sign", asked["public"], "--authority", office, "--role", "hospital",
        "--out", home / "hospital.pem", "--days", 10,
    )  # fmt: skip
    assert signed["role"] == "hospital"


def test_keys_never_overwrite(tmp_path: Path, capsys: Capture) -> None:
    argv = ["keys", "signing", "--out", str(tmp_path / "signing.key")]
    assert main(argv) == 0
    before = (tmp_path / "signing.key").read_bytes()
    assert main(argv) == 77
    assert capsys.readouterr().err.endswith("[keys.exists]\n")
    assert (tmp_path / "signing.key").read_bytes() == before


def test_inspect_shows_layers_and_cost(tiny_bundle: Made, tmp_path: Path, capsys: Capture) -> None:
    value = run_json(capsys, "inspect", tiny_bundle.path)
    assert value["digest"] == tiny_bundle.digest
    assert value["developer_half_checked"]
    assert not value["signer_trusted"]
    assert [step["name"] for step in value["cost"]["steps"]][:2] == ["image", "body/conv"]
    assert value["cost"]["comparisons"] == 4 * 8 * 8
    assert main(["inspect", str(tiny_bundle.path / "hospital")]) == 0
    text = capsys.readouterr().out
    assert "body/relu" in text
    assert "[1,12)" in text
    assert "round trips" in text


def test_inspect_with_another_key_is_refused(tiny_bundle: Made, tmp_path: Path, capsys: Capture) -> None:
    assert main(["keys", "signing", "--out", str(tmp_path / "other.key")]) == 0
    assert main(["inspect", str(tiny_bundle.path), "--trusted-key", str(tmp_path / "other.key.pub")]) == 65
    assert capsys.readouterr().err.endswith("[bundle.signature]\n")
