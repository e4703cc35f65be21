"""The five architectures, small and with random weights, and the trained model of this repository."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from secure_infer.compiler import CompileOptions, compile_model
from secure_infer.compiler.frontends.benchmark_models import benchmark_model
from secure_infer.errors import OptionError
from secure_infer.runtime.backends import Observer
from secure_infer.runtime.preprocess import prepare_file

ROOT = Path(__file__).parents[3]
XRAYS = sorted((ROOT / "tests" / "data" / "xrays").glob("*.png"))
TRAINED = ROOT / "model_bundles" / "pneumonia_densenet121"


def xrays(side):
    return [prepare_file(path, {"height": side, "width": side}) for path in XRAYS]


def varied(side, count, seed=0):
    """Crops and mirrored copies of the few X-rays, so that there is something to calibrate on."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        with Image.open(XRAYS[index % len(XRAYS)]) as picture:
            grey = picture.convert("L")
        width, height = grey.size
        left, top = rng.uniform(0, 0.15, 2)
        box = (left * width, top * height, (left + 0.85) * width, (top + 0.85) * height)
        pixels = np.asarray(grey.resize((side, side), Image.Resampling.BILINEAR, box), np.float32)
        made.append(pixels[:, ::-1] if rng.random() < 0.5 else pixels)
    return made


def preprocessed(pictures, mode):
    batch = np.repeat(np.asarray(pictures, np.float32)[..., None], 3, axis=-1)
    return keras.src.applications.imagenet_utils.preprocess_input(batch, mode=mode)


# Side, and pictures that are enough for the calibration to see the ranges of others.
SMALLEST = {
    "densenet121": (64, 8),
    "resnet50": (64, 8),
    "mobilenetv2": (64, 8),
    "vgg16": (48, 8),
    "xception": (75, 16),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALLEST)
def test_architecture_with_random_weights_agrees_with_keras(name):
    side, count = SMALLEST[name]
    made = benchmark_model(f"{name}-{side}", varied(side, 8))
    compiled = compile_model(made.model, varied(side, count), made.options)
    pictures = varied(side, 4, seed=9)
    wanted = made.model.predict(preprocessed(pictures, made.options.input.normalisation), verbose=0)
    rng, observer = np.random.default_rng(0), Observer()
    for picture, row in zip(pictures, wanted, strict=True):
        found = compiled.probabilities(compiled.reference_logits(picture, rng=rng, observer=observer))
        np.testing.assert_allclose(found, row, atol=0.02)
    assert observer.outside == 0
    assert compiled.program.input_value.shape == (1, side, side)


def test_benchmark_of_an_unknown_name_or_with_other_images_is_refused():
    for name in ("densenet121", "lenet-64", "densenet121-8", "densenet121-x"):
        with pytest.raises(OptionError, match="such as densenet121-320"):
            benchmark_model(name, varied(64, 1))
    with pytest.raises(OptionError, match="pictures of 64x64"):
        benchmark_model("densenet121-64", varied(32, 1))


@pytest.mark.slow
@pytest.mark.skipif(not (TRAINED / "model.keras").exists(), reason="the trained model is not in this copy")
def test_trained_model_agrees_with_keras_on_x_rays_within_a_hundredth():
    model = keras.models.load_model(TRAINED / "model.keras", compile=False)
    names = json.loads((TRAINED / "compile.json").read_text())["findings"]
    pictures = xrays(224)
    compiled = compile_model(model, varied(224, 10), CompileOptions(), held_out=())
    wanted = model.predict(np.asarray(pictures)[..., None], verbose=0)
    rng, observer = np.random.default_rng(0), Observer()
    assert len(names) == wanted.shape[1]
    for picture, row in zip(pictures, wanted, strict=True):
        found = compiled.probabilities(compiled.reference_logits(picture, rng=rng, observer=observer))
        np.testing.assert_allclose(found, row, atol=0.01)
    assert observer.outside == 0
