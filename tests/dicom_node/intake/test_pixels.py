import csv
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, FileDataset, dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.intake import errors, pixels
from dicom_node.intake.grayscale import DisplaySettings
from dicom_node.intake.pixels import display
from dicom_node.intake.reading import Limits

Write = Callable[..., Path]

DATA = Path(__file__).parents[2] / "data" / "dicom"
SHARED = Path(__file__).parents[4] / "shared" / "data" / "dicom"


def manifest(folder: Path) -> list[dict[str, str]]:
    path = folder / "manifest.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return [row | {"folder": str(folder)} for row in csv.DictReader(file) if row["reference_png"]]


ROWS = {row["file"]: row for row in manifest(DATA)} | {row["file"]: row for row in manifest(SHARED)}


def as_levels(unit: np.ndarray) -> np.ndarray:
    return unit.astype(np.float64) * 255


@pytest.mark.parametrize("name", sorted(ROWS))
def test_object_shows_its_reference_picture(name: str) -> None:
    row = ROWS[name]
    folder = Path(row["folder"])
    picture = np.asarray(Image.open(folder / row["reference_png"]), dtype=np.float64)
    if (
        "sigmoid" in name
    ):  # the manifest: "display differs from reference by the sigmoid", window 8192 / 16384
        values = picture / 255 * 16383
        picture = 255 / (1 + np.exp(-4 * (values - 8192) / 16384))
    got = as_levels(display(folder / name))
    assert got.shape == picture.shape
    assert np.abs(got - picture).max() <= float(row["max_dev_vs_ref"]) + 0.02


def test_shipped_objects_cover_the_compressed_syntaxes() -> None:
    assert len({row["transfer_syntax"] for row in manifest(DATA)}) == 7


# --- the grey-scale pipeline, on a real radiograph with a known change ---


def test_monochrome1_is_inverted_with_the_range_not_with_the_maximum(
    radiograph: FileDataset, stored: Write
) -> None:
    levels = np.minimum(radiograph.pixel_array, 200)  # the maximum isn't the range's end
    radiograph.PhotometricInterpretation, radiograph.PresentationLUTShape = "MONOCHROME1", "INVERSE"
    radiograph.PixelData = (255 - levels).astype(np.uint8).tobytes()
    np.testing.assert_allclose(as_levels(display(stored(radiograph))), levels, atol=1e-3)


def test_monochrome1_without_presentation_lut_shape_is_inverted_once(
    radiograph: FileDataset, stored: Write
) -> None:
    levels = radiograph.pixel_array
    radiograph.PhotometricInterpretation = "MONOCHROME1"
    del radiograph.PresentationLUTShape
    np.testing.assert_allclose(as_levels(display(stored(radiograph))), 255 - levels.astype(int), atol=1e-3)


@pytest.mark.parametrize(("photometric", "shape"), [("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")])
def test_contradictory_presentation_is_refused(
    radiograph: FileDataset, stored: Write, photometric: str, shape: str
) -> None:
    radiograph.PhotometricInterpretation, radiograph.PresentationLUTShape = photometric, shape
    with pytest.raises(errors.PresentationContradictory, match=f"got {shape} with {photometric}"):
        display(stored(radiograph))


def test_signed_rescaled_values_are_windowed(radiograph: FileDataset, stored: Write) -> None:
    levels = radiograph.pixel_array.astype(np.int16)
    radiograph.BitsAllocated, radiograph.BitsStored, radiograph.HighBit = 16, 16, 15
    radiograph.PixelRepresentation = 1
    radiograph.RescaleSlope, radiograph.RescaleIntercept = 0.5, 100
    radiograph.WindowCenter, radiograph.WindowWidth = 101, 256  # from -27 to 228 in steps of one
    radiograph.PixelData = ((levels - 127 - 100) * 2).astype("<i2").tobytes()
    np.testing.assert_allclose(
        as_levels(display(stored(radiograph))), np.clip(levels - 100, 0, 255), atol=1e-3
    )


