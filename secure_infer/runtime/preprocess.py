"""From a displayed grey picture to the model's own input units; knows pictures, not DICOM.

A *display* is a float32 array [H, W] from 0 (black) to 1 (white): what a viewer would show. PNG and JPEG
files become one here, DICOM objects in ``dicom_node.intake``; both then take the same steps as described by
the bundle's ``preprocessing.json``: grey levels, resampling, scale and offset, channels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from secure_infer.errors import BundleFormat, InputRejected

Float32 = NDArray[np.float32]

MAX_PIXELS: Final = 1 << 26
"""Largest picture that is decoded, in pixels; a detector of 43 cm at 0.1 mm has a quarter of it."""

_BOMBS: Final = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_MAX_SIDE: Final = 1 << 13
_RESAMPLINGS: Final = ("area", "bilinear", "none")
_SOURCES: Final = ("8bit", "unit")
_FITS: Final = ("stretch", "pad", "crop")


@dataclass(frozen=True)
class Preprocessing:
    """The checked content of ``preprocessing.json``.

    Parameters
    ----------
    height, width, channels : int
        Shape of the model's input.
    resample : str
        ``area`` (mean over the covered area; bilinear where it enlarges), ``bilinear`` (triangle filter,
        widened when it shrinks) or ``none`` (a picture of another size is refused).
    source : str
        ``8bit`` (the display rounded to the grey levels 0 to 255) or ``unit`` (0 to 1).
    scale, offset : tuple of float
        Applied after resampling, one per channel or one for all: ``level * scale + offset``.
    fit : str
        ``stretch`` (aspect ratio is lost), ``pad`` (black borders) or ``crop`` (the centre).
    """

    height: int
    width: int
    channels: int = 1
    resample: str = "area"
    source: str = "8bit"
    scale: tuple[float, ...] = (1.0,)
    offset: tuple[float, ...] = (0.0,)
    fit: str = "stretch"

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> "Preprocessing":
        """Check a parsed ``preprocessing.json``; keys that other rooms read are left alone.

        Raises
        ------
        BundleFormat
            A value is missing, of the wrong kind or out of range; the message names it.
        """
        intensity = mapping.get("intensity", {})
        if not isinstance(intensity, Mapping):
            raise BundleFormat("preprocessing intensity", expected="an object", got=type(intensity).__name__)
        channels = _whole(mapping, "channels", 4, default=1)
        return cls(
            height=_whole(mapping, "height", _MAX_SIDE),
            width=_whole(mapping, "width", _MAX_SIDE),
            channels=channels,
            resample=_one_of(mapping, "resample", _RESAMPLINGS),
            source=_one_of(intensity, "source", _SOURCES),
            scale=_per_channel(intensity, "scale", channels, 1.0),
            offset=_per_channel(intensity, "offset", channels, 0.0),
            fit=_one_of(mapping, "fit", _FITS),
        )


def _whole(mapping: Mapping[str, Any], key: str, largest: int, default: int | None = None) -> int:
    value = mapping.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= largest:
        expected = f"an integer from 1 to {largest}"
        raise BundleFormat(f"preprocessing {key}", expected=expected, got=repr(value))
    return value


def _one_of(mapping: Mapping[str, Any], key: str, allowed: tuple[str, ...]) -> str:
    value = mapping.get(key, allowed[0])
    if value not in allowed:
        raise BundleFormat(f"preprocessing {key}", expected=" or ".join(allowed), got=repr(value))
    return str(value)


def _per_channel(mapping: Mapping[str, Any], key: str, channels: int, default: float) -> tuple[float, ...]:
    value = mapping.get(key, default)
    numbers = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    plain = all(isinstance(n, int | float) and not isinstance(n, bool) and np.isfinite(n) for n in numbers)
    if not plain or len(numbers) not in (1, channels):
        expected = f"a finite number or {channels} of them"
        raise BundleFormat(f"preprocessing intensity {key}", expected=expected, got=repr(value))
    return tuple(float(n) for n in numbers)


def read_picture(path: Path) -> Float32:
    """Decode a PNG or JPEG file to a display.

    Colour becomes luminance (Pillow's ``L``, ITU-R 601); 16-bit grey keeps its depth; transparency is
    ignored.

    Returns
    -------
    ndarray of float32, shape [H, W], 0 to 1

    Raises
    ------
    InputRejected
        The file can't be opened or decoded, is no PNG or JPEG, or has more than `MAX_PIXELS` pixels.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG")) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                size = f"{picture.width}x{picture.height}"
                raise InputRejected("picture size", expected=f"at most {MAX_PIXELS} pixels", got=size)
            if picture.mode.startswith(("I", "F")):
                levels = np.asarray(picture, dtype=np.float32)
                return np.asarray(np.clip(levels / np.float32(65535), 0, 1), dtype=np.float32)
            return np.asarray(picture.convert("L"), dtype=np.float32) / np.float32(255)
    except UnidentifiedImageError as error:
        raise InputRejected("picture format", expected="PNG or JPEG", got="something else") from error
    except (OSError, SyntaxError, ValueError, *_BOMBS) as error:
        raise InputRejected("picture", expected="a readable PNG or JPEG", got=type(error).__name__) from error


def prepare(display: Float32, preprocessing: Preprocessing | Mapping[str, Any]) -> Float32:
    """Take a display to the model's input.

    Grey levels are rounded before resampling, so a picture that already has the model's size arrives exactly
    as its file's bytes, the way Keras would load it.

    Parameters
    ----------
    display : ndarray of float32, shape [H, W], 0 to 1
    preprocessing : Preprocessing or mapping
        A mapping is checked first.

    Returns
    -------
    ndarray of float32
        Shape [height, width] for one channel, else [height, width, channels]; the model's own input units.

    Raises
    ------
    InputRejected
        The display isn't a plane of finite numbers from 0 to 1, or has the wrong size and ``resample`` is
        ``none``.
    BundleFormat
        `preprocessing` is a mapping and malformed.
    """
    plan = preprocessing
    if not isinstance(plan, Preprocessing):
        plan = Preprocessing.from_mapping(plan)
    plane = np.asarray(display, dtype=np.float32)
    if plane.ndim != 2 or plane.size == 0:
        raise InputRejected("picture shape", expected="[height, width]", got=list(plane.shape))
    low, high = float(plane.min()), float(plane.max())
    if not (low >= 0.0 and high <= 1.0):  # also catches NaN
        raise InputRejected("picture range", expected="numbers from 0 to 1", got="others")
    levels = np.rint(plane * np.float32(255)) if plan.source == "8bit" else plane
    levels = _fit(levels, plan)
    channels = [
        levels * np.float32(plan.scale[c % len(plan.scale)]) + np.float32(plan.offset[c % len(plan.offset)])
        for c in range(plan.channels)
    ]
    return np.ascontiguousarray(channels[0] if plan.channels == 1 else np.stack(channels, axis=-1))


def prepare_file(path: Path, preprocessing: Preprocessing | Mapping[str, Any]) -> Float32:
    """`read_picture` followed by `prepare`; raises what these raise."""
    return prepare(read_picture(path), preprocessing)


def _fit(plane: Float32, plan: Preprocessing) -> Float32:
    """Bring the plane to the model's height and width."""
    height, width = plane.shape
    if (height, width) == (plan.height, plan.width):
        return plane
    if plan.resample == "none":
        raise InputRejected("picture size", expected=f"{plan.width}x{plan.height}", got=f"{width}x{height}")
    if plan.fit == "stretch":
        return _resample(plane, plan.height, plan.width, plan.resample)
    ratios = (plan.height / height, plan.width / width)
    ratio = min(ratios) if plan.fit == "pad" else max(ratios)
    inner_height, inner_width = max(1, round(height * ratio)), max(1, round(width * ratio))
    inner = _resample(plane, inner_height, inner_width, plan.resample)
    if plan.fit == "pad":
        canvas = np.zeros((plan.height, plan.width), dtype=np.float32)
        top, left = (plan.height - inner_height) // 2, (plan.width - inner_width) // 2
        canvas[top : top + inner_height, left : left + inner_width] = inner
        return canvas
    top, left = (inner_height - plan.height) // 2, (inner_width - plan.width) // 2
    return inner[top : top + plan.height, left : left + plan.width]


def _resample(plane: Float32, height: int, width: int, kind: str) -> Float32:
    """Separable resampling; every row of weights sums to one."""
    rows = _weights(plane.shape[0], height, kind)
    columns = _weights(plane.shape[1], width, kind)
    return np.asarray(rows @ plane.astype(np.float64) @ columns.T, dtype=np.float32)


def _weights(length: int, wanted: int, kind: str) -> NDArray[np.float64]:
    """Weights [wanted, length] of the input samples in each output sample; pixels are areas, not points."""
    step = length / wanted
    if kind == "area" and step > 1:
        start = np.arange(wanted)[:, None] * step
        cell = np.arange(length)[None, :]
        weights = np.minimum(start + step, cell + 1) - np.maximum(start, cell)
    else:
        centre = (np.arange(wanted)[:, None] + 0.5) * step - 0.5
        centre = np.clip(centre, 0, length - 1) if step <= 1 else centre
        weights = 1 - np.abs(np.arange(length)[None, :] - centre) / max(step, 1.0)
    weights = np.maximum(weights, 0.0)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float64)
