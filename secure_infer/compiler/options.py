"""What a caller of the compiler may choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from secure_infer.bundle.card import Code
from secure_infer.compiler.graph import Affine, Concat, Conv, Editor, Graph, Image
from secure_infer.compiler.precision.options import PrecisionOptions
from secure_infer.errors import OptionError

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)
_CAFFE_MEAN = (103.939, 116.779, 123.68)


@dataclass(frozen=True)
class InputOptions:
    """From the hospital's pixels to what the model was trained on.

    The hospital delivers grey levels; what `normalisation` says is folded into the first layer.

    Attributes
    ----------
    source : str
        ``8bit``: pixels from 0 to 255; ``unit``: from 0 to 1. Calibration images come in the same.
    grey : bool
        Whether a model with several input channels gets the same grey picture in all of them.
    normalisation : str
        What the model expects to be done to its input and doesn't do itself: ``none``, or one of
        Keras' ``preprocess_input`` modes ``tf``, ``torch`` and ``caffe`` (for pixels from 0 to 255).
    resample, fit : str
        As in ``preprocessing.json``.
    """

    source: str = "8bit"
    grey: bool = True
    normalisation: str = "none"
    resample: str = "area"
    fit: str = "stretch"

    def __post_init__(self) -> None:
        _one_of("source", self.source, ("8bit", "unit"))
        _one_of("normalisation", self.normalisation, ("none", "tf", "torch", "caffe"))
        _one_of("resample", self.resample, ("area", "bilinear", "none"))
        _one_of("fit", self.fit, ("stretch", "pad", "crop"))
        if self.normalisation != "none" and self.source != "8bit":
            raise OptionError(
                "option normalisation", expected="none for a unit source", got=self.normalisation
            )

    @property
    def largest(self) -> float:
        """The whitest pixel."""
        return 255.0 if self.source == "8bit" else 1.0


@dataclass(frozen=True)
class CompileOptions:
    """Everything about a compilation besides the model and the calibration images.

    Attributes
    ----------
    precision : PrecisionOptions, optional
        None tries those of `LADDER` in turn until the held-out images are within the tolerance.
    tolerance : float
        The search ends when the error to be expected of a probability is below this: four standard
        deviations of the logits' errors on held-out images, where the activation is steepest.
    activation : str, optional
        What the hospital applies to the logits, for models that end in logits: ``none``, ``sigmoid``
        or ``softmax``; None keeps the model's own.
    findings : tuple of str
        Names of the outputs, in the model's order; empty for names of the compiler's own.
    thresholds : float or mapping of finding to float
        Operating points on the probabilities.
    codes : mapping of finding to Code
    model_card : mapping
        The fields of ``model_card.json`` that the developer states; the rest is filled in.
    """

    input: InputOptions = field(default_factory=InputOptions)
    precision: PrecisionOptions | None = None
    tolerance: float = 0.006
    activation: str | None = None
    findings: tuple[str, ...] = ()
    thresholds: float | Mapping[str, float] = 0.5
    codes: Mapping[str, Code] = field(default_factory=dict)
    model_card: Mapping[str, Any] = field(default_factory=dict)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise OptionError(f"option {name}", expected=" or ".join(allowed), got=repr(value))


def with_input(graph: Graph, options: InputOptions) -> Graph:
    """Put the hospital's image in front of a model: grey to channels, and the normalisation."""
    image = graph.image
    channels, height, width = image.shape
    editor = Editor.of(graph)
    grey = options.grey and channels > 1
    if not grey and options.normalisation == "none":
        return graph
    outside = editor.fresh(f"{image.name}:pixels")
    name = editor.put(outside, Image((1 if grey else channels, height, width)))
    if grey:
        name = editor.put(editor.fresh(f"{image.name}:channels"), Concat(), *[name] * channels)
    if options.normalisation != "none":
        if channels != 3:
            expected = "a model with 3 channels"
            raise OptionError(
                f"option normalisation {options.normalisation}", expected=expected, got=channels
            )
        if options.normalisation == "caffe" and not grey:
            flipped = Conv(np.eye(3)[::-1, :, None, None].copy(), np.zeros(3))
            name = editor.put(editor.fresh(f"{image.name}:bgr"), flipped, name)
        name = editor.put(editor.fresh(f"{image.name}:normalised"), normaliser(options.normalisation), name)
    editor.redirect(image.name, name)
    del editor.nodes[image.name]
    return editor.graph()


def normaliser(mode: str) -> Affine:
    """Keras' ``preprocess_input`` as a map of the three channels (in the order the model sees)."""
    if mode == "tf":
        return Affine(np.full(3, 1 / 127.5), np.full(3, -1.0))
    if mode == "torch":
        mean, std = np.array(_IMAGENET_MEAN), np.array(_IMAGENET_STD)
        return Affine(1 / (255 * std), -mean / std)
    return Affine(np.ones(3), -np.array(_CAFFE_MEAN))