def test_pixel_padding_is_black_and_stays_out_of_minmax(radiograph: FileDataset, stored: Write) -> None:
    levels = np.full((128, 128), 100, np.uint8)
    levels[:, 64:] = 50
    levels[:8] = 255
    radiograph.PixelData = levels.tobytes()
    del radiograph.WindowCenter, radiograph.WindowWidth
    radiograph.PixelPaddingValue, radiograph.PixelPaddingRangeLimit = 255, 250
    radiograph["PixelPaddingValue"].VR = radiograph["PixelPaddingRangeLimit"].VR = "US"
    got = display(stored(radiograph), settings=DisplaySettings(without_voi="minmax"))
    assert set(got[:8].ravel()) == {0.0}
    assert set(got[8:, :64].ravel()) == {1.0}
    assert set(got[8:, 64:].ravel()) == {0.0}


def test_bits_above_bits_stored_are_ignored(radiograph: FileDataset, stored: Write) -> None:
    levels = radiograph.pixel_array.astype(np.uint16)
    radiograph.BitsAllocated, radiograph.BitsStored, radiograph.HighBit = 16, 8, 7
    radiograph.PixelData = (levels | 0x1000).astype("<u2").tobytes()  # an old overlay bit
    np.testing.assert_allclose(as_levels(display(stored(radiograph))), levels, atol=1e-3)


def test_configured_window_is_used(radiograph: FileDataset, stored: Write) -> None:
    radiograph.WindowCenter, radiograph.WindowWidth = [128, 64], [256, 101]
    levels = radiograph.pixel_array.astype(np.float64)
    got = display(stored(radiograph), settings=DisplaySettings(voi_index=1))
    np.testing.assert_allclose(got, np.clip((levels - 63.5) / 100 + 0.5, 0, 1), atol=1e-6)


@pytest.mark.parametrize("index", [0, 1])
def test_voi_lut_of_either_width_is_applied(radiograph: FileDataset, stored: Write, index: int) -> None:
    items = [Dataset(), Dataset()]
    items[0].LUTDescriptor, items[0].LUTData = [256, 0, 12], (np.arange(256) ** 2 >> 4).tolist()
    items[1].LUTDescriptor, items[1].LUTData = [2, 99, 16], [0, 65535]
    for item in items:
        item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    radiograph.VOILUTSequence = items
    levels = radiograph.pixel_array.astype(np.int64)
    expected = (levels**2 >> 4) / 4095 if index == 0 else (levels >= 100).astype(float)
    got = display(stored(radiograph), settings=DisplaySettings(voi_index=index))
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_modality_lut_gives_the_range(radiograph: FileDataset, stored: Write) -> None:
    item = Dataset()
    item.LUTDescriptor, item.LUTData, item.ModalityLUTType = [256, 0, 16], list(range(0, 65536, 256)), "US"
    item["LUTDescriptor"].VR = item["LUTData"].VR = "US"
    radiograph.ModalityLUTSequence = [item]
    del radiograph.WindowCenter, radiograph.WindowWidth, radiograph.RescaleSlope, radiograph.RescaleIntercept
    levels = radiograph.pixel_array.astype(np.float64)
    np.testing.assert_allclose(display(stored(radiograph)), levels * 256 / 65535, atol=1e-6)


def test_rgb_capture_becomes_luminance(radiograph: FileDataset, stored: Write) -> None:
    grey = radiograph.pixel_array
    radiograph.SamplesPerPixel, radiograph.PhotometricInterpretation = 3, "RGB"
    radiograph.PlanarConfiguration = 0
    radiograph.PixelData = np.stack([grey, grey, grey], axis=-1).tobytes()
    np.testing.assert_allclose(as_levels(display(stored(radiograph))), grey, atol=1e-3)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_losslessly_compressed_object_shows_the_same(
    radiograph: FileDataset, stored: Write, syntax: str
) -> None:
    plain = display(stored(radiograph, "plain.dcm"))
    radiograph.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(display(stored(radiograph)), plain)


