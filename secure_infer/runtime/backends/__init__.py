"""What can execute a program: the plain reference here, the two-party protocol in the native core."""

from secure_infer.runtime.backends.reference import Observer, ReferenceBackend, StepStatistics

__all__ = ["Observer", "ReferenceBackend", "StepStatistics"]
