"""From trained models to programs and private parameters. Needs the extra ``developer`` to read models."""

from secure_infer.compiler.compile import CompiledModel, compile_model
from secure_infer.compiler.options import CompileOptions, InputOptions
from secure_infer.compiler.precision.options import PrecisionOptions

__all__ = ["CompileOptions", "CompiledModel", "InputOptions", "PrecisionOptions", "compile_model"]