# --- the way into the model ---


def test_pixels_go_through_the_bundles_preprocessing(radiograph: FileDataset, stored: Write) -> None:
    seen = {}

    def prepare(picture: np.ndarray, preprocessing: object) -> np.ndarray:
        seen["picture"], seen["preprocessing"] = picture, preprocessing
        return np.ones((2, 2), np.float32)

    got = pixels(stored(radiograph), {"height": 2, "width": 2}, prepare=prepare)
    assert got.shape == (2, 2)
    assert seen["preprocessing"] == {"height": 2, "width": 2}
    np.testing.assert_allclose(as_levels(seen["picture"]), radiograph.pixel_array, atol=1e-3)


# --- refusals ---


def test_file_that_is_no_dicom_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(b"\x89PNG" + bytes(500))
    with pytest.raises(errors.NotDicom, match="file: expected DICM"):
        display(path)


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(errors.ObjectDamaged, match="expected a readable file, got FileNotFoundError"):
        display(tmp_path / "none.dcm")


def test_truncated_pixels_of_a_real_object_are_refused() -> None:
    with pytest.raises(errors.PixelsUndecodable, match="pixel data: expected a frame"):
        display(Path(get_testdata_file("MR_truncated.dcm")))


def test_structured_report_has_no_pixels() -> None:
    with pytest.raises(errors.PixelsMissing, match="pixel data: expected an image, got none"):
        display(Path(get_testdata_file("test-SR.dcm")))


@pytest.mark.filterwarnings("ignore:End of file reached:UserWarning")
def test_object_cut_anywhere_is_refused_or_complete(tmp_path: Path) -> None:
    whole = (DATA / "derived" / "dx_rle_12bit.dcm").read_bytes()
    path = tmp_path / "x.dcm"
    for length in (0, 100, 132, 140, 200, 376, 600, 1000, 1500, 2000, 100_000, len(whole) - 9000):
        path.write_bytes(whole[:length])
        with pytest.raises(errors.IntakeError):
            display(path)


def test_damaged_group_length_is_refused(radiograph: FileDataset, stored: Write) -> None:
    path = stored(radiograph)
    content = bytearray(path.read_bytes())
    content[138] = 0x66  # the length of (0002,0000)
    path.write_bytes(content)
    with pytest.raises(errors.IntakeError):
        display(path)


@pytest.mark.parametrize("name", [row["file"] for row in manifest(DATA)])
def test_flipped_bytes_end_in_a_picture_or_in_a_named_error(tmp_path: Path, name: str) -> None:
    whole = bytearray((DATA / name).read_bytes())
    rng = np.random.default_rng(7)
    path = tmp_path / "x.dcm"
    for _ in range(15):
        damaged = bytearray(whole)
        head = min(3000, len(whole))
        for at in rng.integers(132, head, 4):
            damaged[at] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            with np.errstate(all="ignore"):
                picture = display(path, limits=Limits(pixels=1 << 22))
        except errors.IntakeError:
            continue
        except UserWarning:  # pydicom's, an error only in tests
            continue
        assert picture.ndim == 2
        assert np.isfinite(picture).all()


def test_picture_beyond_the_limit_is_refused_before_decoding(radiograph: FileDataset, stored: Write) -> None:
    with pytest.raises(errors.ObjectTooLarge, match="picture size: expected at most 100 pixels, got 128x128"):
        display(stored(radiograph), limits=Limits(pixels=100))


def test_file_beyond_the_limit_is_refused(radiograph: FileDataset, stored: Write) -> None:
    with pytest.raises(errors.ObjectTooLarge, match="file size: expected at most 1000 bytes"):
        display(stored(radiograph), limits=Limits(file_bytes=1000))


