"""From a small Keras model to a judged program; options and their refusals."""

import keras
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from keras import layers

from secure_infer.bundle import Code, DeveloperBundle, HospitalBundle
from secure_infer.compiler import CompileOptions, InputOptions, PrecisionOptions, compile_model
from secure_infer.compiler.frontends import read_model
from secure_infer.errors import CalibrationError, CompileError, OptionError
from secure_infer.runtime.preprocess import Preprocessing


def pictures(count, seed, channels=0, largest=255.0):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:24, :20] / 20
    waves = [0.5 + 0.4 * np.sin(5 * (a * x + b * y + c)) for a, b, c in rng.uniform(-1, 1, (count, 3))]
    found = [np.clip(w + rng.normal(0, 0.02, w.shape), 0, 1) * largest for w in waves]
    return [np.repeat(f[..., None], channels, -1) if channels else f for f in found]


def network(channels=3, activation="sigmoid", classes=2) -> keras.Model:
    keras.utils.set_random_seed(4)
    image = keras.Input((24, 20, channels))
    x = layers.Conv2D(8, 3, padding="same", strides=2)(image)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(layers.BatchNormalization()(x)))
    x = layers.GlobalAveragePooling2D()(layers.Concatenate()([x, y]))
    return keras.Model(image, layers.Dense(classes, activation=activation)(x), name="small")


@pytest.fixture(scope="module")
def compiled():
    options = CompileOptions(
        input=InputOptions(normalisation="torch"),
        findings=("Pneumonia", "Edema"),
        thresholds={"Edema": 0.3},
        codes={"Edema": Code("SCT", "19242006", "Pulmonary edema")},
        model_card={"manufacturer": "Test"},
    )
    return compile_model(network(), pictures(20, 1), options)


def test_compiled_model_agrees_with_keras_on_normalised_colour_copies_of_the_grey_picture(compiled):
    rng = np.random.default_rng(0)
    for picture in pictures(4, 2):
        colour = np.repeat(picture[..., None], 3, -1)[None]
        normalised = keras.applications.densenet.preprocess_input(colour.copy())
        wanted = compiled.source.predict(normalised.astype(np.float32))[0]
        for found in (compiled.reference_logits(picture), compiled.reference_logits(picture, rng=rng)):
            np.testing.assert_allclose(compiled.probabilities(found), wanted, atol=0.004)
        np.testing.assert_allclose(compiled.probabilities(compiled.float_logits(picture)), wanted, atol=1e-5)


def test_program_takes_one_grey_channel_and_opens_one_number_per_finding(compiled):
    assert compiled.program.input_value.shape == (1, 24, 20)
    assert {k: v.shape for k, v in compiled.program.outputs.items()} == {"logits": (2, 1, 1)}


def test_findings_carry_names_thresholds_and_codes(compiled):
    first, second = compiled.findings
    assert (first.name, first.threshold, first.activation, first.code) == ("Pneumonia", 0.5, "sigmoid", None)
    assert (second.name, second.threshold) == ("Edema", 0.3)
    assert second.code is not None
    assert second.code.value == "19242006"


def test_preprocessing_is_what_the_hospital_reads(compiled):
    plan = Preprocessing.from_mapping(compiled.preprocessing)
    assert (plan.height, plan.width, plan.channels, plan.source) == (24, 20, 1, "8bit")
    picture = pictures(1, 3)[0]
    scale = compiled.preprocessing["input_scale"]
    assert (compiled.quantise(picture)[0] == np.rint(picture * scale)).all()
    assert scale * 255 <= 2**10


def test_report_counts_and_judges_without_weights(compiled):
    report = compiled.report
    assert report["calibration_images"] == 16
    assert report["held_out"][-1]["accepted"]
    assert report["held_out"][-1]["outside"] == 0
    assert report["held_out"][-1]["expected_error"] <= 0.006
    assert report["totals"]["relus"] == compiled.program.totals().relus
    numbers = [v for v in _leaves(report) if isinstance(v, np.ndarray)]
    assert not numbers


def _leaves(value):
    if isinstance(value, dict):
        return [leaf for item in value.values() for leaf in _leaves(item)]
    return [leaf for item in value for leaf in _leaves(item)] if isinstance(value, list) else [value]


def test_bundle_of_a_compiled_model_is_read_back_by_both_sides(compiled, tmp_path):
    digest = compiled.write(tmp_path / "small.bundle", Ed25519PrivateKey.generate())
    hospital = HospitalBundle.open(tmp_path / "small.bundle")
    assert hospital.digest == digest
    assert hospital.program == compiled.program
    assert hospital.findings == compiled.findings
    developer = DeveloperBundle.open(tmp_path / "small.bundle")
    assert developer.digest == digest


