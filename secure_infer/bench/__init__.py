"""Measurements on benchmark networks: both parties on this machine against TensorFlow on one core."""

from secure_infer.bench.report import to_text
from secure_infer.bench.result import Bench
from secure_infer.bench.run import run_bench

__all__ = ["Bench", "run_bench", "to_text"]
