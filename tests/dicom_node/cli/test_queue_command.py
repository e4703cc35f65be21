"""`queue` and `node check` on a gateway's real database and configuration."""

import json
from pathlib import Path
from typing import Any

import pytest

from dicom_node.cli import main
from dicom_node.config import load_settings
from dicom_node.queue import ObjectRecord, Queue
from secure_infer import keys
from tests.tiny import Made

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def config(tmp_path: Path, tiny_bundle: Made) -> Path:
    keys.create_authority(tmp_path, "Authority")
    keys.issue(tmp_path, tmp_path, "hospital", "Hospital")
    (tmp_path / "spool").mkdir()
    (tmp_path / "gateway.toml").write_text(
        f"""\
[node]
spool = "spool"

[[listener]]
ae_title = "GATEWAY"
any_caller = true

[inference]
bundle = "{tiny_bundle.path}"
host = "party"
port = 7443
authority = "ca.pem"
certificate = "hospital.pem"
key = "hospital.key"

[[destination]]
name = "pacs"
host = "pacs"
ae_title = "PACS"
"""
    )
    return tmp_path / "gateway.toml"


@pytest.fixture
def study(config: Path) -> int:
    settings = load_settings(config)
    with Queue(settings.database, settings.queue) as queue:
        return queue.add_object(
            ObjectRecord(
                study_uid="1.2.3",
                sop_uid="1.2.3.4",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
                transfer_syntax_uid="1.2.840.10008.1.2",
                digest="0" * 64,
                path="objects/one.dcm",
                size=100,
                calling_ae="MODALITY",
            )
        ).study


def queue_json(capsys: Capture, config: Path, *argv: object) -> Any:
    capsys.readouterr()
    assert main(["queue", *map(str, argv), "--config", str(config), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_empty_queue_is_said_to_be_empty(config: Path, capsys: Capture) -> None:
    assert main(["queue", "list", "--config", str(config)]) == 0
    assert capsys.readouterr().out == "no studies\n"


def test_study_is_listed_shown_cancelled_and_retried(config: Path, study: int, capsys: Capture) -> None:
    listed = queue_json(capsys, config, "list")
    assert listed["counts"] == {"receiving": 1}
    assert [one["id"] for one in listed["studies"]] == [study]
    assert queue_json(capsys, config, "show", study)["instances"][0]["sop_uid"] == "1.2.3.4"
    assert queue_json(capsys, config, "cancel", study) == {"study": study, "state": "cancelled"}
    assert queue_json(capsys, config, "list", "--state", "receiving")["studies"] == []
    assert queue_json(capsys, config, "retry", study)["state"] != "cancelled"
    assert main(["queue", "show", str(study), "--config", str(config)]) == 0
    text = capsys.readouterr().out
    assert "study UID     1.2.3\n" in text
    assert "cancelled" in text


def test_unknown_study_and_state_are_refused(config: Path, capsys: Capture) -> None:
    assert main(["queue", "show", "99", "--config", str(config)]) == 1
    assert capsys.readouterr().err.endswith("[queue.study]\n")
    assert main(["queue", "list", "--state", "lost", "--config", str(config)]) == 1
    assert "expected receiving or ready" in capsys.readouterr().err


def test_node_check_accepts_a_good_configuration(config: Path, capsys: Capture) -> None:
    assert main(["node", "check", "--config", str(config)]) == 0
    assert "Tiny network" in capsys.readouterr().out


def test_node_refuses_a_bad_configuration_with_status_78(config: Path, capsys: Capture) -> None:
    config.write_text(config.read_text().replace("port = 7443", "port = 0"))
    for action in ("run", "check"):
        assert main(["node", action, "--config", str(config)]) == 78
        error = capsys.readouterr().err
        assert "gateway.toml" in error
        assert error.endswith("[config]\n")
