from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from secure_infer.errors import BundleFormat, InputRejected
from secure_infer.runtime.preprocess import Preprocessing, prepare, prepare_file, read_picture

GREY = {"height": 6, "width": 5, "channels": 1, "resample": "area", "intensity": {"source": "8bit"}}


def picture(path: Path, levels: np.ndarray) -> Path:
    Image.fromarray(levels).save(path)
    return path


def test_picture_of_the_models_size_arrives_byte_for_byte(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    got = prepare_file(picture(tmp_path / "x.png", levels), GREY | {"height": 16, "width": 16})
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, levels.astype(np.float32))


def test_colour_picture_becomes_the_luminance_pillow_makes(tmp_path: Path) -> None:
    levels = np.random.default_rng(1).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    path = picture(tmp_path / "x.png", levels)
    np.testing.assert_array_equal(prepare_file(path, GREY), np.asarray(Image.open(path).convert("L")))


def test_sixteen_bit_picture_keeps_its_depth(tmp_path: Path) -> None:
    levels = np.linspace(0, 65535, 30).astype(np.uint16).reshape(6, 5)
    path = picture(tmp_path / "x.png", levels)
    np.testing.assert_allclose(read_picture(path), levels / 65535, atol=1e-7)


@pytest.mark.parametrize("name", ["x.png", "x.gif"])
def test_file_that_is_no_picture_is_rejected(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "x.png":
        path.write_bytes(b"\x89PNG\r\n\x1a\nnonsense")
    else:
        picture(path, np.zeros((6, 5), np.uint8))
    with pytest.raises(InputRejected, match="picture"):
        read_picture(path)


def test_truncated_picture_is_rejected(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    path = picture(tmp_path / "x.png", noise)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputRejected, match="picture"):
        read_picture(path)


def test_huge_picture_is_rejected_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.new("1", (20000, 20000)).save(path)
    with pytest.raises(InputRejected, match="picture"):
        read_picture(path)


def test_area_resampling_equals_the_mean_over_blocks() -> None:
    plane = np.random.default_rng(2).random((24, 20)).astype(np.float32)
    plan = GREY | {"intensity": {"source": "unit"}}
    expected = plane.reshape(6, 4, 5, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(prepare(plane, plan), expected, atol=1e-6)


def test_area_resampling_by_a_fraction_weighs_partly_covered_pixels() -> None:
    plan = {"height": 1, "width": 2, "resample": "area", "intensity": {"source": "unit"}}
    got = prepare(np.array([[0.0, 0.6, 0.3]], np.float32), plan)
    np.testing.assert_allclose(got, [[0.2, 0.4]], atol=1e-6)  # (0 + 0.6/2) / 1.5, (0.6/2 + 0.3) / 1.5


def test_bilinear_resampling_agrees_with_pillow() -> None:
    plane = np.random.default_rng(3).random((40, 33)).astype(np.float32)
    for size in ((17, 12), (64, 80)):
        plan = Preprocessing(*size, resample="bilinear", source="unit")
        expected = Image.fromarray(plane).resize(size[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_allclose(prepare(plane, plan), np.asarray(expected), atol=2e-3)


@settings(deadline=None, max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    target=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    kind=st.sampled_from(["area", "bilinear"]),
    fit=st.sampled_from(["stretch", "crop"]),
)
def test_resampling_keeps_a_constant_picture(
    shape: tuple[int, int], target: tuple[int, int], kind: str, fit: str
) -> None:
    got = prepare(np.full(shape, 0.4, np.float32), Preprocessing(*target, resample=kind, fit=fit))
    np.testing.assert_allclose(got, np.full(target, 102.0), atol=1e-3)


def test_pad_keeps_the_aspect_ratio_between_black_borders() -> None:
    got = prepare(np.ones((10, 5), np.float32), Preprocessing(4, 4, fit="pad"))
    np.testing.assert_allclose(got, [[0, 255, 255, 0]] * 4, atol=1e-3)


def test_scale_and_offset_apply_per_channel() -> None:
    plan = GREY | {"channels": 3, "intensity": {"source": "unit", "scale": [1, 2, 3], "offset": -1.0}}
    got = prepare(np.full((6, 5), 0.5, np.float32), plan)
    assert got.shape == (6, 5, 3)
    np.testing.assert_allclose(got[0, 0], [-0.5, 0.0, 0.5], atol=1e-6)


def test_wrong_size_without_resampling_is_rejected() -> None:
    with pytest.raises(InputRejected, match="picture size: expected 5x6, got 4x4"):
        prepare(np.zeros((4, 4), np.float32), GREY | {"resample": "none"})


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1, np.inf])
def test_display_out_of_range_is_rejected(bad: float) -> None:
    plane = np.zeros((6, 5), np.float32)
    plane[2, 2] = bad
    with pytest.raises(InputRejected, match="picture range"):
        prepare(plane, GREY)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"height": 0}, "height"),
        ({"width": "224"}, "width"),
        ({"channels": True}, "channels"),
        ({"resample": "lanczos"}, "resample"),
        ({"intensity": {"source": "16bit"}}, "source"),
        ({"intensity": {"scale": [1, 2]}}, "scale"),
        ({"intensity": {"offset": float("nan")}}, "offset"),
        ({"intensity": 3}, "intensity"),
        ({"fit": "fill"}, "fit"),
    ],
)
def test_malformed_preprocessing_is_refused_by_name(change: dict[str, object], named: str) -> None:
    with pytest.raises(BundleFormat, match=named):
        Preprocessing.from_mapping(GREY | change)
