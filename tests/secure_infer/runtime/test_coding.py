"""From pixels to integers and from opened integers to probabilities."""

import numpy as np
import pytest

from secure_infer._native import NativeError
from secure_infer.bundle import Finding, HospitalBundle
from secure_infer.errors import BundleFormat, BundleMismatch, InputRejected, PeerRejected, ProtocolError
from secure_infer.runtime.coding import decode_logits, encode_image, interpret, to_probabilities
from secure_infer.runtime.developer import output_noise
from secure_infer.runtime.failures import translate
from tests.tiny import Made

FINDINGS = (Finding("A", 0.5, 0.9), Finding("B", -0.25, 0.3))


def test_image_is_scaled_rounded_and_channels_come_first(tiny_bundle: Made) -> None:
    bundle = HospitalBundle.open(tiny_bundle.path)
    image = np.arange(64, dtype=np.float32).reshape(8, 8) * 0.75 - 20
    coded = encode_image(image, bundle)
    assert (coded.shape, coded.dtype, coded.flags.c_contiguous) == ((1, 8, 8), np.int32, True)
    assert np.array_equal(coded[0], np.rint(image))
    assert np.array_equal(coded, encode_image(image[:, :, None], bundle))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 7)),
        np.zeros((8, 8, 3)),
        np.zeros(64),
        np.full((8, 8), np.inf),
        np.full((8, 8), -(2.0**26)),
    ],
)
def test_image_of_another_form_is_refused_without_its_content(tiny_bundle: Made, image: np.ndarray) -> None:
    with pytest.raises(InputRejected) as caught:
        encode_image(image, HospitalBundle.open(tiny_bundle.path))
    assert "inf" not in str(caught.value)
    assert "67108864.0" not in str(caught.value)


def test_logits_are_scaled_integers_of_all_outputs() -> None:
    opened = [np.array([[[6]]], np.int64), np.array([[[-8]]], np.int64)]
    assert decode_logits(opened, FINDINGS).tolist() == [3.0, 2.0]
    with pytest.raises(BundleFormat):
        decode_logits(opened[:1], FINDINGS)


def test_sigmoid_and_thresholds_decide_each_finding_alone() -> None:
    answer = interpret([np.array([4, -2], np.int64)], FINDINGS)
    assert answer.probabilities == pytest.approx([1 / (1 + np.exp(-2)), 1 / (1 + np.exp(-0.5))])
    assert answer.present == (False, True)
    assert answer.timings is None


def test_activations_of_extreme_logits_neither_overflow_nor_lose_sum() -> None:
    extreme = np.array([-1e4, 0.0, 1e4])
    with np.errstate(all="raise", under="ignore"):
        sigmoid = to_probabilities(extreme, [Finding("x", 1.0)] * 3)
        softmax = to_probabilities(extreme, [Finding("x", 1.0, activation="softmax")] * 3)
    assert sigmoid.tolist() == [0.0, 0.5, 1.0]
    assert softmax.tolist() == [0.0, 0.0, 1.0]
    assert to_probabilities(extreme, [Finding("x", 1.0, activation="none")] * 3).tolist() == extreme.tolist()


def test_noise_is_at_most_as_asked_for_on_every_logit() -> None:
    assert output_noise(FINDINGS, 0.01) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("bundle", BundleMismatch),
        ("certificate_expired", PeerRejected),
        ("certificate_of_some_new_kind", PeerRejected),
        ("ticket_unknown", ProtocolError),
        ("what a hostile peer made up", ProtocolError),
    ],
)
def test_core_failures_become_this_package_s_errors(code: str, kind: type[Exception]) -> None:
    error = translate(NativeError(code, "words"))
    assert type(error) is kind
    assert str(error) == "words"
