"""One rule per TensorFlow operation (NHWC) that may depend on the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_infer.compiler.frontends.keras_layers import USE_RELU, depthwise_weights, same_padding
from secure_infer.compiler.graph import Add, Affine, Concat, Conv, Editor, MaxPool, Op, Pad, Relu, SumPool
from secure_infer.errors import UnsupportedLayer
from secure_infer.runtime.steps import Padding, Pair

Array = NDArray[np.float64]
Operand = str | NDArray[Any] | None


@dataclass(frozen=True)
class Operation:
    """One TensorFlow operation; an operand is a node's name, or an array when it is constant."""

    editor: Editor
    heads: dict[str, str]
    name: str
    op: Any
    inputs: list[Operand]

    @property
    def image(self) -> str:
        """The first operand, which must depend on the image."""
        if not isinstance(self.inputs[0], str):
            raise self.refuse("its first operand doesn't depend on the image", "simplify the model")
        return self.inputs[0]

    def constant(self, index: int) -> Array:
        """An operand that must not depend on the image."""
        value = self.inputs[index]
        if not isinstance(value, np.ndarray):
            raise self.refuse("it combines two private values", "use an architecture without such products")
        return value.astype(np.float64)

    @property
    def rank(self) -> int:
        """Rank of the first operand."""
        return int(self.op.inputs[0].shape.rank)

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """Shape [C, H, W] of the first operand."""
        return self.editor.nodes[self.image].shape

    def put(self, op: Op, *inputs: str) -> str:
        """Put an operation under this name."""
        return self.editor.put(self.editor.fresh(self.name), op, *inputs)

    def refuse(self, reason: str, helps: str) -> UnsupportedLayer:
        """The error to raise."""
        return UnsupportedLayer(self.name, f"{self.op.type}: {reason}", helps)


Rule = Callable[[Operation], str]


def refuse_operation(operation: Operation) -> UnsupportedLayer:
    """The refusal of an operation without a rule."""
    if operation.op.type in ("Elu", "Selu", "LeakyRelu", "Tanh", "Softplus", "Erf", "Exp", "HardSwish"):
        return operation.refuse("the protocol has nothing for this activation", USE_RELU)
    helps = "use an architecture without it, such as DenseNet, ResNet, VGG, Xception or MobileNetV2"
    return operation.refuse("the protocol has nothing for this operation", helps)


def _identity(o: Operation) -> str:
    return o.image


def _cast(o: Operation) -> str:
    if not o.op.outputs[0].dtype.is_floating:
        raise o.refuse("it rounds", "keep the image in floating point")
    return o.image


def _window(o: Operation, attribute: str) -> Pair:
    values = list(o.op.get_attr(attribute))
    if o.op.get_attr("data_format") != b"NHWC":
        raise o.refuse("its channels come first", "export the model with channels last")
    return (int(values[1]), int(values[2]))


def _padding(o: Operation, window: Pair, stride: Pair) -> Padding:
    kind = o.op.get_attr("padding")
    if kind == b"VALID":
        return (0, 0, 0, 0)
    if kind == b"SAME":
        return same_padding(o.in_shape[1:], window, stride)
    sides = list(o.op.get_attr("explicit_paddings"))
    return (int(sides[2]), int(sides[3]), int(sides[4]), int(sides[5]))


def _convolution(o: Operation, weights: Array, groups: int) -> str:
    stride, dilation = _window(o, "strides"), _window(o, "dilations")
    high, wide = ((k - 1) * d + 1 for k, d in zip(weights.shape[2:], dilation, strict=True))
    padding = _padding(o, (high, wide), stride)
    return o.put(Conv(weights, np.zeros(len(weights)), stride, dilation, padding, groups), o.image)


