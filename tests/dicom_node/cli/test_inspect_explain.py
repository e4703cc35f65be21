"""`blindread inspect --explain`: seconds, bytes and rounds, layer by layer."""

import json
from pathlib import Path
from typing import Any

import pytest

from dicom_node.cli import main
from secure_infer.bench import calibrate
from secure_infer.bench.calibration_networks import NETWORKS
from tests.tiny import Made

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def nobody_calibrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def explain(capsys: Capture, bundle: Path, *options: str) -> Any:
    capsys.readouterr()
    assert main(["inspect", str(bundle), "--explain", "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_explanation_lists_every_layer_in_order_and_adds_up(tiny_bundle: Made, capsys: Capture) -> None:
    assert main(["inspect", str(tiny_bundle.path), "--explain"]) == 0
    text = capsys.readouterr().out
    names = ["image", "body/conv", "body/conv:truncate", "body/relu", "head", "logits", "total"]
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.split()[:1]}
    assert [name for name in rows if name in names] == names
    # name, kind, then seconds, bytes with their unit twice, and rounds, of either phase
    assert rows["body/relu"][-1] == "4"
    assert rows["body/relu"][2:][0] == rows["body/relu"][2]
    assert "coefficients: built in" in text
    assert "256 comparisons take 3.0 table look-ups and 115 bits each" in text
    value = explain(capsys, tiny_bundle.path)["explanation"]
    for phase in ("offline", "online"):
        for party in ("hospital", "developer", "seconds"):
            total = sum(step[phase][party] for step in value["steps"])
            assert value[phase][party] == pytest.approx(total)
    assert len(value["sentences"]) == 4


def test_network_and_engine_change_the_prediction(tiny_bundle: Made, capsys: Capture) -> None:
    here = explain(capsys, tiny_bundle.path)
    wan = explain(capsys, tiny_bundle.path, "--network", "wan", "--ot-engine", "ferret")
    assert wan["cost"]["ot_engine"] == "ferret"
    rounds = wan["cost"]["online"]["rounds"]
    late = wan["explanation"]["online"]["seconds"] - here["explanation"]["online"]["seconds"]
    assert late >= rounds * 0.020
    own = explain(capsys, tiny_bundle.path, "--network", "wan", "--bandwidth", "1", "--round-trip", "0")
    assert own["explanation"]["network"] == {"name": "wan", "bits_per_second": 1e6, "round_trip_s": 0.0}


@pytest.mark.parametrize(
    "options", [["--network", "moon"], ["--bandwidth", "-1"], ["--ot-engine", "iknp"], ["--round-trip", "-3"]]
)
def test_what_there_is_not_is_refused(tiny_bundle: Made, options: list[str], capsys: Capture) -> None:
    assert main(["inspect", str(tiny_bundle.path), "--explain", *options]) != 0
    assert "expected" in capsys.readouterr().err


def test_calibration_of_this_machine_is_used_where_there_is_one(
    tiny_bundle: Made, tmp_path: Path, capsys: Capture
) -> None:
    from secure_infer.runtime.timing import built_in

    before = explain(capsys, tiny_bundle.path)["explanation"]
    document = built_in().to_json() | {"about": "measured on this machine"}
    document["seconds"] = {
        name: {kind: 10 * value for kind, value in kinds.items()}
        for name, kinds in document["seconds"].items()
    }
    folder = tmp_path / "cache" / "blindread"
    folder.mkdir(parents=True)
    (folder / "calibration.json").write_text(json.dumps(document))
    after = explain(capsys, tiny_bundle.path)["explanation"]
    assert after["coefficients"]["about"] == "measured on this machine"
    assert after["online"]["hospital"] == pytest.approx(10 * before["online"]["hospital"])


@pytest.mark.slow
def test_bench_calibrates_and_inspect_follows_it(
    tiny_bundle: Made, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "IMAGES", 2)
    assert main(["bench", "--calibrate"]) == 0
    text = capsys.readouterr().out
    path = tmp_path / "cache" / "blindread" / "calibration.json"
    assert f"written to {path}" in text
    made = json.loads(path.read_text())
    assert made["machine"]["threads"] == 1
    engines, phases = ("softspoken", "ferret"), ("offline", "online")
    fitted = {(one["network"], one["engine"], one["phase"]) for one in made["fit"]["residuals"]}
    assert fitted == {
        (network, engine, phase) for network in NETWORKS for engine in engines for phase in phases
    }
    assert all(one["predicted"] > 0 and one["measured"] > 0 for one in made["fit"]["residuals"])
    assert explain(capsys, tiny_bundle.path)["explanation"]["coefficients"]["machine"] == made["machine"]
