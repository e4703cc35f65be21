"""Running programs: the program itself, the backends, and the two parties' services."""

from secure_infer.runtime.backends.reference import Observer, ReferenceBackend
from secure_infer.runtime.program import Program

__all__ = ["Observer", "Program", "ReferenceBackend"]