def _conv(o: Operation) -> str:
    weights = o.constant(1).transpose(3, 2, 0, 1)
    return _convolution(o, weights, o.in_shape[0] // weights.shape[1])


def _depthwise(o: Operation) -> str:
    return _convolution(o, depthwise_weights(o.constant(1)), o.in_shape[0])


def _matmul(o: Operation) -> str:
    matrix = o.constant(1)
    matrix = matrix.T if o.op.get_attr("transpose_b") else matrix
    channels, high, wide = o.in_shape
    weights = matrix.reshape(high, wide, channels, -1).transpose(3, 2, 0, 1)
    return o.put(Conv(weights, np.zeros(len(weights))), o.image)


def _per_channel(o: Operation, node: str, values: Array) -> Array:
    channels, high, wide = o.editor.nodes[node].shape
    flattened = o.op.outputs[0].shape.rank == 2 and (high, wide) != (1, 1)
    if flattened and values.size > 1:
        raise o.refuse("it acts on a flattened map", "put it before the flattening")
    if values.size not in (1, channels) or (values.size > 1 and values.shape[-1] != values.size):
        raise o.refuse("its constants differ between pixels", "use one value per channel")
    return np.broadcast_to(values.reshape(-1), (channels,)).copy()


def _affine(o: Operation, node: str, scale: Array, shift: Array) -> str:
    return o.put(Affine(_per_channel(o, node, scale), _per_channel(o, node, shift)), node)


def _one_constant(o: Operation) -> tuple[str, Array, bool]:
    """The node, the constant, and whether the constant comes first."""
    left, right = o.inputs[:2]
    if isinstance(left, str) and isinstance(right, np.ndarray):
        return left, right.astype(np.float64), False
    if isinstance(right, str) and isinstance(left, np.ndarray):
        return right, left.astype(np.float64), True
    raise o.refuse(
        "it combines two private values", "use an architecture without squeeze-and-excitation or gates"
    )


def _sum(o: Operation) -> str:
    left, right = o.inputs[:2]
    if isinstance(left, str) and isinstance(right, str):
        if o.editor.nodes[left].shape != o.editor.nodes[right].shape:
            raise o.refuse("its operands differ in shape", "add maps of the same shape")
        return o.put(Add(), left, right)
    node, constant, _ = _one_constant(o)
    return _affine(o, node, np.ones(1), constant)


def _difference(o: Operation) -> str:
    node, constant, first = _one_constant(o)
    return _affine(o, node, np.full(1, -1.0 if first else 1.0), constant if first else -constant)


def _product(o: Operation) -> str:
    node, constant, _ = _one_constant(o)
    return _affine(o, node, constant, np.zeros(1))


def _quotient(o: Operation) -> str:
    node, constant, first = _one_constant(o)
    if first:
        raise o.refuse("it divides by a private value", "divide by constants only")
    return _affine(o, node, 1.0 / constant, np.zeros(1))


def _batch_norm(o: Operation) -> str:
    if o.op.get_attr("is_training"):
        raise o.refuse("it normalises by the image's own statistics", "export the model for inference")
    gamma, beta, mean, variance = (o.constant(i) for i in range(1, 5))
    scale = gamma / np.sqrt(variance + o.op.get_attr("epsilon"))
    return _affine(o, o.image, scale, beta - scale * mean)


def _relu(o: Operation) -> str:
    return o.put(Relu.plain(o.in_shape[0]), o.image)


def _relu6(o: Operation) -> str:
    return o.put(Relu.plain(o.in_shape[0], 6.0), o.image)


def _maximum(o: Operation) -> str:
    node, constant, _ = _one_constant(o)
    if constant.any():
        raise o.refuse("only a maximum with 0 is a ReLU", USE_RELU)
    return o.put(Relu.plain(o.editor.nodes[node].shape[0]), node)


def _minimum(o: Operation) -> str:
    """min(ReLU(x), c): a clipped ReLU."""
    node, constant, _ = _one_constant(o)
    relu = o.editor.nodes[node]
    if (
        not isinstance(relu.op, Relu)
        or relu.op.ceiling is not None
        or constant.size != 1
        or constant.item() <= 0
    ):
        raise o.refuse("only a ReLU can be clipped, at a positive number", USE_RELU)
    ceiling = np.full(relu.shape[0], constant.item())
    return o.put(replace(relu.op, ceiling=ceiling), *relu.inputs)


def _max_pool(o: Operation) -> str:
    pool, stride = _window(o, "ksize"), _window(o, "strides")
    return o.put(MaxPool(pool, stride, _padding(o, pool, stride)), o.image)


def _average(o: Operation, pool: Pair, stride: Pair) -> str:
    factor = np.full(o.in_shape[0], 1.0 / (pool[0] * pool[1]))
    return o.put(Affine(factor, np.zeros_like(factor)), o.put(SumPool(pool, stride), o.image))


def _average_pool(o: Operation) -> str:
    pool, stride = _window(o, "ksize"), _window(o, "strides")
    if any(_padding(o, pool, stride)):
        helps = "use padding='valid', or a window that divides the map"
        raise o.refuse("it averages over fewer pixels at the border", helps)
    return _average(o, pool, stride)


def _whole_map(o: Operation) -> Pair:
    axes = sorted(int(a) % o.rank for a in o.constant(1).reshape(-1))
    if o.rank != 4 or axes != [1, 2]:
        raise o.refuse(f"it reduces the axes {axes}", "reduce height and width only")
    return (o.in_shape[1], o.in_shape[2])


def _mean(o: Operation) -> str:
    return _average(o, _whole_map(o), (1, 1))


def _max(o: Operation) -> str:
    return o.put(MaxPool(_whole_map(o), (1, 1)), o.image)


def _pad(o: Operation) -> str:
    sides = o.constant(1).astype(int)
    value = o.constant(2) if len(o.inputs) > 2 else np.zeros(1)
    if o.rank != 4 or sides[0].any() or sides[3].any() or value.any() or (sides < 0).any():
        raise o.refuse("only zeros around the image are possible", "pad height and width with zeros")
    return o.put(Pad((int(sides[1, 0]), int(sides[1, 1]), int(sides[2, 0]), int(sides[2, 1]))), o.image)


def _concat(o: Operation) -> str:
    sources = [i for i in o.inputs[:-1] if isinstance(i, str)]
    axis = int(o.constant(len(o.inputs) - 1)) % o.rank
    flattened = o.rank == 2 and any(o.editor.nodes[i].shape[1:] != (1, 1) for i in sources)
    if len(sources) != len(o.inputs) - 1 or axis != o.rank - 1 or flattened:
        raise o.refuse("only channels of maps can be joined", "join the last axis of maps")
    return o.put(Concat(), *sources)


def _reshape(o: Operation) -> str:
    shape = tuple(o.op.outputs[0].shape.as_list())
    channels, high, wide = o.in_shape
    if len(shape) != 2 and shape[1:] != (high, wide, channels):
        raise o.refuse(f"it makes the shape {list(shape)}", "only flattening is a matter of names here")
    return o.image


def _squeeze(o: Operation) -> str:
    if o.in_shape[1:] != (1, 1) or o.op.outputs[0].shape.rank not in (2, 4):
        raise o.refuse("it drops an axis of the map", "flatten the map instead")
    return o.image


def _head(kind: str) -> Rule:
    def rule(o: Operation) -> str:
        ones = np.ones(o.in_shape[0])
        made = o.put(Affine(ones, np.zeros_like(ones)), o.image)
        o.heads[made] = kind
        return made

    return rule


RULES: dict[str, Rule] = {
    "Add": _sum,
    "AddV2": _sum,
    "AvgPool": _average_pool,
    "BiasAdd": _sum,
    "Cast": _cast,
    "CheckNumerics": _identity,
    "ConcatV2": _concat,
    "Conv2D": _conv,
    "DepthwiseConv2dNative": _depthwise,
    "FusedBatchNormV3": _batch_norm,
    "Identity": _identity,
    "MatMul": _matmul,
    "Max": _max,
    "MaxPool": _max_pool,
    "Maximum": _maximum,
    "Mean": _mean,
    "Minimum": _minimum,
    "Mul": _product,
    "Pad": _pad,
    "PadV2": _pad,
    "PreventGradient": _identity,
    "RealDiv": _quotient,
    "Relu": _relu,
    "Relu6": _relu6,
    "Reshape": _reshape,
    "Sigmoid": _head("sigmoid"),
    "Softmax": _head("softmax"),
    "Squeeze": _squeeze,
    "StopGradient": _identity,
    "Sub": _difference,
}
