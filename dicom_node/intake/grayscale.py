"""The grey-scale pipeline (PS3.3 C.11, PS3.4 N.2): stored values, modality, values of interest, display.

Each stage carries the range that its values may have, because inversion and scaling use the range: an image's
maximum depends on its content, and inverting with it would shift every grey level.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue

from dicom_node.intake.errors import ObjectDamaged, PresentationContradictory

Float64 = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DisplaySettings:
    """Choices that the standard leaves to the viewer.

    Attributes
    ----------
    voi_index : int
        Which VOI LUT item or window; the first where the object has fewer.
    prefer : str
        ``lut`` or ``window``, where an object has both (PS3.3 C.11.2.1.1: one is chosen).
    without_voi : str
        ``range`` (all values that the bits can hold) or ``minmax`` (the image's own, padding left out).
    """

    voi_index: int = 0
    prefer: str = "lut"
    without_voi: str = "range"


@dataclass(frozen=True, slots=True)
class Plane:
    """Values [H, W] and the range from `low` to `high` that they may take."""

    values: Float64
    low: float
    high: float


def to_display(stored: NDArray[Any], dataset: Dataset, settings: DisplaySettings) -> NDArray[np.float32]:
    """Render a monochrome image.

    Parameters
    ----------
    stored : ndarray of integers, shape [H, W]
        Stored values: sign extended, without bits above Bits Stored.
    dataset : Dataset
        The image's attributes.
    settings : DisplaySettings

    Returns
    -------
    ndarray of float32, shape [H, W]
        0 black to 1 white; pixel padding is black.

    Raises
    ------
    ObjectDamaged
        A window or look-up table is malformed.
    PresentationContradictory
        See `inverted`.
    """
    invert = inverted(dataset)
    padding = padding_mask(stored, dataset)
    plane = _modality(stored, dataset)
    unit = _values_of_interest(plane, padding, dataset, settings)
    unit = np.clip(unit, 0.0, 1.0)
    if invert:
        unit = 1.0 - unit
    if padding is not None:
        unit[padding] = 0.0
    return np.asarray(unit, dtype=np.float32)


def inverted(dataset: Dataset) -> bool:
    """Whether low values are white.

    MONOCHROME1 (PS3.3 C.7.6.3.1.2) and Presentation LUT Shape INVERSE (C.11.6.1.2, allowed with MONOCHROME1
    only) say the same thing once each; they don't add up.

    Raises
    ------
    PresentationContradictory
        One says so and the other denies it; viewers differ on such objects, so a person must look.
    """
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    shape = str(dataset.get("PresentationLUTShape", "") or "")
    by_shape = {"INVERSE": True, "IDENTITY": False}.get(shape)
    by_photometric = photometric == "MONOCHROME1"
    if by_shape is not None and by_shape != by_photometric:
        expected = "INVERSE with MONOCHROME1, IDENTITY with MONOCHROME2"
        raise PresentationContradictory(
            "Presentation LUT Shape", expected=expected, got=f"{shape} with {photometric}"
        )
    return by_photometric


def padding_mask(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.bool_] | None:
    """Pixels that are no part of the image (PS3.3 C.7.5.1.1.2), or None; tested before any look-up table."""
    first = dataset.get("PixelPaddingValue")
    if not isinstance(first, int):
        return None
    last = dataset.get("PixelPaddingRangeLimit", first)
    last = last if isinstance(last, int) else first
    mask = (stored >= min(first, last)) & (stored <= max(first, last))
    return mask if mask.any() else None


def stored_range(dataset: Dataset) -> tuple[int, int]:
    """Smallest and largest number that Bits Stored can hold."""
    bits = int(dataset.BitsStored)
    if int(dataset.PixelRepresentation) == 1:
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    return 0, (1 << bits) - 1


def _modality(stored: NDArray[Any], dataset: Dataset) -> Plane:
    """Modality LUT or rescale (PS3.3 C.11.1)."""
    low, high = stored_range(dataset)
    items = dataset.get("ModalityLUTSequence")
    if items:
        values, bits = _look_up(stored.astype(np.float64), items[0], signed=low < 0)
        return Plane(values, 0.0, float((1 << bits) - 1))
    slope = _number(dataset, "RescaleSlope", 1.0)
    intercept = _number(dataset, "RescaleIntercept", 0.0)
    if slope == 0:
        raise ObjectDamaged("Rescale Slope", expected="not zero", got=0)
    ends = sorted((low * slope + intercept, high * slope + intercept))
    return Plane(stored.astype(np.float64) * slope + intercept, ends[0], ends[1])


def _values_of_interest(
    plane: Plane, padding: NDArray[np.bool_] | None, dataset: Dataset, settings: DisplaySettings
) -> Float64:
    """VOI LUT, window, or the whole range (PS3.3 C.11.2); 0 to 1, not yet clipped."""
    tables = dataset.get("VOILUTSequence") or ()
    windows = _windows(dataset)
    if tables and (settings.prefer == "lut" or not windows):
        item = tables[settings.voi_index if settings.voi_index < len(tables) else 0]
        values, bits = _look_up(plane.values, item, signed=plane.low < 0)
        return values / float((1 << bits) - 1)
    if windows:
        centre, width = windows[settings.voi_index if settings.voi_index < len(windows) else 0]
        return _window(plane.values, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR"))
    low, high = plane.low, plane.high
    if settings.without_voi == "minmax":
        inside = plane.values if padding is None else plane.values[~padding]
        if inside.size:
            low, high = float(inside.min()), float(inside.max())
    return (plane.values - low) / (high - low if high > low else 1.0)


def _window(values: Float64, centre: float, width: float, function: str) -> Float64:
    """A window as in PS3.3 C.11.2.1.2 (linear) and C.11.2.1.3 (sigmoid, linear exact), to 0..1."""
    if function == "SIGMOID" and width > 0:
        exponent = np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)
        return np.asarray(1.0 / (1.0 + np.exp(exponent)))
    if function == "LINEAR_EXACT" and width > 0:
        return (values - centre) / width + 0.5
    if function == "LINEAR" and width > 1:
        return (values - (centre - 0.5)) / (width - 1.0) + 0.5
    if function == "LINEAR" and width == 1:
        return np.where(values > centre - 0.5, 1.0, 0.0)
    expected = "LINEAR with a width of at least 1, LINEAR_EXACT or SIGMOID with one above 0"
    raise ObjectDamaged("VOI window", expected=expected, got=f"{function[:16]} with {width}")


def _windows(dataset: Dataset) -> list[tuple[float, float]]:
    centres = _numbers(dataset, "WindowCenter")
    widths = _numbers(dataset, "WindowWidth")
    return list(zip(centres, widths, strict=False))


def _look_up(values: Float64, item: Dataset, *, signed: bool) -> tuple[Float64, int]:
    """Apply a LUT item (PS3.3 C.11.1.1, C.11.2.1.1); values outside take the nearest entry.

    Returns
    -------
    values : ndarray of float64
    bits : int
        Width of the entries.
    """
    descriptor = _numbers(item, "LUTDescriptor")
    if len(descriptor) != 3:
        raise ObjectDamaged("LUT Descriptor", expected="3 values", got=len(descriptor))
    count, first, bits = (int(n) for n in descriptor)
    count = count & 0xFFFF or 1 << 16  # may have been read as signed; 0 stands for 2^16
    if signed and first > 0x7FFF:
        first -= 1 << 16
    if not 8 <= bits <= 16:
        raise ObjectDamaged("LUT Descriptor bits", expected="8 to 16", got=bits)
    table = _entries(item, count)
    index = np.clip(np.rint(values) - first, 0, count - 1).astype(np.int64)
    return table[index], bits


def _entries(item: Dataset, count: int) -> Float64:
    """LUT Data as numbers; its VR may be US, SS or OW, the last also with two 8-bit entries a word."""
    data = item.get("LUTData")
    if isinstance(data, bytes):
        if len(data) in (count, count + 1) and count > 1:
            table: NDArray[Any] = np.frombuffer(data, dtype=np.uint8)
        else:
            order = "<" if item.original_encoding[1] is not False else ">"
            table = np.frombuffer(data[: len(data) // 2 * 2], dtype=f"{order}u2")
    elif isinstance(data, Iterable) and not isinstance(data, str):
        table = np.asarray([int(n) & 0xFFFF for n in data])
    else:
        table = np.asarray([])
    if len(table) < count:
        raise ObjectDamaged("LUT Data", expected=f"{count} entries", got=len(table))
    return table[:count].astype(np.float64)


def _numbers(dataset: Dataset, keyword: str) -> list[float]:
    value = dataset.get(keyword)
    if value is None or value == "":
        return []
    items = list(value) if isinstance(value, MultiValue | list | tuple) else [value]
    try:
        numbers = [float(item) for item in items]
    except (TypeError, ValueError) as error:
        raise ObjectDamaged(keyword, expected="numbers", got=type(error).__name__) from error
    if not np.isfinite(numbers).all():
        raise ObjectDamaged(keyword, expected="finite numbers", got="others")
    return numbers


def _number(dataset: Dataset, keyword: str, default: float) -> float:
    return (_numbers(dataset, keyword) or [default])[0]