def deflated(radiograph: FileDataset, dataset_bytes: bytes, path: Path) -> Path:
    meta = radiograph.file_meta
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    out = DicomBytesIO()
    out.write(bytes(128) + b"DICM")
    write_file_meta_info(out, meta)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    path.write_bytes(out.getvalue() + packer.compress(dataset_bytes) + packer.flush())
    return path


def test_deflated_bomb_is_refused_at_the_limit(radiograph: FileDataset, tmp_path: Path) -> None:
    path = deflated(radiograph, bytes(200 << 20), tmp_path / "bomb.dcm")
    assert path.stat().st_size < 1 << 20
    with pytest.raises(errors.ObjectTooLarge, match="inflated dataset: expected at most 16777216 bytes"):
        display(path, limits=Limits(file_bytes=16 << 20))


def test_deflated_object_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes((DATA / "derived" / "dx_deflated_12bit.dcm").read_bytes()[:50_000])
    with pytest.raises(errors.ObjectDamaged, match="deflated dataset: expected its end"):
        display(path)


def test_frame_that_announces_another_size_never_reaches_a_decoder(
    radiograph: FileDataset, stored: Write, tmp_path: Path
) -> None:
    Image.new("L", (4096, 4096)).save(tmp_path / "bomb.jpg")
    radiograph.PixelData = encapsulate([(tmp_path / "bomb.jpg").read_bytes()])
    radiograph["PixelData"].VR = "OB"
    radiograph["PixelData"].is_undefined_length = True
    radiograph.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    with pytest.raises(errors.PixelsUndecodable, match="expected 128 rows, 128 columns, got another size"):
        display(stored(radiograph))


@pytest.mark.parametrize(
    ("keyword", "value", "error", "named"),
    [
        ("NumberOfFrames", 2, errors.PixelsUnsupported, "Number of Frames: expected 1, got 2"),
        ("PhotometricInterpretation", "PALETTE COLOR", errors.PixelsUnsupported, "Photometric"),
        ("SamplesPerPixel", 3, errors.ObjectDamaged, "Samples per Pixel: expected 1, got 3"),
        ("BitsAllocated", 32, errors.PixelsUnsupported, "Bits Allocated: expected 8 or 16, got 32"),
        ("BitsStored", 9, errors.ObjectDamaged, "Bits Stored"),
        ("Rows", 0, errors.ObjectDamaged, "Rows and Columns"),
        ("Rows", None, errors.ObjectDamaged, "Rows: expected one integer, got none"),
        ("Rows", 500, errors.PixelsUndecodable, "pixel data"),
        ("WindowWidth", 0, errors.ObjectDamaged, "VOI window"),
        ("RescaleSlope", 0, errors.ObjectDamaged, "Rescale Slope"),
    ],
)
def test_malformed_attribute_is_refused_by_name(
    radiograph: FileDataset,
    stored: Write,
    keyword: str,
    value: object,
    error: type[errors.IntakeError],
    named: str,
) -> None:
    setattr(radiograph, keyword, value)
    with pytest.raises(error, match=named):
        display(stored(radiograph))


def test_private_transfer_syntax_is_unsupported(radiograph: FileDataset, stored: Write) -> None:
    path = stored(radiograph)
    text = path.read_bytes()
    old, new = b"1.2.840.10008.1.2.1\0", b"1.2.826.0.1.3680.99\0"
    assert old in text
    path.write_bytes(text.replace(old, new))
    with pytest.raises(errors.IntakeError):
        display(path)


def test_errors_never_quote_the_patient(radiograph: FileDataset, stored: Write) -> None:
    radiograph.PatientName = "Sensitive^Name"
    radiograph.Rows = 500
    with pytest.raises(errors.IntakeError) as caught:
        display(stored(radiograph))
    assert "Sensitive" not in str(caught.value)


def test_computed_tomography_decodes_but_is_left_to_selection() -> None:
    assert display(Path(get_testdata_file("CT_small.dcm"))).shape == (128, 128)
    assert dcmread(get_testdata_file("CT_small.dcm")).Modality == "CT"
