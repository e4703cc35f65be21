"""Readers of trained models. The only place that imports TensorFlow, and only when a model is read."""

from secure_infer.compiler.frontends.source import SourceModel, read_model

__all__ = ["SourceModel", "read_model"]
