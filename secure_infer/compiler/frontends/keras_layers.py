"""One rule per Keras layer: what it puts into the graph, or why it can't be compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_infer.compiler.graph import (
    Add,
    Affine,
    Concat,
    Conv,
    Editor,
    MaxPool,
    Op,
    Pad,
    Relu,
    SumPool,
)
from secure_infer.errors import UnsupportedLayer
from secure_infer.runtime.steps import Padding, Pair

Array = NDArray[np.float64]

USE_RELU = "replace it by ReLU or ReLU6 and train again"


@dataclass(frozen=True)
class Call:
    """One call of a layer or operation, on its way into the graph."""

    editor: Editor
    heads: dict[str, str]
    name: str
    layer: Any
    inputs: list[str]
    node: Any

    @property
    def source(self) -> str:
        """The only input."""
        if len(self.inputs) != 1:
            raise self.refuse(f"it has {len(self.inputs)} inputs", "give it one")
        return self.inputs[0]

    @property
    def rank(self) -> int:
        """Rank of the (first) input as Keras sees it, with the batch: 4 for maps, 2 for vectors."""
        return len(self.node.input_tensors[0].shape)

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """Shape [C, H, W] of the first input."""
        return self.editor.nodes[self.inputs[0]].shape

    def put(self, op: Op, *inputs: str, suffix: str = "") -> str:
        """Put an operation under the layer's name."""
        return self.editor.put(self.editor.fresh(self.name + suffix), op, *inputs)

    def refuse(self, reason: str, helps: str) -> UnsupportedLayer:
        """The error to raise."""
        return UnsupportedLayer(self.name, reason, helps)


Rule = Callable[[Call], str]


def array(value: Any) -> Array:
    """A Keras variable or tensor as float64."""
    return np.asarray(value, np.float64)


def unsupported_layer(call: Call) -> UnsupportedLayer:
    """The refusal of a layer that has no rule."""
    kind = type(call.layer).__name__
    if not type(call.layer).__module__.startswith("keras."):
        reason = f"it is of the class {kind}, whose code can't be read"
        return call.refuse(reason, "build it from standard Keras layers, or export the model as a SavedModel")
    reason, helps = _KNOWN.get(
        kind, (f"the protocol has nothing for {kind}", "use one of the supported layers")
    )
    return call.refuse(reason, helps)


_ELSE = "use an architecture without it, such as DenseNet, ResNet, VGG, Xception or MobileNetV2"
_KNOWN: dict[str, tuple[str, str]] = {
    "Multiply": ("it multiplies two private values (squeeze-and-excitation, gates)", _ELSE),
    "MultiHeadAttention": ("attention multiplies private values", _ELSE),
    "LayerNormalization": ("it divides by a private value", "use BatchNormalization"),
    "GroupNormalization": ("it divides by a private value", "use BatchNormalization"),
    "UnitNormalization": ("it divides by a private value", "use BatchNormalization"),
    "Lambda": ("it holds Python code, which can't be read", "use standard layers"),
    "LeakyReLU": ("a slope for negative values isn't implemented", USE_RELU),
    "PReLU": ("a slope for negative values isn't implemented", USE_RELU),
    "ELU": ("the protocol has no exponential", USE_RELU),
    "Conv2DTranspose": ("it enlarges maps, which classification doesn't need", _ELSE),
    "UpSampling2D": ("it enlarges maps, which classification doesn't need", _ELSE),
}  # fmt: skip


def activate(call: Call, node: str, activation: Any) -> str:
    """Apply a Keras activation function (or None) to a node."""
    kind = "linear" if activation is None else str(getattr(activation, "__name__", type(activation).__name__))
    if activation is not None and not str(getattr(activation, "__module__", "")).startswith("keras."):
        raise call.refuse("its activation is a function whose code can't be read", USE_RELU)
    if kind == "linear":
        return node
    channels = call.editor.nodes[node].shape[0]
    if kind in ("relu", "relu6"):
        suffix = "" if call.name not in call.editor.nodes else f":{kind}"
        return call.put(Relu.plain(channels, 6.0 if kind == "relu6" else None), node, suffix=suffix)
    if kind in ("sigmoid", "softmax"):
        return put_head(call, node, kind)
    raise call.refuse(f"the protocol has no {kind}", USE_RELU)


def put_head(call: Call, node: str, kind: str) -> str:
    """Mark a node as the model's last step: the hospital applies it to the opened logits."""
    ones = np.ones(call.editor.nodes[node].shape[0])
    made = call.put(Affine(ones, np.zeros_like(ones)), node, suffix=f":{kind}")
    call.heads[made] = kind
    return made


def _check_channels_last(call: Call) -> None:
    if getattr(call.layer, "data_format", "channels_last") != "channels_last":
        raise call.refuse("its channels come first", "build the model with data_format='channels_last'")


def pair(value: Any) -> Pair:
    """A Keras pair, or a number meant twice."""
    high, wide = (value, value) if isinstance(value, int) else value
    return (int(high), int(wide))


