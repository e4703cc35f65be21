"""What an inference will cost, predicted from the public program alone: bytes each way and round trips.

The counts follow the headers of the protocol's files (``native/protocol/src``). Per comparison with the
window [m, k), n = k - m, in the ring 2^ell with a result in 2^ell':

- online, per chunk of the carry chain with an index of s bits: 4 bits to the hospital (the choice in a
  1-of-16 OT, whatever s is), 2^s bits back;
- online, the multiplexer: 1 + ell' bits to the hospital, ell' bits back;
- offline: one 1-of-16 OT per chunk, two correlated OTs and a correction of ell' bits to the developer.

Truncation by f from 2^ell to 2^ell' with g = max(0, ell' - (ell - f)) > 0: online 1 bit to the hospital and
g back, offline one correlated OT and g bits to the developer. OT bytes are SoftSpoken's with f = 4 (Roy
2022): 31 corrections of 4 bits per 1-of-16 OT, 31 of one bit per correlated OT, sent by the OT's receiver.

Frames, TLS and the rounding of each message to whole bytes are not in it.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

from secure_infer.runtime.program import (
    Add,
    Concat,
    Input,
    Linear,
    MaxPool,
    Output,
    Program,
    Relu,
    ReluClipped,
    Step,
    Truncate,
    sources,
)

PARITY_BITS: Final = 31
"""Corrections per OT: one for each of the 32 punctured PRFs but the first."""
TICKET_BYTES: Final = 2048 * 50 // 8
"""The hospital's one polynomial p_b per ticket: N = 2048 coefficients of 50 bits."""
FIRST_CHUNK_BITS: Final = 4
NEXT_CHUNK_BITS: Final = 3


