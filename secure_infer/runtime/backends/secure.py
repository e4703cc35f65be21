"""The two-party backend: both parties in this process, real cryptography, no network.

Behind the same interface as `reference.ReferenceBackend`, for conformance and for trying out a program.
Results differ from the reference's by the protocol's documented roundings.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_infer import _native
from secure_infer.errors import InputRejected
from secure_infer.runtime.failures import translated
from secure_infer.runtime.program import Program, check_parameters


class SecureBackend:
    """Executes a program on one image at a time, between two parties.

    Parameters
    ----------
    program : Program
    parameters : mapping of step name to mapping of array name to array
        The private parameters; checked against the program.
    output_noise : float
        Standard deviation of the developer's noise on opened integers, in raw units.
    ot_engine : str
        One of `secure_infer.runtime.endpoint.OT_ENGINES`.

    Raises
    ------
    ProgramError
        When the parameters don't fit the program.
    """

    def __init__(
        self,
        program: Program,
        parameters: Mapping[str, Mapping[str, NDArray[Any]]],
        *,
        output_noise: float = 0.0,
        ot_engine: str = "softspoken",
    ) -> None:
        check_parameters(program, parameters)
        self.program = program
        self._noise = output_noise
        arrays = {
            step: {kind: np.ascontiguousarray(array) for kind, array in kinds.items()}
            for step, kinds in parameters.items()
        }
        with translated():
            self._parties = _native.MemoryParties(program.to_json(), arrays, ot_engine=ot_engine)

    def run(self, x: NDArray[np.integer[Any]]) -> dict[str, NDArray[np.int64]]:
        """Execute the program: fresh connection, fresh ticket.

        Parameters
        ----------
        x : integer array [C, H, W]
            The image as the hospital shares it.

        Returns
        -------
        dict of output name to int64 array
        """
        if x.shape != self.program.input_value.shape:
            raise InputRejected("image", expected=f"shape {self.program.input_value.shape}", got=x.shape)
        with translated():
            opened = self._parties.run(np.ascontiguousarray(x, np.int32), output_noise=self._noise)
        return dict(zip(self.program.outputs, opened, strict=True))

    def stats(self) -> dict[str, dict[str, Any]]:
        """Seconds, bytes and round trips of the last run by phase and step, as the hospital saw them."""
        with translated():
            return self._parties.stats()
