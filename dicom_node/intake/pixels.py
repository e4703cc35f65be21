"""From a DICOM image to the model's input.

Order (PS3.4 N.2): decode, mask, modality LUT, VOI LUT, one inversion; colour to luminance; then the bundle's
preprocessing, which is the same for DICOM and for pictures and comes in through `dicom_node.inference`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels.utils import pixel_array

from dicom_node.intake import codestream, grayscale
from dicom_node.intake.errors import (
    ObjectDamaged,
    ObjectTooLarge,
    PixelsMissing,
    PixelsUndecodable,
    PixelsUnsupported,
)
from dicom_node.intake.grayscale import DisplaySettings
from dicom_node.intake.reading import MALFORMED, Limits, read

Float32 = NDArray[np.float32]
Prepare = Callable[[Float32, Mapping[str, Any]], Float32]

_MONOCHROME: Final = ("MONOCHROME1", "MONOCHROME2")
_COLOUR: Final = (
    "RGB",
    "YBR_FULL",
    "YBR_FULL_422",
    "YBR_ICT",
    "YBR_RCT",
    "YBR_PARTIAL_420",
    "YBR_PARTIAL_422",
)
_LUMINANCE: Final = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PS3.3 C.7.6.3.1.2 for YBR_FULL


def pixels(
    path: Path,
    preprocessing: Mapping[str, Any],
    *,
    prepare: Prepare | None = None,
    settings: DisplaySettings | None = None,
    limits: Limits | None = None,
) -> Float32:
    """An image in the model's input units.

    Parameters
    ----------
    path : Path
        A DICOM file.
    preprocessing : mapping
        The bundle's ``preprocessing.json``.
    prepare : callable, optional
        Display [H, W] and preprocessing to the input; None for the one of `dicom_node.inference`.
    settings : DisplaySettings, optional
    limits : Limits, optional

    Returns
    -------
    ndarray of float32, shape [height, width] or [height, width, channels]

    Raises
    ------
    IntakeError
        See `display`.
    """
    picture = display(path, settings=settings, limits=limits)
    if prepare is None:
        from dicom_node.inference import prepare_image

        prepare = prepare_image
    return prepare(picture, preprocessing)


def display(path: Path, *, settings: DisplaySettings | None = None, limits: Limits | None = None) -> Float32:
    """An image as a viewer would show it.

    Returns
    -------
    ndarray of float32, shape [H, W]
        0 black to 1 white.

    Raises
    ------
    NotDicom, ObjectDamaged, ObjectTooLarge
        The file can't be read.
    PixelsMissing, PixelsUnsupported, PixelsUndecodable
        It has no pixels, pixels of another kind, or damaged ones.
    PresentationContradictory
        It is unclear what is black.
    """
    bounds = limits or Limits()
    dataset = read(path, bounds, with_pixels=True)
    try:
        return _render(dataset, bounds, settings or DisplaySettings())
    except MALFORMED as error:
        raise ObjectDamaged("dataset", expected="valid values", got=type(error).__name__) from error


def _render(dataset: Dataset, limits: Limits, settings: DisplaySettings) -> Float32:
    photometric = _check_form(dataset, limits)
    decoded = _decode(dataset)
    if photometric in _MONOCHROME:
        return grayscale.to_display(_stored(decoded, dataset), dataset, settings)
    high = float((1 << int(dataset.BitsStored)) - 1)
    luminance = decoded.astype(np.float64) @ np.asarray(_LUMINANCE) / high
    return np.asarray(np.clip(luminance, 0.0, 1.0), dtype=np.float32)


def _check_form(dataset: Dataset, limits: Limits) -> str:
    """Check Image Pixel attributes (PS3.3 C.7.6.3) before decoding; return the photometric interpretation."""
    if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise PixelsMissing("pixel data", expected="an image", got="none")
    rows, columns = _integer(dataset, "Rows"), _integer(dataset, "Columns")
    if rows < 1 or columns < 1:
        raise ObjectDamaged("Rows and Columns", expected="at least 1", got=f"{rows} and {columns}")
    if rows * columns > limits.pixels:
        got = f"{columns}x{rows}"
        raise ObjectTooLarge("picture size", expected=f"at most {limits.pixels} pixels", got=got)
    frames = _integer(dataset, "NumberOfFrames", 1)
    if frames != 1:
        raise PixelsUnsupported("Number of Frames", expected=1, got=frames)
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric not in _MONOCHROME + _COLOUR:
        expected = ", ".join(_MONOCHROME + _COLOUR)
        raise PixelsUnsupported("Photometric Interpretation", expected=expected, got=repr(photometric[:16]))
    samples = 1 if photometric in _MONOCHROME else 3
    if _integer(dataset, "SamplesPerPixel", 1) != samples:
        raise ObjectDamaged("Samples per Pixel", expected=samples, got=dataset.SamplesPerPixel)
    allocated, stored = _integer(dataset, "BitsAllocated"), _integer(dataset, "BitsStored")
    if "PixelData" not in dataset or allocated not in (8, 16):
        raise PixelsUnsupported("Bits Allocated", expected="8 or 16", got=allocated)
    if (
        not 1 <= stored <= allocated
        or not stored <= _integer(dataset, "HighBit", stored - 1) + 1 <= allocated
    ):
        raise ObjectDamaged("Bits Stored", expected=f"1 to {allocated} below High Bit", got=stored)
    if _integer(dataset, "PixelRepresentation", 0) not in (0, 1):
        raise ObjectDamaged("Pixel Representation", expected="0 or 1", got=dataset.PixelRepresentation)
    return photometric


def _decode(dataset: Dataset) -> NDArray[Any]:
    """Decode the one frame, in the transfer syntax that it came in; [H, W] or [H, W, 3]."""
    rows, columns = int(dataset.Rows), int(dataset.Columns)
    meta = dataset.file_meta
    syntax = meta.get("TransferSyntaxUID")
    if syntax is None:
        raise ObjectDamaged("Transfer Syntax UID", expected="one", got="none")
    try:
        if syntax.is_private or not syntax.is_transfer_syntax:
            raise PixelsUnsupported(
                "transfer syntax", expected="one of PS3.6 table A-1", got=str(syntax)[:64]
            )
        if syntax.is_encapsulated:
            frame = next(generate_frames(dataset.PixelData, number_of_frames=1), b"")
            announced = codestream.size(frame)
            if announced not in (None, (rows, columns)):
                expected = f"{rows} rows, {columns} columns"
                raise PixelsUndecodable("compressed frame", expected=expected, got="another size")
        array = pixel_array(dataset)
    except NotImplementedError as error:
        raise PixelsUnsupported("transfer syntax", expected="one with a decoder", got=syntax.name) from error
    except (*MALFORMED, MemoryError) as error:
        got = type(error).__name__
        raise PixelsUndecodable("pixel data", expected=f"a frame in {syntax.name}", got=got) from error
    wanted = (rows, columns, 3) if int(dataset.get("SamplesPerPixel", 1)) == 3 else (rows, columns)
    if array.shape != wanted:
        raise PixelsUndecodable("pixel data", expected=f"shape {wanted}", got=array.shape)
    return array


def _stored(decoded: NDArray[Any], dataset: Dataset) -> NDArray[np.int32]:
    """Only the bits from High Bit down to Bits Stored count (PS3.5 8.1.1); overlays may sit in the others."""
    bits = int(dataset.BitsStored)
    values = decoded.astype(np.int32)
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        values >>= int(dataset.get("HighBit", bits - 1)) + 1 - bits
    values &= (1 << bits) - 1
    if int(dataset.get("PixelRepresentation", 0)) == 1:
        values = np.where(values >> (bits - 1), values - (1 << bits), values).astype(np.int32)
    return values


def _integer(dataset: Dataset, keyword: str, default: int | None = None) -> int:
    value = dataset.get(keyword)
    if value is None or value == "":
        value = default
    if not isinstance(value, int):  # IS is a subclass
        got = "none" if value is None else type(value).__name__
        raise ObjectDamaged(keyword, expected="one integer", got=got)
    return int(value)