@dataclass(frozen=True)
class Traffic:
    """Bits to the developer and to the hospital."""

    to_developer: int = 0
    to_hospital: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.to_developer + other.to_developer, self.to_hospital + other.to_hospital)

    def times(self, count: int) -> "Traffic":
        """The same for `count` elements."""
        return Traffic(self.to_developer * count, self.to_hospital * count)

    def to_json(self) -> dict[str, int]:
        """Whole bytes each way."""
        return {
            "bytes_to_developer": -(-self.to_developer // 8),
            "bytes_to_hospital": -(-self.to_hospital // 8),
        }


@dataclass(frozen=True)
class StepPrediction:
    """One step's cost.

    Attributes
    ----------
    name, op : str
        The step's.
    shape : tuple of int
        [C, H, W] of its result.
    ring_bits : int
        Of its result.
    window : tuple of int or None
        [m, k) for comparisons.
    comparisons, truncations, multiply_adds : int
        How many of each.
    online, offline : Traffic
        In bits.
    rounds : int
        Online round trips that wait for one another; long vectors pass each in several overlapping lanes.
    """

    name: str
    op: str
    shape: tuple[int, int, int]
    ring_bits: int
    window: tuple[int, int] | None
    comparisons: int
    truncations: int
    multiply_adds: int
    online: Traffic
    offline: Traffic
    rounds: int

    def to_json(self) -> dict[str, Any]:
        """Plain values, bytes instead of bits."""
        plain = asdict(self)
        return plain | {"online": self.online.to_json(), "offline": self.offline.to_json()}


@dataclass(frozen=True)
class Prediction:
    """A whole program's cost, step by step."""

    steps: tuple[StepPrediction, ...]

    @property
    def online(self) -> Traffic:
        """Sum over the steps, in bits."""
        return sum((step.online for step in self.steps), Traffic())

    @property
    def offline(self) -> Traffic:
        """Sum over the steps and the ticket's polynomial, in bits."""
        return sum((step.offline for step in self.steps), Traffic(8 * TICKET_BYTES, 0))

    @property
    def rounds(self) -> int:
        """Online round trips."""
        return sum(step.rounds for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """The content of ``predictions.json``."""
        return {
            "ot_engine": "softspoken",
            "comparisons": sum(step.comparisons for step in self.steps),
            "truncations": sum(step.truncations for step in self.steps),
            "multiply_adds": sum(step.multiply_adds for step in self.steps),
            "online": self.online.to_json() | {"rounds": self.rounds},
            "offline": self.offline.to_json(),
            "steps": [step.to_json() for step in self.steps],
        }


def predict(program: Program) -> Prediction:
    """Predict the cost of one inference, with the ``softspoken`` OT engine."""
    counts = program.costs()
    return Prediction(
        tuple(
            _step(program, step, count.comparisons, count.truncations, count.multiply_adds)
            for step, count in zip(program.steps, counts, strict=True)
        )
    )


def chunk_index_bits(window: tuple[int, int]) -> tuple[int, ...]:
    """Bits of each chunk's table index: the digit and, from the second on, the carry; the top bit is left."""
    left = window[1] - window[0] - 1
    indices: list[int] = []
    while left > 0:
        digit = min(left, NEXT_CHUNK_BITS if indices else FIRST_CHUNK_BITS)
        indices.append(digit + (1 if indices else 0))
        left -= digit
    return tuple(indices)


def comparison_traffic(window: tuple[int, int], out_bits: int) -> tuple[Traffic, Traffic]:
    """Online and offline bits of one ReLU whose result is in the ring of `out_bits`."""
    indices = chunk_index_bits(window)
    online = Traffic(sum(2**s for s in indices) + out_bits, 4 * len(indices) + 1 + out_bits)
    chosen_by_developer = PARITY_BITS * (4 * len(indices) + 1)
    return online, Traffic(out_bits + PARITY_BITS, chosen_by_developer)


def truncation_traffic(from_bits: int, to_bits: int, shift: int) -> tuple[Traffic, Traffic]:
    """Online and offline bits of one truncation."""
    extra = max(0, to_bits - (from_bits - shift))
    if extra == 0:
        return Traffic(), Traffic()
    return Traffic(extra, 1), Traffic(extra, PARITY_BITS)


def _step(
    program: Program, step: Step, comparisons: int, truncations: int, multiply_adds: int
) -> StepPrediction:
    value = program.values[step.source if isinstance(step, Output) else step.out]
    online, offline, rounds, window = Traffic(), Traffic(), 0, None
    if isinstance(step, Input):
        online = Traffic(value.elements * value.ring_bits, 0)
    elif isinstance(step, Output):
        online, rounds = Traffic(0, value.elements * value.ring_bits), 1
    elif isinstance(step, Linear):
        offline = Traffic(_mask_bits(program, step), 0)
    elif isinstance(step, Truncate):
        each = truncation_traffic(program.values[step.source].ring_bits, value.ring_bits, step.shift)
        online, offline = each[0].times(truncations), each[1].times(truncations)
        rounds = int(online != Traffic())
    elif isinstance(step, Relu | ReluClipped | MaxPool):
        window = step.window
        each = comparison_traffic(window, value.ring_bits)
        online, offline = each[0].times(comparisons), each[1].times(comparisons)
        rounds = (len(chunk_index_bits(window)) + 1) * _levels(step)
    return StepPrediction(
        step.name,
        step.op,
        value.shape,
        value.ring_bits,
        window,
        comparisons,
        truncations,
        multiply_adds,
        online,
        offline,
        rounds,
    )


def _levels(step: Relu | ReluClipped | MaxPool) -> int:
    """How many comparisons follow one another; both of a clipped ReLU run together."""
    return sum(step.pool) - 2 if isinstance(step, MaxPool) else 1


def _mask_bits(program: Program, step: Linear) -> int:
    """Offline bits of a linear layer: masks at zero padding, and re-masks where its input has other masks."""
    value = program.values[step.source]
    channels, height, width = value.shape
    top, bottom, left, right = step.padding
    padded = (height + top + bottom) * (width + left + right) - height * width
    bits = channels * padded * value.ring_bits
    return bits if _chooses_its_masks(program, step.source) else bits + value.elements * value.ring_bits


def _chooses_its_masks(program: Program, value: int) -> bool:
    """Whether the hospital's share of a value can be made the mask of the one linear layer that reads it."""
    maker = next(step for step in program.steps if not isinstance(step, Output) and step.out == value)
    readers = [step for step in program.steps if value in sources(step)]
    free = isinstance(maker, Input | Relu | ReluClipped | MaxPool)
    return free and len(readers) == 1 and not isinstance(readers[0], Add | Concat)
