"""How the protocol cuts long vectors, and what it makes of a convolution: the public sizes behind every cost.

The same rules stand in the core, once each: `stripes` in ``native/protocol/src/relu.rs``,
`lanes` and how many are under way in ``native/protocol/src/lanes.rs``, `chunk_index_bits` in
``native/protocol/src/carry.rs``, the vectors of a max-pool in ``native/protocol/src/max_pool.rs``,
`wrap_bits` in ``native/protocol/src/truncate.rs`` (`ot_bits`) and ``program.rs`` (`extension`),
`polynomials` in ``native/lattice/src/layout.rs``.
"""

from dataclasses import dataclass
from typing import Final

from secure_infer.runtime.program import Program, tap_counts
from secure_infer.runtime.steps import Linear, MaxPool, Relu, ReluClipped, Step, Truncate

OFFLINE_STRIPE: Final = 1 << 17
"""Elements whose offline messages are exchanged together."""
LANES_UNDER_WAY: Final = 16
LANES_TOGETHER: Final = 8
LARGEST_LANE: Final = 1 << 16
SMALLEST_LANE: Final = 1 << 11
POLYNOMIAL: Final = 2048
"""Coefficients of a polynomial, N."""
FIRST_CHUNK_BITS: Final = 4
NEXT_CHUNK_BITS: Final = 3


def chunk_index_bits(window: tuple[int, int]) -> tuple[int, ...]:
    """Bits of each chunk's table index: the digit and, from the second on, the carry; the top bit is left."""
    left = window[1] - window[0] - 1
    indices: list[int] = []
    while left > 0:
        digit = min(left, NEXT_CHUNK_BITS if indices else FIRST_CHUNK_BITS)
        indices.append(digit + (1 if indices else 0))
        left -= digit
    return tuple(indices)


def wrap_bits(program: Program, step: Step) -> int:
    """Bits g of the OT that finds the wrap of an element's shares; 0 where there is none.

    In a truncation, and after a ReLU's comparisons where its result is extended to a larger ring.
    """
    if not isinstance(step, Truncate | Relu | ReluClipped):
        return 0
    shift = step.shift if isinstance(step, Truncate) else 0
    return max(0, program.values[step.out].ring_bits - (program.values[step.source].ring_bits - shift))


def wraps(program: Program, step: Step) -> int:
    """Length of the vector whose wraps are found by OTs, see `wrap_bits`."""
    if isinstance(step, Truncate | Relu | ReluClipped) and wrap_bits(program, step):
        return program.values[step.out].elements
    return 0


def comparisons(program: Program, step: Step) -> tuple[int, ...]:
    """Lengths of the vectors that pass the rounds of comparisons, one after the other."""
    if isinstance(step, Relu):
        return (program.values[step.source].elements,)
    if isinstance(step, ReluClipped):
        return (2 * program.values[step.source].elements,)
    if isinstance(step, MaxPool):
        return _pool_vectors(program, step)
    return ()


def stripes(length: int) -> list[int]:
    """The parts of a vector whose OTs are made together offline."""
    whole, rest = divmod(length, OFFLINE_STRIPE)
    return [OFFLINE_STRIPE] * whole + ([rest] if rest else [])


def lanes(length: int) -> int:
    """Messages that a vector takes in each online round."""
    return -(-length // _lane(length))


def groups(length: int) -> int:
    """How many times the online rounds wait for one another: once for all lanes under way together."""
    return -(-length // (_lane(length) * LANES_UNDER_WAY))


def _lane(length: int) -> int:
    if length < LANES_TOGETHER * SMALLEST_LANE:
        count = 1 << max(length // SMALLEST_LANE, 1).bit_length() - 1
    else:
        count = _multiple(-(-length // LARGEST_LANE), LANES_TOGETHER)
    return _multiple(max(-(-length // count), 1), 64)


def _multiple(number: int, of: int) -> int:
    return -(-number // of) * of


def _pool_vectors(program: Program, step: MaxPool) -> tuple[int, ...]:
    channels, height, width = program.values[step.source].shape
    wide = tap_counts(width, step.pool[1], step.stride[1], step.padding[2:])
    high = tap_counts(height, step.pool[0], step.stride[0], step.padding[:2])
    rows = [channels * height * sum(taps > t for taps in wide) for t in range(1, step.pool[1])]
    columns = [channels * len(wide) * sum(taps > t for taps in high) for t in range(1, step.pool[0])]
    return tuple(length for length in rows + columns if length)


@dataclass(frozen=True)
class Polynomials:
    """What a linear layer takes of the ring-LWE correlation, in polynomials of N coefficients."""

    inputs: int
    outputs: int


def polynomials(program: Program, step: Linear) -> Polynomials:
    """Input and output polynomials of a layer, as ``native/lattice/src/layout.rs`` lays it out."""
    channels, height, width = program.values[step.source].shape
    outputs = program.values[step.out].shape[0]
    padded = (height + step.padding[0] + step.padding[1], width + step.padding[2] + step.padding[3])
    phases = 1
    pixels = 1
    for axis in range(2):
        taps = {tap * step.dilation[axis] % step.stride[axis] for tap in range(step.kernel[axis])}
        phases *= len(taps)
        pixels *= -(-padded[axis] // step.stride[axis])
    residues = -(-pixels // POLYNOMIAL)
    per_polynomial = max(POLYNOMIAL // pixels, 1)
    return Polynomials(-(-channels * phases // per_polynomial) * residues, outputs * residues)
