"""From a small Keras model on the disk to private findings, with commands only."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dicom_node.cli import main
from tests.tiny import CARD, Made

Capture = pytest.CaptureFixture[str]
SIDE = 16


def pictures(folder: Path, count: int, seed: int) -> list[Path]:
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE), dtype=np.uint8)).save(folder / f"{i}.png")
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import keras

    keras.utils.set_random_seed(3)
    image = keras.Input((SIDE, SIDE, 1), name="image")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(2, activation="sigmoid")(x)
    folder = tmp_path_factory.mktemp("model")
    keras.Model(image, outputs).save(folder / "model.keras")
    (folder / "model_card.json").write_text(json.dumps(CARD))
    (folder / "compile.json").write_text(
        json.dumps({"findings": [{"name": "A"}, {"name": "B", "threshold": 0.4}]})
    )
    pictures(folder / "calibration", 8, seed=1)
    pictures(folder / "examples", 3, seed=2)
    return folder


@pytest.fixture(scope="module")
def bundle(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    assert main(["keys", "signing", "--out", str(folder / "signing.key")]) == 0
    argv = [
        "compile",
        str(model),
        "--signing-key",
        str(folder / "signing.key"),
        "--out",
        str(folder / "x.bundle"),
    ]
    assert main([*argv, "--check", str(model / "examples")]) == 0
    return folder / "x.bundle"


def run(capsys: Capture, *argv: object) -> Any:
    capsys.readouterr()
    assert main([*map(str, argv), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def probabilities(said: Any) -> list[list[float]]:
    return [[finding["probability"] for finding in result["findings"]] for result in said["results"]]


def test_three_backends_agree(bundle: Path, model: Path, capsys: Capture) -> None:
    files = sorted((model / "examples").iterdir())
    common = ["local", *files, "--bundle", bundle]
    plain = run(capsys, *common, "--backend", "float", "--model", model)
    reference = run(capsys, *common, "--backend", "reference")
    secure = run(capsys, *common)
    np.testing.assert_allclose(probabilities(reference), probabilities(plain), atol=0.01)
    np.testing.assert_allclose(probabilities(secure), probabilities(plain), atol=0.01)
    assert secure["online"]["round_trips"] > 10
    assert secure["offline"]["bytes_to_hospital"] > secure["online"]["bytes_to_hospital"]
    assert secure["digest"] == reference["digest"]
    assert [finding["threshold"] for finding in secure["results"][0]["findings"]] == [0.5, 0.4]


def test_local_says_warnings_findings_and_cost_in_words(
    tiny_bundle: Made, tmp_path: Path, capsys: Capture
) -> None:
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "x.png")
    assert main(["local", str(tmp_path / "x.png"), "--bundle", str(tiny_bundle.path)]) == 0
    said = capsys.readouterr().out
    assert "present" in said or "absent" in said
    assert "online " in said
    assert "round trips" in said


def test_existing_bundle_is_refused_before_anything_is_read(
    bundle: Path, tmp_path: Path, capsys: Capture
) -> None:
    argv = ["compile", str(tmp_path / "none"), "--signing-key", str(tmp_path / "none"), "--out", str(bundle)]
    assert main(argv) == 65
    assert "[bundle.exists]" in capsys.readouterr().err


def test_model_without_calibration_images_is_refused(bundle: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "model.h5").write_bytes(b"")
    argv = ["compile", str(tmp_path / "model.h5"), "--out", str(tmp_path / "out")]
    assert main([*argv, "--signing-key", str(bundle.parent / "signing.key")]) == 65
    assert "--calibration: expected a folder with PNG or JPEG images" in capsys.readouterr().err


def test_layer_that_cannot_be_compiled_is_named(
    bundle: Path, model: Path, tmp_path: Path, capsys: Capture
) -> None:
    import keras

    image = keras.Input((SIDE, SIDE, 1))
    x = keras.layers.GlobalAveragePooling2D()(
        keras.layers.Conv2D(4, 3, activation="tanh", name="odd_one")(image)
    )
    keras.Model(image, keras.layers.Dense(1)(x)).save(tmp_path / "model.keras")
    argv = ["compile", str(tmp_path / "model.keras"), "--calibration", str(model / "calibration")]
    argv += ["--signing-key", str(bundle.parent / "signing.key"), "--out", str(tmp_path / "out")]
    assert main(argv) == 65
    error = capsys.readouterr().err
    assert "odd_one" in error
    assert "[compile.layer]" in error
    assert not (tmp_path / "out").exists()
