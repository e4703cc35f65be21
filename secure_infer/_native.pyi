"""Types of the compiled core (``native/python``)."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

def make_hints(
    program_json: str, weights: Mapping[str, NDArray[np.int16]], public_seed: bytes
) -> tuple[bytes, bytes]: ...
