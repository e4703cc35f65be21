"""Rules for Keras operations used without a layer: ``x / 127.5 - 1``, ``x[..., ::-1]``, ``relu(x)``."""

from __future__ import annotations

from typing import Any

import numpy as np

from secure_infer.compiler.frontends.keras_layers import Call, Rule, array, per_channel, put_concat, put_head
from secure_infer.compiler.graph import Add, Affine, Conv, Relu


def _operands(call: Call) -> tuple[Any, Any]:
    """The two operands: the name of a node for a tensor, an array for a constant."""
    values = [*call.node.arguments.args, *call.node.arguments.kwargs.values()][:2]
    tensors = {id(t): name for t, name in zip(call.node.input_tensors, call.inputs, strict=True)}
    left, right = (tensors[id(v)] if id(v) in tensors else array(v) for v in values)
    return left, right


def _scaled(call: Call, node: str, scale: Any, shift: Any) -> str:
    op = Affine(per_channel(call, scale, "factors"), per_channel(call, shift, "offsets"))
    return call.put(op, node)


def _sum(call: Call) -> str:
    left, right = _operands(call)
    if isinstance(left, str) and isinstance(right, str):
        if call.editor.nodes[left].shape != call.editor.nodes[right].shape:
            raise call.refuse("its operands differ in shape", "add maps of the same shape")
        return call.put(Add(), left, right)
    node, constant = (left, right) if isinstance(left, str) else (right, left)
    return _scaled(call, node, 1.0, constant)


def _difference(call: Call) -> str:
    left, right = _operands(call)
    if isinstance(left, str) and isinstance(right, str):
        raise call.refuse("a difference of two maps isn't implemented", "negate one with Rescaling and add")
    if isinstance(left, str):
        return _scaled(call, left, 1.0, -right)
    return _scaled(call, right, -1.0, left)


def _product(call: Call) -> str:
    left, right = _operands(call)
    if isinstance(left, str) and isinstance(right, str):
        raise call.refuse("it multiplies two private values", "use an architecture without such products")
    node, constant = (left, right) if isinstance(left, str) else (right, left)
    return _scaled(call, node, constant, 0.0)


def _quotient(call: Call) -> str:
    left, right = _operands(call)
    if isinstance(right, str):
        raise call.refuse("it divides by a private value", "divide by constants only")
    return _scaled(call, left, 1.0 / right, 0.0)


def _item(call: Call) -> str:
    """``x[..., c]`` and ``x[..., a:b:s]``: a choice of channels, as a 1x1 convolution."""
    key = call.node.arguments.args[1]
    key = key if isinstance(key, tuple) else (key,)
    whole = (Ellipsis, slice(None))
    chosen = key[-1]
    if any(not isinstance(k, type(Ellipsis)) and k != slice(None) for k in key[:-1]) or chosen in whole:
        raise call.refuse("it takes a part of the image", "crop before the model")
    if Ellipsis not in key and len(key) != call.rank:
        raise call.refuse("it takes a part of the image", "crop before the model")
    channels = np.arange(call.in_shape[0])[chosen]
    weights = np.eye(call.in_shape[0])[np.atleast_1d(channels)]
    return call.put(Conv(weights[:, :, None, None], np.zeros(len(weights))), call.source)


def _stack(call: Call) -> str:
    axis = call.layer.axis
    if axis not in (-1, len(call.node.output_tensors[0].shape) - 1):
        raise call.refuse(f"it stacks along axis {axis}", "stack channels, which come last")
    return put_concat(call, -1)


def _join(call: Call) -> str:
    return put_concat(call, int(call.layer.axis))


def _relu(call: Call) -> str:
    return call.put(Relu.plain(call.in_shape[0]), call.source)


def _relu6(call: Call) -> str:
    return call.put(Relu.plain(call.in_shape[0], 6.0), call.source)


def _sigmoid(call: Call) -> str:
    return put_head(call, call.source, "sigmoid")


def _softmax(call: Call) -> str:
    return put_head(call, call.source, "softmax")


OPERATION_RULES: dict[str, Rule] = {
    "Add": _sum,
    "Concatenate": _join,
    "Divide": _quotient,
    "GetItem": _item,
    "Multiply": _product,
    "Relu": _relu,
    "Relu6": _relu6,
    "Sigmoid": _sigmoid,
    "Softmax": _softmax,
    "Stack": _stack,
    "Subtract": _difference,
    "TrueDivide": _quotient,
}
