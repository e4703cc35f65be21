"""The whole way: public commands, real processes, real cryptography, a real radiograph."""

import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from PIL import Image

from dicom_node.demo.crew import Crew, DemoFailed
from dicom_node.demo.demo import DemoOptions, run
from tests.tiny import CARD

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "model_bundles" / "pneumonia_densenet121"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder with a network of a few weights, for 32x32 pixels."""
    keras = pytest.importorskip("keras")
    folder = tmp_path_factory.mktemp("model")
    keras.utils.set_random_seed(5)
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((32, 32, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, activation="sigmoid"),
        ]
    )
    network.save(folder / "model.keras")
    findings = [{"name": name, "threshold": 0.4} for name in ("Pneumonia", "No Finding")]
    (folder / "compile.json").write_text(json.dumps({"findings": findings}))
    use = CARD["intended_use"] | {"views": ["AP", "PA"]}
    (folder / "model_card.json").write_text(json.dumps(CARD | {"intended_use": use}))
    for part, sources in (("calibration", "calibration"), ("examples", "examples")):
        (folder / part).mkdir()
        for path in sorted((SHIPPED / sources).glob("*.jpeg"))[:6]:
            Image.open(path).convert("L").save(folder / part / f"{path.stem}.png")
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


def in_the_clear(model: Path, picture: Path) -> Mapping[str, float]:
    from secure_infer.compiler.folder import plain_probabilities

    return plain_probabilities(model, [picture])[0]


def test_radiograph_becomes_one_report_that_agrees_with_the_model(model: Path, place: Path) -> None:
    said: list[str] = []
    result = run(DemoOptions(model=model, folder=place), in_the_clear, said.append)
    assert set(result.probabilities) == {"Pneumonia", "No Finding"}
    assert result.max_difference <= 0.01
    assert result.report.is_file()
    assert "Demonstration model, not for clinical use." in result.tree
    assert any("delivered" in line for line in said)


def test_other_probabilities_fail_the_demonstration(model: Path, place: Path) -> None:
    def wrong(model: Path, picture: Path) -> Mapping[str, float]:
        return {name: (p + 0.3) % 1 for name, p in in_the_clear(model, picture).items()}

    with pytest.raises(DemoFailed, match="largest difference from the plaintext model"):
        run(DemoOptions(model=model, folder=place), wrong, lambda _: None)


def test_model_without_examples_is_refused(tmp_path: Path) -> None:
    (tmp_path / "examples").mkdir()
    with pytest.raises(DemoFailed, match="expected a picture, got none"):
        run(DemoOptions(model=tmp_path, folder=tmp_path / "demo"), in_the_clear, lambda _: None)


def test_held_process_waits_goes_on_and_is_ended_with_the_others(tmp_path: Path) -> None:
    done = tmp_path / "done"
    ready = tmp_path / "ready"
    code = (
        "import sys, time, pathlib as p; p.Path(sys.argv[1]).touch()\n"
        "time.sleep(0.3); p.Path(sys.argv[2]).touch(); time.sleep(600)"
    )
    with Crew(tmp_path / "logs") as crew:
        crew.start("sleeper", [sys.executable, "-c", code, str(ready), str(done)], ready.exists)
        crew.hold("sleeper")
        before = done.exists()
        time.sleep(0.6)
        assert done.exists() == before
        crew.release("sleeper")
        while not done.exists():
            time.sleep(0.01)
        crew.hold("sleeper")
        asked = time.monotonic()
    assert time.monotonic() - asked < 15, "held at the end: SIGTERM must reach it, not the grace's end"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_kills_on_the_way_end_in_the_same_one_report(tmp_path: Path) -> None:
    wanted = json.loads((SHIPPED / "examples" / "probabilities.json").read_text())

    def known(_model: Path, picture: Path) -> Mapping[str, float]:
        return {"Pneumonia": wanted[picture.name]}

    options = DemoOptions(model=SHIPPED, folder=tmp_path, kill=True)
    result = run(options, known, print)
    assert result.kills == ("gateway", "party", "archive", "gateway", "gateway")
    assert result.max_difference <= 0.01
    assert len(list((tmp_path / "archive").glob("*/*/*.dcm"))) == 1
