"""Keras 3 models (functional, sequential, nested) -> graph.

The walk follows the model's own nodes in the order of their depth; the rules for layers and
operations are in `keras_layers` and `keras_operations`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from secure_infer.compiler.frontends.keras_layers import LAYER_RULES, Call, unsupported_layer
from secure_infer.compiler.frontends.keras_operations import OPERATION_RULES
from secure_infer.compiler.frontends.source import SourceModel
from secure_infer.compiler.graph import Concat, Editor, Image
from secure_infer.errors import ModelUnreadable, UnsupportedLayer

_LIST_ARGUMENTS = (list, tuple)


def load_keras(path: Path) -> Any:
    """Load a ``.keras`` or ``.h5`` file; code inside it (Lambda layers) is never executed.

    Raises
    ------
    ModelUnreadable
        When Keras can't read it.
    """
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        got = f"{type(error).__name__} from Keras {keras.__version__}"
        raise ModelUnreadable("model file", expected="a model of standard Keras layers", got=got) from error


def read_keras(model: Any) -> SourceModel:
    """Turn a Keras model with one image input into a graph.

    Raises
    ------
    ModelUnreadable
        When it isn't a functional or sequential Keras 3 model with one image and class outputs.
    UnsupportedLayer
        When a layer has no counterpart in the protocol.
    """
    functional = _functional(model, "model")
    if len(functional.inputs) != 1:
        raise ModelUnreadable("model", expected="one input", got=len(functional.inputs))
    shape = tuple(functional.inputs[0].shape)
    if len(shape) != 4 or any(extent is None for extent in shape[1:]):
        expected = "an input of fixed height, width and channels"
        raise ModelUnreadable("model", expected=expected, got=list(shape))
    editor = Editor()
    name = str(functional.inputs[0].name)
    editor.put(name, Image((int(shape[3]), int(shape[1]), int(shape[2]))))
    walk = _Walk(editor)
    outputs = walk.model(functional, [name], "")
    heads = [(walk.before_head(o), walk.heads.get(o, "none")) for o in outputs]
    for (node, _), tensor in zip(heads, functional.outputs, strict=True):
        if editor.nodes[node].shape[1:] != (1, 1):
            expected = "outputs that are one number per class"
            raise ModelUnreadable("model", expected=expected, got=list(tensor.shape))
    logits = (
        heads[0][0]
        if len(heads) == 1
        else editor.put(editor.fresh("logits"), Concat(), *[n for n, _ in heads])
    )
    editor.outputs = [logits]
    activations = tuple(a for node, a in heads for _ in range(editor.nodes[node].shape[0]))
    return SourceModel(
        graph=editor.graph(),
        activations=activations,
        predict=_predictor(model),
        name=str(model.name),
        description={
            "framework": f"keras {keras.__version__}",
            "layers": walk.layers,
            "parameters": int(model.count_params()),
        },
    )


def _functional(model: Any, name: str) -> Any:
    if isinstance(model, keras.Sequential):
        if not model.built or model._functional is None:  # noqa: SLF001  (Keras has no public way)
            raise ModelUnreadable(
                name, expected="a sequential model with an Input", got="one that isn't built"
            )
        return model._functional  # noqa: SLF001
    if isinstance(model, keras.Model) and hasattr(model, "_nodes_by_depth"):
        return model
    expected = "a functional or sequential Keras 3 model"
    raise ModelUnreadable(name, expected=expected, got=f"an object of class {type(model).__name__}")


def _predictor(model: Any) -> Any:
    def predict(images: NDArray[np.float32]) -> NDArray[np.float64]:
        parts = []
        for first in range(0, len(images), 8):
            outputs = model(images[first : first + 8], training=False)
            outputs = list(outputs.values()) if isinstance(outputs, dict) else outputs
            outputs = outputs if isinstance(outputs, _LIST_ARGUMENTS) else [outputs]
            flat = [np.asarray(o, np.float64).reshape(len(o), -1) for o in outputs]
            parts.append(np.concatenate(flat, axis=1))
        return np.concatenate(parts)

    return predict


class _Walk:
    """Visits a model's nodes and puts what they mean into an editor."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.heads: dict[str, str] = {}
        self.layers = 0

    def before_head(self, node: str) -> str:
        """The logits under a final activation."""
        return self.editor.nodes[node].inputs[0] if node in self.heads else node

    def model(self, functional: Any, inputs: list[str], prefix: str) -> list[str]:
        """Put a model's nodes, applied to ``inputs``; returns the names of its outputs."""
        values = {id(t): name for t, name in zip(functional.inputs, inputs, strict=True)}
        depths = functional._nodes_by_depth  # noqa: SLF001  (Keras has no public way)
        for depth in sorted(depths, reverse=True):
            for node in depths[depth]:
                if node.is_input:
                    continue
                names = [values[id(t)] for t in node.input_tensors]
                made = self.operation(node, names, prefix)
                values |= {id(t): name for t, name in zip(node.output_tensors, made, strict=True)}
        return [values[id(t)] for t in functional.outputs]

    def operation(self, node: Any, inputs: list[str], prefix: str) -> list[str]:
        """Put one node: a nested model, a layer or an operation."""
        operation = node.operation
        name = prefix + str(operation.name)
        if isinstance(operation, keras.Model):
            return self.model(_functional(operation, name), inputs, f"{name}/")
        self.layers += 1
        call = Call(self.editor, self.heads, name, operation, inputs, node)
        is_layer = isinstance(operation, keras.layers.Layer)
        rule = (LAYER_RULES if is_layer else OPERATION_RULES).get(type(operation).__name__)
        if rule is None or not type(operation).__module__.startswith("keras."):
            raise unsupported_layer(call)
        if any(i in self.heads for i in inputs) and type(operation).__name__ not in ("Flatten", "Reshape"):
            head = self.heads[next(i for i in inputs if i in self.heads)]
            raise UnsupportedLayer(
                name,
                f"it follows a {head}, which the protocol has only as the model's last step",
                "end the model with it, or replace it by a ReLU",
            )
        return [rule(call)]