def test_same_model_and_images_compile_to_the_same_program_and_parameters():
    model = network()
    a, b = (
        compile_model(model, pictures(6, 1), CompileOptions(precision=PrecisionOptions())) for _ in range(2)
    )
    assert a.program == b.program
    for step, arrays in a.parameters.items():
        for kind, array in arrays.items():
            assert (array == b.parameters[step][kind]).all()


def test_precision_climbs_until_the_tolerance_is_met_and_the_report_tells():
    options = CompileOptions(input=InputOptions(normalisation="torch"), tolerance=1e-9)
    made = compile_model(network(), pictures(16, 1), options)
    tried = made.report["held_out"]
    assert [t["precision"] for t in tried] == ["compact", "standard", "fine", "finest"]
    assert not any(t["accepted"] for t in tried)
    assert tried[3]["logit_error"]["rms"] < tried[0]["logit_error"]["rms"]
    assert made.report["precision"]["ring_bits"] == 31


def test_progress_is_told_for_calibration_and_judging():
    seen = []
    compile_model(network(), pictures(16, 1), progress=lambda *step: seen.append(step))
    assert ("calibration", 0, 12) in seen
    assert ("calibration", 12, 12) in seen
    assert ("judging", 4, 4) in seen


def test_colour_input_and_softmax_are_kept_where_asked():
    options = CompileOptions(input=InputOptions(grey=False, normalisation="caffe"))
    made = compile_model(network(activation="softmax", classes=4), pictures(8, 1, channels=3), options)
    assert made.program.input_value.shape == (3, 24, 20)
    picture = pictures(1, 2, channels=3)[0]
    normalised = keras.applications.resnet50.preprocess_input(picture[None].copy())
    wanted = made.source.predict(normalised.astype(np.float32))[0]
    found = made.probabilities(made.reference_logits(picture))
    assert found.sum() == pytest.approx(1)
    np.testing.assert_allclose(found, wanted, atol=0.01)


def test_activation_of_a_model_that_ends_in_logits_can_be_stated():
    model = network(activation=None, classes=3)
    made = compile_model(model, pictures(6, 1), CompileOptions(activation="softmax"))
    assert {f.activation for f in made.findings} == {"softmax"}
    assert made.probabilities(made.reference_logits(pictures(1, 2)[0])).sum() == pytest.approx(1)
    assert {f.activation for f in compile_model(model, pictures(6, 1)).findings} == {"none"}


def test_unit_pixels_are_scaled_to_the_same_integers():
    options = CompileOptions(input=InputOptions(source="unit"))
    made = compile_model(network(), pictures(8, 1, largest=1.0), options)
    assert 2**9 <= made.preprocessing["input_scale"] <= 2**10
    assert made.preprocessing["intensity"] == {"source": "unit"}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"findings": ("only one",)}, OptionError, "expected 2 names, got 1"),
        ({"thresholds": {"unknown": 0.5}}, OptionError, "names of findings"),
        ({"activation": "softmax"}, OptionError, "option activation"),
        ({"codes": {"unknown": Code("SCT", "1", "x")}}, OptionError, "names of findings"),
        ({"input": InputOptions(source="unit")}, CalibrationError, "pixels from 0 to 1"),
    ],
)
def test_options_that_do_not_fit_the_model_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        compile_model(network(), pictures(4, 1), CompileOptions(**options))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"source": "16bit"}, "option source"),
        ({"normalisation": "imagenet"}, "option normalisation"),
        ({"normalisation": "torch", "source": "unit"}, "none for a unit source"),
        ({"resample": "cubic"}, "option resample"),
        ({"fit": "squeeze"}, "option fit"),
    ],
)
def test_input_options_outside_their_range_are_refused(wrong, message):
    with pytest.raises(OptionError, match=message):
        InputOptions(**wrong)


def test_calibration_images_that_do_not_fit_are_refused():
    model = read_model(network())
    for images, message in (
        ([], "at least one"),
        ([np.zeros((24, 21))], r"\[height, width"),
        ([np.zeros((24, 20))], "pixels from 0 to 255"),
        ([np.full((24, 20), 300.0)], "pixels from 0 to 255"),
        ([np.full((24, 20), 0.9)], "pixels from 0 to 255"),
    ):
        with pytest.raises(CalibrationError, match=message):
            compile_model(model, images)


def test_outputs_with_different_activations_are_refused():
    image = keras.Input((24, 20, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(image))
    heads = [layers.Dense(1, activation="sigmoid")(x), layers.Dense(2)(x)]
    with pytest.raises(CompileError, match="one activation for all outputs"):
        compile_model(keras.Model(image, heads), pictures(4, 1))
