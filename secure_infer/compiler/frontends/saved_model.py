"""SavedModel folders -> graph, through the frozen operations of the serving signature.

A SavedModel holds no layers, only TensorFlow operations and variables. The serving function is traced
for one image and its variables frozen; everything that doesn't depend on the image is computed by
TensorFlow; the rules for what does are in `tensorflow_operations`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from secure_infer.compiler.frontends.source import SourceModel
from secure_infer.compiler.frontends.tensorflow_operations import RULES, Operation, refuse_operation
from secure_infer.compiler.graph import Editor, Image
from secure_infer.errors import ModelUnreadable, UnsupportedLayer

_SIGNATURES = ("serving_default", "serve")


def read_saved_model(path: Path) -> SourceModel:
    """Read the serving signature of a SavedModel with one image and one output.

    Raises
    ------
    ModelUnreadable
        When TensorFlow can't load it, or it has no such signature.
    UnsupportedLayer
        When an operation has no counterpart in the protocol.
    """
    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, KeyError, TypeError, tf.errors.OpError) as error:
        got = f"{type(error).__name__} from TensorFlow {tf.__version__}"
        raise ModelUnreadable("SavedModel", expected="a model that TensorFlow loads", got=got) from error
    name = next((s for s in _SIGNATURES if s in loaded.signatures), None)
    if name is None:
        got = f"{len(loaded.signatures)} others"
        raise ModelUnreadable("SavedModel", expected=f"a signature {' or '.join(_SIGNATURES)}", got=got)
    function = loaded.signatures[name]
    key, spec = _image_argument(function)
    if len(function.structured_outputs) != 1:
        raise ModelUnreadable("SavedModel", expected="one output", got=len(function.structured_outputs))
    walk = _Walk(_frozen(function, key, spec), spec.shape)
    graph, activation = walk.graph()
    classes = graph.nodes[graph.outputs[0]].shape[0]

    def predict(images: NDArray[np.float32]) -> NDArray[np.float64]:
        parts = [
            next(iter(function(**{key: tf.constant(images[i : i + 1])}).values())) for i in range(len(images))
        ]
        return np.concatenate([np.asarray(p, np.float64).reshape(1, -1) for p in parts])

    return SourceModel(
        graph=graph,
        activations=(activation,) * classes,
        predict=predict,
        name=path.name or "saved_model",
        description={
            "framework": f"tensorflow {tf.__version__}",
            "layers": walk.operations,
            "parameters": sum(int(np.prod(v.shape)) for v in getattr(loaded, "variables", ())),
        },
    )


def _image_argument(function: Any) -> tuple[str, Any]:
    arguments = function.structured_input_signature[1]
    if len(arguments) != 1:
        raise ModelUnreadable("SavedModel", expected="one input", got=len(arguments))
    ((key, spec),) = arguments.items()
    if spec.shape.rank != 4 or any(extent is None for extent in spec.shape[1:]):
        expected = "an input [batch, height, width, channels] of fixed size"
        raise ModelUnreadable("SavedModel", expected=expected, got=str(spec.shape))
    return str(key), spec


def _frozen(function: Any, key: str, spec: Any) -> Any:
    """The signature for one image, with its variables as constants."""
    one = tf.TensorSpec([1, *spec.shape[1:]], spec.dtype, name="image")

    @tf.function  # type: ignore[untyped-decorator]
    def call(image: Any) -> Any:
        return next(iter(function(**{key: image}).values()))

    return convert_variables_to_constants_v2(call.get_concrete_function(one))


class _Walk:
    """Visits the operations of a frozen function."""

    def __init__(self, frozen: Any, shape: Any) -> None:
        self.tensors = {t.name: t for op in frozen.graph.get_operations() for t in op.outputs}
        self.all = frozen.graph.get_operations()
        self.output = frozen.outputs[0]
        self.frozen = frozen
        self.editor = Editor()
        self.shape = (int(shape[3]), int(shape[1]), int(shape[2]))
        self.names: dict[str, str] = {}
        self.heads: dict[str, str] = {}
        self.operations = 0

    def graph(self) -> tuple[Any, str]:
        """The graph up to the logits, and the final activation."""
        constants = self.constants()
        for op in self.all:
            if op.type == "Placeholder":
                self.names[op.outputs[0].name] = self.editor.put("image", Image(self.shape))
            elif any(t.name in self.names for t in op.inputs) and op.type != "Shape":
                self.visit(op, constants)
        last = self.names.get(self.output.name)
        if last is None:
            raise ModelUnreadable("SavedModel", expected="an output made from the image", got="a constant")
        head = self.heads.get(last, "none")
        logits = self.editor.nodes[last].inputs[0] if last in self.heads else last
        if self.editor.nodes[logits].shape[1:] != (1, 1):
            got = str(self.output.shape)
            raise ModelUnreadable("SavedModel", expected="one number per class", got=got)
        self.editor.outputs = [logits]
        return self.editor.graph(), head

    def visit(self, op: Any, constants: dict[str, NDArray[Any]]) -> None:
        if not op.outputs:
            return
        inputs = [self.names.get(t.name, constants.get(t.name)) for t in op.inputs]
        operation = Operation(self.editor, self.heads, _short(op.name), op, inputs)
        rule = RULES.get(op.type)
        if rule is None:
            raise refuse_operation(operation)
        head = next((self.heads[i] for i in inputs if isinstance(i, str) and i in self.heads), None)
        if head is not None and op.type not in ("Identity", "Reshape"):
            reason = f"it follows a {head}, which the protocol has only as the model's last step"
            raise UnsupportedLayer(operation.name, reason, "end the model with it, or replace it by a ReLU")
        self.operations += op.type != "Identity"
        self.names[op.outputs[0].name] = rule(operation)

    def constants(self) -> dict[str, NDArray[Any]]:
        """Values of all tensors that don't depend on the image but are read by what does."""
        dynamic: set[str] = set()
        shapes: dict[str, NDArray[Any]] = {}
        for op in self.all:
            if op.type == "Shape":
                shapes[op.outputs[0].name] = np.array(op.inputs[0].shape.as_list(), np.int32)
            elif op.type == "Placeholder" or any(t.name in dynamic for t in op.inputs):
                dynamic.update(t.name for t in op.outputs)
        wanted = {
            t.name
            for op in self.all
            if any(i.name in dynamic for i in op.inputs) and op.type != "Shape"
            for t in op.inputs
            if t.name not in dynamic
        }
        return _computed(self.frozen.graph.as_graph_def(), shapes, sorted(wanted))


def _computed(definition: Any, shapes: dict[str, NDArray[Any]], names: list[str]) -> dict[str, NDArray[Any]]:
    """Let TensorFlow compute tensors that depend on constants, and on shapes, only."""
    for node in definition.node:
        data = [i for i in node.input if not i.startswith("^")]  # order of execution doesn't matter here
        del node.input[:]
        node.input.extend(data)
    wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(definition, name=""), [])
    element = wrapped.graph.as_graph_element
    pruned = wrapped.prune([element(n) for n in shapes], [element(n) for n in names])
    values = pruned(*[tf.constant(v) for v in shapes.values()])
    return {n: np.asarray(v) for n, v in zip(names, values, strict=True)}


def _short(name: str) -> str:
    """An operation's name without the calls it is nested in."""
    parts = [
        part for part in name.split("/") if part not in ("StatefulPartitionedCall", "PartitionedCall", "Func")
    ]
    return "/".join(parts) or name
