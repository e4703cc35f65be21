"""Image files that a person names on the command line: DICOM, PNG or JPEG."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from dicom_node.cli.output import table

_PICTURES: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")


def load_display(path: Path) -> NDArray[np.float32]:
    """A file as a viewer would show it: [H, W], 0 black to 1 white; its first bytes say what it is.

    Raises
    ------
    InputRejected, IntakeError
        When it can't be read.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(_PICTURES):
        from secure_infer.runtime.preprocess import read_picture

        return read_picture(path)
    from dicom_node.intake import display

    return display(path)


def load_images(paths: Sequence[Path], preprocessing: Mapping[str, Any]) -> list[NDArray[np.float32]]:
    """Files in the model's input units."""
    from secure_infer.runtime.preprocess import prepare

    return [prepare(load_display(path), preprocessing) for path in paths]


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add the positional ``FILE...``."""
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="DICOM, PNG or JPEG")


def answer(path: Path, inference: Any) -> dict[str, Any]:
    """One file's `secure_infer.runtime.coding.Inference` as plain values."""
    present = inference.present
    return {
        "file": str(path),
        "findings": [
            {
                "name": finding.name,
                "probability": float(inference.probabilities[i]),
                "logit": float(inference.logits[i]),
                "threshold": finding.threshold,
                "present": present[i],
            }
            for i, finding in enumerate(inference.findings)
        ],
        "timings": inference.timings,
    }


def answers_text(answers: Sequence[Mapping[str, Any]], card: Mapping[str, Any]) -> str:
    """A table of findings, under the model's warnings."""
    rows = [
        (
            answer["file"],
            finding["name"],
            f"{finding['probability']:.4f}",
            "present" if finding["present"] else "absent",
        )
        for answer in answers
        for finding in answer["findings"]
    ]
    warnings = [f"warning: {warning}" for warning in card.get("warnings", ())]
    return "\n".join([*warnings, table(("file", "finding", "probability", "at threshold"), rows)])
