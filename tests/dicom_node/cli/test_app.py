"""The command line's frame: help, usage, errors as one line and a status."""

import subprocess
import sys

import pytest

from dicom_node.cli import app, main
from dicom_node.errors import ConfigError, PartyUnreachable, StudyNotFound
from secure_infer.errors import (
    BundleSignature,
    CompileError,
    KeyFileExists,
    PeerRejected,
    PeerUnreachable,
    SecureInferError,
    Timeout,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PeerUnreachable, 69),
        (Timeout, 69),
        (PartyUnreachable, 69),
        (PeerRejected, 76),
        (KeyFileExists, 77),
        (ConfigError, 78),
        (BundleSignature, 65),
        (CompileError, 65),
        (StudyNotFound, 1),
        (SecureInferError, 1),
    ],
)
def test_status_follows_the_kind_of_error(error: type[SecureInferError], status: int) -> None:
    assert app.status_of(error.code) == status


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in app._COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: blindread {command}")


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["inspect"], ["keys", "issue", "--role", "pope"]])
def test_wrong_usage_is_one_line_and_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert error.count("\n") == 1
    assert "--help" in error


def test_known_error_is_one_line_with_its_code(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", f"{tmp_path}/none.bundle"]) == 65
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("blindread: bundle: expected a folder with a hospital half, got")
    assert captured.err.endswith("[bundle.format]\n")


def test_defect_hides_its_text_and_debug_shows_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> int:
        raise RuntimeError("pixel values 1 2 3")

    monkeypatch.setattr("dicom_node.cli.inspect_command._inspect", broken)
    assert main(["inspect", "x"]) == 70
    assert capsys.readouterr().err == "blindread: defect: RuntimeError (run with --debug)\n"
    assert main(["--debug", "inspect", "x"]) == 70
    assert "pixel values 1 2 3" in capsys.readouterr().err


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def without(_: object) -> int:
        raise ModuleNotFoundError("no", name="pydicom.dataset")

    monkeypatch.setattr("dicom_node.cli.inspect_command._inspect", without)
    assert main(["inspect", "x"]) == 1
    assert "pip install 'blindread[hospital]'" in capsys.readouterr().err


def test_interrupt_ends_quietly_with_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("dicom_node.cli.inspect_command._inspect", interrupted)
    assert main(["inspect", "x"]) == 130
    assert capsys.readouterr().err == "blindread: interrupted\n"


def test_help_needs_neither_dicom_nor_tensorflow() -> None:
    heavy = "pydicom pynetdicom highdicom sqlalchemy apscheduler tensorflow keras"
    code = (
        "import sys\nfrom dicom_node.cli.app import build_parser\nbuild_parser().format_help()\n"
        f"print([name for name in {heavy.split()!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
