"""Networks of `keras.applications` with random weights and calibrated statistics, for benchmarks.

A freshly initialised network has batch-normalisations that normalise nothing, values that die out or
explode, and filters that pass noise rather than shapes: half a grey level of noise on the picture
changes its outputs altogether, which says nothing about arithmetic. Here every batch-normalisation
gets the statistics of its own inputs on a few images, layer by layer, with random factors and
offsets, some of the factors negative; kernels get a random mean over their taps and lean towards the
directions in which their inputs vary, as trained ones do. These are no diagnostic models and must not
be presented as any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from secure_infer.compiler.options import CompileOptions, InputOptions
from secure_infer.errors import OptionError

Array = NDArray[np.float64]

_IMAGES = 8
_NEGATIVE_FACTORS = 0.1
_ROUGHNESS = 0.4
_QUIET = 0.05
_MANY_CHANNELS = 8
_SAMPLES = 20_000


@dataclass(frozen=True)
class Architecture:
    """How a benchmark network is built: its constructor, `preprocess_input` mode and head."""

    constructor: str
    normalisation: str
    classes: int
    activation: str


ARCHITECTURES = {
    "densenet121": Architecture("DenseNet121", "torch", 14, "sigmoid"),
    "resnet50": Architecture("ResNet50", "caffe", 14, "softmax"),
    "vgg16": Architecture("VGG16", "caffe", 14, "softmax"),
    "xception": Architecture("Xception", "tf", 14, "softmax"),
    "mobilenetv2": Architecture("MobileNetV2", "tf", 14, "softmax"),
}


@dataclass(frozen=True)
class BenchmarkModel:
    """A network, and how to compile it for grey pictures from 0 to 255."""

    model: Any
    options: CompileOptions


def benchmark_model(name: str, images: Sequence[NDArray[Any]], *, seed: int = 0) -> BenchmarkModel:
    """Build a network such as ``densenet121-320``.

    Parameters
    ----------
    name : str
        ``ARCHITECTURE-SIZE``, one of `ARCHITECTURES` and the side of the square image in pixels.
    images : arrays [size, size]
        Grey pictures from 0 to 255, for the statistics; the first 8 are used.
    seed : int
        Of all weights: the same seed and images make the same network.

    Raises
    ------
    OptionError
        For another name, or images of another size.
    """
    kind, _, side = name.partition("-")
    if kind not in ARCHITECTURES or not side.isdigit() or not 32 <= int(side) <= 1024:
        expected = f"one of {', '.join(ARCHITECTURES)} with a size, such as densenet121-320"
        raise OptionError("benchmark model", expected=expected, got=repr(name))
    size = int(side)
    if not images or any(np.shape(image) != (size, size) for image in images):
        raise OptionError("benchmark images", expected=f"pictures of {size}x{size}", got="others or none")
    architecture = ARCHITECTURES[kind]
    keras.utils.set_random_seed(seed)
    model = getattr(keras.applications, architecture.constructor)(
        weights=None,
        input_shape=(size, size, 3),
        classes=architecture.classes,
        classifier_activation=architecture.activation,
    )
    options = CompileOptions(input=InputOptions(normalisation=architecture.normalisation))
    _calibrate(model, _normalised(images[:_IMAGES], architecture.normalisation), np.random.default_rng(seed))
    return BenchmarkModel(model, options)


def _normalised(images: Sequence[NDArray[Any]], mode: str) -> NDArray[np.float32]:
    batch = np.repeat(np.asarray(images, np.float32)[..., None], 3, axis=-1)
    return np.asarray(keras.src.applications.imagenet_utils.preprocess_input(batch, mode=mode), np.float32)


def _calibrate(model: Any, batch: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Set statistics, factors and offsets layer by layer, in the order in which data passes."""
    values: dict[int, Any] = {id(model.inputs[0]): keras.ops.convert_to_tensor(batch)}
    depths = model._nodes_by_depth  # noqa: SLF001  (Keras has no public way)
    for depth in sorted(depths, reverse=True):
        for node in depths[depth]:
            if node.is_input:
                continue
            inputs = [values[id(t)] for t in node.input_tensors]
            layer = node.operation
            if isinstance(layer, keras.layers.BatchNormalization):
                _set_statistics(layer, np.asarray(inputs[0], np.float64), rng)
            _smooth(layer, rng)
            if isinstance(layer, keras.layers.Conv2D):
                _align(layer, np.asarray(inputs[0], np.float64))
            if isinstance(layer, keras.layers.Conv2D | keras.layers.Dense) and layer.name != "predictions":
                _scale(layer, inputs[0])
            if layer.name == "predictions":
                _centre(layer, np.asarray(inputs[0], np.float64))
            argument = inputs[0] if len(inputs) == 1 else inputs
            values[id(node.output_tensors[0])] = layer(argument)


def _smooth(layer: Any, rng: np.random.Generator) -> None:
    """Give the spatial kernels of a layer a random mean: [kh, kw, ...] with kh * kw > 1."""
    for name in ("kernel", "depthwise_kernel"):
        variable = getattr(layer, name, None)
        if variable is None or len(variable.shape) != 4 or variable.shape[0] * variable.shape[1] == 1:
            continue
        kernel = np.asarray(variable, np.float64)
        mean = rng.normal(0.0, kernel.std(), kernel.shape[2:])
        variable.assign(_ROUGHNESS * kernel + mean)


def _align(layer: Any, x: Array) -> None:
    """Turn a kernel [kh, kw, C, O] towards the directions in which its inputs [..., C] vary most."""
    kernel = np.asarray(layer.kernel, np.float64)
    if kernel.shape[2] != x.shape[-1] or kernel.shape[2] < _MANY_CHANNELS:
        return
    samples = x.reshape(-1, x.shape[-1])
    covariance = np.cov(samples[:: max(1, len(samples) // _SAMPLES)].T)
    turned = np.einsum("ij,hwjo->hwio", covariance, kernel)
    layer.kernel.assign(turned * (kernel.std() / max(turned.std(), 1e-30)))


def _scale(layer: Any, x: Any) -> None:
    """Scale a kernel such that what it makes has a deviation of 1, for networks that don't normalise."""
    activation, layer.activation = layer.activation, keras.activations.linear
    deviation = float(np.asarray(layer(x)).std())
    layer.activation = activation
    layer.kernel.assign(np.asarray(layer.kernel) / max(deviation, 1e-30))


def _set_statistics(layer: Any, x: Array, rng: np.random.Generator) -> None:
    axes = tuple(range(x.ndim - 1))
    mean, variance = x.mean(axis=axes), x.var(axis=axes)
    variance = np.maximum(variance, _QUIET * variance.mean() + 1e-12)
    channels = x.shape[-1]
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
    if layer.scale:
        sign = np.where(rng.random(channels) < _NEGATIVE_FACTORS, -1.0, 1.0)
        layer.gamma.assign(sign * rng.uniform(0.5, 1.5, channels))
    if layer.center:
        layer.beta.assign(rng.normal(0.6, 0.3, channels))


def _centre(layer: Any, x: Array) -> None:
    """Let the logits vary around 0 from image to image, so that no class is certain from the start."""
    layer.bias.assign(-(x @ np.asarray(layer.kernel, np.float64)).mean(axis=0))