def same_padding(extents: tuple[int, int], window: Pair, stride: Pair) -> Padding:
    """Keras' ``same`` padding: [top, bottom, left, right] (the surplus goes to the bottom and right)."""
    sides = []
    for extent, size, step in zip(extents, window, stride, strict=True):
        total = max((-(-extent // step) - 1) * step + size - extent, 0)
        sides += [total // 2, total - total // 2]
    return (sides[0], sides[1], sides[2], sides[3])


def _padding(call: Call, kernel: Pair, stride: Pair, dilation: Pair) -> Padding:
    _check_channels_last(call)
    if call.layer.padding == "valid":
        return (0, 0, 0, 0)
    if call.layer.padding != "same":
        raise call.refuse(f"its padding is {call.layer.padding!r}", "use 'same' or 'valid'")
    high, wide = ((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    return same_padding(call.in_shape[1:], (high, wide), stride)


def _bias(layer: Any, outputs: int) -> Array:
    return array(layer.bias) if getattr(layer, "use_bias", False) else np.zeros(outputs)


def _conv(call: Call) -> str:
    layer = call.layer
    weights = array(layer.kernel).transpose(3, 2, 0, 1)
    stride, dilation = pair(layer.strides), pair(layer.dilation_rate)
    padding = _padding(call, (weights.shape[2], weights.shape[3]), stride, dilation)
    op = Conv(weights, _bias(layer, len(weights)), stride, dilation, padding, int(layer.groups))
    return activate(call, call.put(op, call.source), layer.activation)


def depthwise_weights(kernel: Array) -> Array:
    """Keras' [kh, kw, C, multiplier] -> [C * multiplier, 1, kh, kw]."""
    high, wide, channels, multiplier = kernel.shape
    return kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, high, wide)


def _depthwise(call: Call) -> str:
    layer = call.layer
    weights = depthwise_weights(array(layer.kernel))
    stride, dilation = pair(layer.strides), pair(layer.dilation_rate)
    padding = _padding(call, (weights.shape[2], weights.shape[3]), stride, dilation)
    op = Conv(weights, _bias(layer, len(weights)), stride, dilation, padding, call.in_shape[0])
    return activate(call, call.put(op, call.source), layer.activation)


def _separable(call: Call) -> str:
    layer = call.layer
    depthwise = depthwise_weights(array(layer.depthwise_kernel))
    pointwise = array(layer.pointwise_kernel).transpose(3, 2, 0, 1)
    stride, dilation = pair(layer.strides), pair(layer.dilation_rate)
    padding = _padding(call, (depthwise.shape[2], depthwise.shape[3]), stride, dilation)
    first = Conv(depthwise, np.zeros(len(depthwise)), stride, dilation, padding, call.in_shape[0])
    middle = call.put(first, call.source, suffix=":depthwise")
    made = call.put(Conv(pointwise, _bias(layer, len(pointwise))), middle)
    return activate(call, made, layer.activation)


def _dense(call: Call) -> str:
    layer = call.layer
    kernel = array(layer.kernel)
    channels, high, wide = call.in_shape
    if call.rank == 4:
        high = wide = 1
    elif call.rank != 2:
        raise call.refuse(f"its input has rank {call.rank}", "flatten or pool the map first")
    weights = kernel.reshape(high, wide, channels, -1).transpose(3, 2, 0, 1)
    made = call.put(Conv(weights, _bias(layer, len(weights))), call.source)
    return activate(call, made, layer.activation)


def per_channel(call: Call, value: Any, what: str) -> Array:
    """A number or an array that varies only along the last axis, as one number per channel."""
    channels = call.in_shape[0]
    if call.rank == 2 and call.in_shape[1:] != (1, 1):
        raise call.refuse("it acts on a flattened map", "put it before the Flatten layer")
    values = array(value)
    if values.size not in (1, channels) or (values.size > 1 and values.shape[-1] != values.size):
        raise call.refuse(f"its {what} differ between pixels", "use one value per channel")
    return np.broadcast_to(values.reshape(-1), (channels,)).copy()


def _batch_norm(call: Call) -> str:
    layer = call.layer
    axis = layer.axis[0] if isinstance(layer.axis, list | tuple) else layer.axis
    if axis not in (-1, call.rank - 1):
        raise call.refuse(f"it normalises axis {axis}", "normalise the channels, which come last")
    gamma = array(layer.gamma) if layer.scale else 1.0
    beta = array(layer.beta) if layer.center else 0.0
    scale = gamma / np.sqrt(array(layer.moving_variance) + layer.epsilon)
    shift = beta - scale * array(layer.moving_mean)
    op = Affine(per_channel(call, scale, "factors"), per_channel(call, shift, "offsets"))
    return call.put(op, call.source)


def _rescaling(call: Call) -> str:
    scale = per_channel(call, call.layer.scale, "factors")
    shift = per_channel(call, call.layer.offset, "offsets")
    return call.put(Affine(scale, shift), call.source)


def _normalization(call: Call) -> str:
    layer = call.layer
    mean, deviation = array(layer.mean), np.maximum(np.sqrt(array(layer.variance)), 1e-7)
    scale, shift = (deviation, mean) if layer.invert else (1 / deviation, -mean / deviation)
    return call.put(
        Affine(per_channel(call, scale, "factors"), per_channel(call, shift, "offsets")), call.source
    )


def _activation(call: Call) -> str:
    return activate(call, call.source, call.layer.activation)


def _relu(call: Call) -> str:
    layer = call.layer
    if np.any(array(layer.negative_slope)) or np.any(array(layer.threshold)):
        raise call.refuse("it has a slope for negative values or a threshold", USE_RELU)
    ceiling = None if layer.max_value is None else float(layer.max_value)
    if ceiling is not None and ceiling <= 0:
        raise call.refuse("its max_value isn't positive", USE_RELU)
    return call.put(Relu.plain(call.in_shape[0], ceiling), call.source)


def _softmax(call: Call) -> str:
    if call.layer.axis not in (-1, call.rank - 1):
        raise call.refuse("it isn't taken over the classes", "use axis=-1")
    return put_head(call, call.source, "softmax")


def _max_pool(call: Call) -> str:
    pool, stride = pair(call.layer.pool_size), pair(call.layer.strides)
    return call.put(MaxPool(pool, stride, _padding(call, pool, stride, (1, 1))), call.source)


def _average_pool(call: Call) -> str:
    pool, stride = pair(call.layer.pool_size), pair(call.layer.strides)
    if any(_padding(call, pool, stride, (1, 1))):
        reason = "it averages over fewer pixels at the border"
        raise call.refuse(reason, "use padding='valid', or a window that divides the map")
    return put_average(call, pool, stride)


def put_average(call: Call, pool: Pair, stride: Pair) -> str:
    """Put an average as a sum and a factor."""
    total = call.put(SumPool(pool, stride), call.source, suffix=":sum")
    factor = np.full(call.in_shape[0], 1.0 / (pool[0] * pool[1]))
    return call.put(Affine(factor, np.zeros_like(factor)), total)


def _global_average(call: Call) -> str:
    _check_channels_last(call)
    return put_average(call, call.in_shape[1:], (1, 1))


def _global_max(call: Call) -> str:
    _check_channels_last(call)
    return call.put(MaxPool(call.in_shape[1:], (1, 1)), call.source)


def _zero_padding(call: Call) -> str:
    _check_channels_last(call)
    (top, bottom), (left, right) = call.layer.padding
    return call.put(Pad((int(top), int(bottom), int(left), int(right))), call.source)


def _add(call: Call) -> str:
    shapes = {call.editor.nodes[i].shape for i in call.inputs}
    if len(shapes) != 1:
        raise call.refuse("its inputs differ in shape", "add maps of the same shape")
    return call.put(Add(), *call.inputs)


def put_concat(call: Call, axis: int) -> str:
    """Put a concatenation of channels."""
    if axis not in (-1, call.rank - 1):
        raise call.refuse(f"it joins axis {axis}", "join channels, which come last")
    if call.rank == 2 and any(call.editor.nodes[i].shape[1:] != (1, 1) for i in call.inputs):
        raise call.refuse("it joins flattened maps", "join the maps before they are flattened")
    return call.put(Concat(), *call.inputs)


def _concatenate(call: Call) -> str:
    return put_concat(call, int(call.layer.axis))


def _flatten(call: Call) -> str:
    _check_channels_last(call)
    return call.source


def _reshape(call: Call) -> str:
    shape = tuple(call.node.output_tensors[0].shape[1:])
    channels, high, wide = call.in_shape
    flat = len(shape) == 1
    if not flat and shape != (high, wide, channels):
        raise call.refuse(f"it makes the shape {list(shape)}", "only flattening is a matter of names here")
    return call.source


def _identity(call: Call) -> str:
    return call.source


LAYER_RULES: dict[str, Rule] = {
    "Activation": _activation,
    "ActivityRegularization": _identity,
    "Add": _add,
    "AlphaDropout": _identity,
    "AveragePooling2D": _average_pool,
    "BatchNormalization": _batch_norm,
    "Concatenate": _concatenate,
    "Conv2D": _conv,
    "Dense": _dense,
    "DepthwiseConv2D": _depthwise,
    "Dropout": _identity,
    "Flatten": _flatten,
    "GaussianDropout": _identity,
    "GaussianNoise": _identity,
    "GlobalAveragePooling2D": _global_average,
    "GlobalMaxPooling2D": _global_max,
    "Identity": _identity,
    "MaxPooling2D": _max_pool,
    "Normalization": _normalization,
    "ReLU": _relu,
    "Rescaling": _rescaling,
    "Reshape": _reshape,
    "SeparableConv2D": _separable,
    "Softmax": _softmax,
    "SpatialDropout2D": _identity,
    "ZeroPadding2D": _zero_padding,
}
