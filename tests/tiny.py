"""A small network and its parameters, for tests that need a bundle."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from secure_infer.bundle import Finding
from secure_infer.runtime.program import Program
from secure_infer.runtime.steps import Input, Linear, Output, Relu, Truncate, Value

CARD: dict[str, Any] = {
    "name": "Tiny network",
    "version": "1",
    "description": "Two layers with random weights.",
    "manufacturer": "Test",
    "device_uid": "2.25.1234567890",
    "clinical_use": False,
    "intended_use": {
        "modalities": ["CR", "DX"],
        "body_parts": ["CHEST"],
        "views": ["PA"],
        "purpose": "Tests only.",
    },
    "training_data": "None.",
    "licence": "Apache-2.0",
}
PREPROCESSING: dict[str, Any] = {
    "height": 8,
    "width": 8,
    "channels": 1,
    "input_scale": 1.0,
    "input_offset": 0.0,
}


@dataclass(frozen=True)
class Made:
    """Everything that `write_bundle` takes, and where it wrote."""

    path: Path
    digest: str
    key: Ed25519PrivateKey
    arguments: dict[str, Any]


def tiny_arguments() -> dict[str, Any]:
    """What `write_bundle` takes besides the place and the key."""
    program = Program(
        (
            Value((1, 8, 8), 27),
            Value((4, 8, 8), 27),
            Value((4, 8, 8), 27),
            Value((4, 8, 8), 27),
            Value((2, 1, 1), 27),
        ),
        (
            Input("image", 0),
            Linear("body/conv", 0, 1, (3, 3), padding=(1, 1, 1, 1)),
            Truncate("body/conv:truncate", 1, 2, 14),
            Relu("body/relu", 2, 3, (1, 12)),
            Linear("head", 3, 4, (8, 8)),
            Output("logits", 4),
        ),
    )
    rng = np.random.default_rng(1)
    parameters = {
        "body/conv": {
            "weights": rng.integers(-9999, 9999, (4, 1, 3, 3), dtype=np.int16),
            "bias": rng.integers(-9999, 9999, 4, dtype=np.int64),
        },
        "body/relu": {
            "threshold": rng.integers(-99, 99, 4, dtype=np.int32),
            "flip": rng.integers(0, 2, 4, dtype=np.uint8),
        },
        "head": {
            "weights": rng.integers(-9999, 9999, (2, 4, 8, 8), dtype=np.int16),
            "bias": rng.integers(-9999, 9999, 2, dtype=np.int64),
        },
    }
    return {
        "program_json": program.to_json(),
        "parameters": parameters,
        "preprocessing": PREPROCESSING,
        "findings": [Finding("A", 1e-4), Finding("B", 1e-4)],
        "model_card": CARD,
    }
