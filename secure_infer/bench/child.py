"""What a benchmark does with TensorFlow, in processes of its own: ``python -m secure_infer.bench.child``.

``make`` builds, calibrates and compiles the network; ``time`` runs it in the clear on one core, which has
to be chosen before TensorFlow starts its threads.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secure_infer.bench.phantoms import phantoms

#: Pictures for statistics and calibration; their seed differs from that of the measured ones.
CALIBRATION: Final = 16
CALIBRATION_SEED: Final = 1
MODEL_FILE: Final = "model.keras"
BUNDLE: Final = "model.bundle"
NORMALISATION: Final = "normalisation.txt"


def make(name: str, folder: Path) -> None:
    """Write the network and its bundle to `folder`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from secure_infer.compiler import compile_model
    from secure_infer.compiler.frontends.benchmark_models import benchmark_model

    pictures = phantoms(CALIBRATION, side(name), seed=CALIBRATION_SEED)
    made = benchmark_model(name, pictures)
    made.model.save(folder / MODEL_FILE)
    (folder / NORMALISATION).write_text(made.options.input.normalisation)
    compiled = compile_model(made.model, pictures, made.options)
    compiled.write(folder / BUNDLE, Ed25519PrivateKey.generate())


def time_plain(folder: Path, pictures: Path, core: int | None) -> dict[str, Any]:
    """Seconds per picture on one core, and the model's own outputs.

    The first picture is run once more before, so that building the graph isn't counted.
    """
    if core is not None:
        os.sched_setaffinity(0, [core])
    from secure_infer.compiler.frontends.keras import load_keras

    model = load_keras(folder / MODEL_FILE)
    batch = _normalised(np.load(pictures, allow_pickle=False), (folder / NORMALISATION).read_text())
    model.predict_on_batch(batch[:1])
    outputs, seconds = [], []
    for image in batch:
        begin = time.perf_counter()
        outputs.append(np.ravel(model.predict_on_batch(image[None])))
        seconds.append(time.perf_counter() - begin)
    return {"seconds": seconds, "outputs": np.array(outputs, np.float64).tolist()}


def side(name: str) -> int:
    """The 320 in ``densenet121-320``; 0 where there is none."""
    digits = name.rpartition("-")[2]
    return int(digits) if digits.isdigit() else 0


def _normalised(grey: NDArray[np.float32], mode: str) -> NDArray[np.float32]:
    from secure_infer.compiler.options import normaliser

    batch = np.repeat(grey[..., None], 3, axis=-1)
    if mode == "none":
        return batch
    affine = normaliser(mode)
    return np.asarray(batch * affine.scale + affine.shift, np.float32)


def main(settings: Mapping[str, Any]) -> None:
    """Do one of the two works; the result goes to a file, for TensorFlow writes to standard output."""
    if settings["work"] == "make":
        make(settings["model"], Path(settings["folder"]))
        result: dict[str, Any] = {}
    else:
        result = time_plain(Path(settings["folder"]), Path(settings["pictures"]), settings["core"])
    Path(settings["result"]).write_text(json.dumps(result))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
