"""What a front end hands to the compiler, and the choice of the front end for a source."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_infer.compiler.graph import Graph
from secure_infer.errors import ModelUnreadable

ACTIVATIONS = ("none", "sigmoid", "softmax")


@dataclass(frozen=True)
class SourceModel:
    """A model as read: its float graph up to the logits, and itself as a function to compare with.

    Attributes
    ----------
    graph : Graph
        One input, one output of shape [classes, 1, 1]: the logits.
    activations : tuple of str
        What the model applies to each logit: ``none``, ``sigmoid``, or ``softmax`` (over all logits
        that have it).
    predict : callable
        float32 images [N, H, W, C] -> float64 [N, classes], the model's own outputs.
    name : str
    description : dict
        Facts for the model card: layers, parameters, framework.
    """

    graph: Graph
    activations: tuple[str, ...]
    predict: Callable[[NDArray[np.float32]], NDArray[np.float64]]
    name: str
    description: dict[str, Any]


def read_model(source: Any) -> SourceModel:
    """Read a model from a ``.keras`` or ``.h5`` file, a SavedModel folder, or a Keras object.

    Raises
    ------
    ModelUnreadable
        When the source is none of these.
    UnsupportedLayer
        When a layer has no counterpart in the protocol.
    """
    if not isinstance(source, str | Path):
        from secure_infer.compiler.frontends.keras import read_keras

        model: SourceModel = read_keras(source)
        return model
    path = Path(source)
    if path.is_dir() and (path / "saved_model.pb").is_file():
        from secure_infer.compiler.frontends.saved_model import read_saved_model

        return read_saved_model(path)
    if path.is_file() and (zipfile.is_zipfile(path) or path.suffix in (".h5", ".hdf5")):
        from secure_infer.compiler.frontends.keras import load_keras, read_keras

        return read_keras(load_keras(path))
    expected = "a .keras or .h5 file, a SavedModel folder or a Keras model"
    raise ModelUnreadable(
        "model", expected=expected, got="something else" if path.exists() else "no such file"
    )
