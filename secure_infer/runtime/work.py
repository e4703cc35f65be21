"""The arithmetic that a program needs at least, by step, party and resource: what a roofline divides.

Resources and their units:

===================  ============================================================================
``aes_blocks``       AES-128 blocks: streams and trees of OTs, hashes, generators
``multiply_adds``    products of a ring word (32 bits) with a weight (16 bits), added up
``butterflies``      of number-theoretic transforms, N/2 log2 N = 11264 a polynomial (N = 2048); a product
                     modulo q and an exact rounding are as much, for each coefficient
``random_reads``     reads of 64 bytes at random in the 4 MiB of the LPN secret of ``ferret``
``memory_bytes``     of shares and ticket material in the core's types, each written or read once; what a
                     ticket keeps is erased, too, after it was read
``sent_bytes``       of messages that TLS encrypts and the kernel takes
``received_bytes``   the other way
===================  ============================================================================

What is counted is the minimum of the algorithm that is used, not of the problem: no packing, no copies, no
transposition of bit matrices, no sampling but its random bytes.

AES blocks (128 bits each) per OT, of sender and receiver. ``softspoken``: streams of 32 trees with 16 leaves,
of which the sender misses one each. ``ferret``: a node of a tree, ten columns of 16 bits for four OTs. The
hashes: TMMO with two blocks for either pad of a one-of-two OT; one block for each of the 16 entries of a
one-of-sixteen OT of ``ferret``, and of the 4 + 4 entries of the two one-of-four OTs that ``softspoken`` makes
it of.

==================  ===============================  ==============================================
one-of-two OT       ``softspoken``                   32*15/128 + 2*2 and 32*16/128 + 2
one-of-sixteen OT   ``softspoken``                   32*15*4/128 + 8 and 32*16*4/128 + 2
one-of-two OT       ``ferret``                       2046/2048 + 5/16 + 2*2 and 2046/2048 + 5/16 + 2
one-of-sixteen OT   ``ferret``                       3070/2048 + 5/16 + 16 and 3070/2048 + 5/16 + 1
==================  ===============================  ==============================================

A round of ``ferret`` starts from samples without hashes.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from secure_infer.runtime.cost import Prediction, StepPrediction, Traffic
from secure_infer.runtime.cost_ot import (
    LEAVES,
    Kind,
    OtCost,
)
from secure_infer.runtime.cost_vectors import POLYNOMIAL, chunk_index_bits, polynomials, wrap_bits, wraps
from secure_infer.runtime.program import (
    Input,
    Linear,
    MaxPool,
    Output,
    Program,
    Relu,
    ReluClipped,
    Step,
    Truncate,
)
from secure_infer.runtime.steps import sources

Party = Literal["hospital", "developer"]
Phase = Literal["offline", "online"]
Amounts = Mapping[str, float]

RESOURCES: Final = (
    "aes_blocks",
    "multiply_adds",
    "butterflies",
    "random_reads",
    "memory_bytes",
    "sent_bytes",
    "received_bytes",
)

#: Per OT, as (sender, receiver).
STREAM_BLOCKS: Final[dict[Kind, tuple[float, float]]] = {
    "random": (32 * 15 / 128, 32 * 16 / 128),
    "table": (32 * 15 * 4 / 128, 32 * 16 * 4 / 128),
}
HASH_BLOCKS: Final[dict[str, dict[Kind, tuple[int, int]]]] = {
    "softspoken": {"random": (4, 2), "table": (8, 2)},
    "ferret": {"random": (4, 2), "table": (16, 1)},
}
#: A node's two children take one block; over F_16 those of the last level take two.
TREE_BLOCKS: Final[dict[Kind, int]] = {
    "random": LEAVES - 2,
    "table": LEAVES // 2 - 2 + 2 * (LEAVES // 2),
}
READS: Final = 10 / 4
"""Four samples add up the same ten lines."""
CODE_BLOCKS: Final = READS * 2 / 16
"""Of 16 bits a column."""

BUTTERFLIES: Final = POLYNOMIAL // 2 * 11
PRODUCTS: Final = POLYNOMIAL
#: Of an input polynomial, random bits a coefficient: the public one (50), its error (64), its rounding (32).
INPUT_BLOCKS: Final = POLYNOMIAL * (50 + 64 + 32) / 128
#: Of an output polynomial, random bits a coefficient: the developer's noise (64).
OUTPUT_BLOCKS: Final = POLYNOMIAL * 64 / 128
HINT_BYTES: Final = POLYNOMIAL * 36 // 8
SECRET_BYTES: Final = POLYNOMIAL // 4
WORD: Final = 4


PHASES: Final[tuple[Phase, ...]] = ("offline", "online")
PARTIES: Final[tuple[Party, ...]] = ("hospital", "developer")
#: What a ticket keeps is written offline, read and erased online.
_PASSES: Final[tuple[tuple[Phase, int], ...]] = (("offline", 1), ("online", 2))


@dataclass(frozen=True)
class StepWork:
    """What one step takes of each resource, by (phase, party)."""

    name: str
    op: str
    amounts: Mapping[tuple[Phase, Party], Amounts] = field(repr=False)


class _Tally(defaultdict[tuple[Phase, Party, str], float]):
    """Amounts by phase, party and resource."""

    def __init__(self) -> None:
        super().__init__(float)

    def split(self) -> dict[tuple[Phase, Party], Amounts]:
        """By phase and party; what isn't taken is left out."""
        return {
            (phase, party): {
                resource: self[phase, party, resource]
                for resource in RESOURCES
                if self.get((phase, party, resource))
            }
            for phase in PHASES
            for party in PARTIES
        }


def work(program: Program, prediction: Prediction) -> tuple[StepWork, ...]:
    """Count the arithmetic behind a prediction of the same program."""
    return tuple(
        StepWork(step.name, step.op, _step(program, step, predicted, prediction.ot_engine))
        for step, predicted in zip(program.steps, prediction.steps, strict=True)
    )


def ot_work(engine: str, cost: OtCost, receiver: bool) -> dict[str, float]:
    """AES blocks and random reads of one party for the OTs of one direction."""
    role = int(receiver)
    used: dict[Kind, int] = {"random": cost.random, "table": cost.table}
    hashes = sum(HASH_BLOCKS[engine][kind][role] * count for kind, count in used.items())
    if engine == "softspoken":
        streams = sum(STREAM_BLOCKS[kind][role] * count for kind, count in used.items())
        return {"aes_blocks": streams + hashes}
    samples: dict[Kind, int] = {
        "random": cost.random + cost.random_seeds,
        "table": cost.table + cost.table_seeds,
    }
    blocks = sum((TREE_BLOCKS[kind] / LEAVES + CODE_BLOCKS) * count for kind, count in samples.items())
    return {"aes_blocks": blocks + hashes, "random_reads": READS * sum(samples.values())}


def _step(
    program: Program, step: Step, predicted: StepPrediction, engine: str
) -> dict[tuple[Phase, Party], Amounts]:
    tally = _Tally()
    _add_traffic(tally, "offline", predicted.offline)
    _add_traffic(tally, "online", predicted.online)
    for cost, receiver in ((predicted.from_hospital, "developer"), (predicted.from_developer, "hospital")):
        for party in PARTIES:
            for resource, amount in ot_work(engine, cost, party == receiver).items():
                tally["offline", party, resource] += amount
    if isinstance(step, Linear):
        _add_linear(tally, program, step, predicted)
    elif isinstance(step, Truncate):
        _add_truncation(tally, program, step)
    elif isinstance(step, Relu | ReluClipped | MaxPool):
        rings = (program.values[value].ring_bits for value in (step.source, step.out))
        _add_comparisons(tally, predicted, _word(min(rings)))
        _add_wraps(tally, program, step)
        if isinstance(step, MaxPool):
            # Running maximum and challenger make a difference; its ReLU and the challenger the new maximum.
            tally["online", "developer", "memory_bytes"] += (3 + 3) * WORD * predicted.comparisons
    elif isinstance(step, Input | Output):
        value = program.values[step.source if isinstance(step, Output) else step.out]
        for party in PARTIES:
            tally["online", party, "memory_bytes"] += 2 * WORD * value.elements
    else:
        # Local for both, but the hospital does it offline.
        read = sum(program.values[source].elements for source in sources(step))
        moved = WORD * (read + program.values[step.out].elements)
        tally["offline", "hospital", "memory_bytes"] += moved
        tally["online", "developer", "memory_bytes"] += moved
    return tally.split()


def _add_traffic(tally: _Tally, phase: Phase, traffic: Traffic) -> None:
    to_developer, to_hospital = traffic.to_developer / 8, traffic.to_hospital / 8
    tally[phase, "hospital", "sent_bytes"] += to_developer
    tally[phase, "developer", "received_bytes"] += to_developer
    tally[phase, "developer", "sent_bytes"] += to_hospital
    tally[phase, "hospital", "received_bytes"] += to_hospital


def _add_linear(tally: _Tally, program: Program, step: Linear, predicted: StepPrediction) -> None:
    """One transform of an input polynomial, two of an output polynomial, each with one product.

    The hospital's masks and the developer's shares are rounded exactly, the hospital's shares only shifted.
    """
    count = polynomials(program, step)
    read, made = program.values[step.source].elements, program.values[step.out].elements
    tally["offline", "hospital", "aes_blocks"] += INPUT_BLOCKS * count.inputs
    tally["offline", "hospital", "butterflies"] += (BUTTERFLIES + 2 * PRODUCTS) * count.inputs
    tally["offline", "hospital", "butterflies"] += (2 * BUTTERFLIES + PRODUCTS) * count.outputs
    tally["offline", "hospital", "memory_bytes"] += HINT_BYTES * count.outputs + WORD * (read + made)
    tally["offline", "developer", "aes_blocks"] += OUTPUT_BLOCKS * count.outputs
    tally["offline", "developer", "butterflies"] += 2 * (BUTTERFLIES + PRODUCTS) * count.outputs
    tally["offline", "developer", "memory_bytes"] += SECRET_BYTES * count.outputs + WORD * made
    # Online: the input, the share of W r, the result.
    tally["online", "developer", "multiply_adds"] += predicted.multiply_adds
    tally["online", "developer", "memory_bytes"] += WORD * (read + 2 * made)


def _word(bits: int) -> int:
    """Bytes in which a ticket keeps a ring element."""
    return WORD // 2 if bits <= 8 * WORD // 2 else WORD


def _add_truncation(tally: _Tally, program: Program, step: Truncate) -> None:
    """All elements are shifted; where their wraps need an OT, H draws a mask for each."""
    shares = 2 * WORD * program.values[step.source].elements
    tally["offline", "hospital", "memory_bytes"] += shares
    tally["offline", "hospital", "aes_blocks"] += WORD * wraps(program, step) / 16
    tally["online", "developer", "memory_bytes"] += shares
    _add_wraps(tally, program, step)


def _add_wraps(tally: _Tally, program: Program, step: Step) -> None:
    """H keeps two answers, D a word and a choice; the masks of an extension follow from H's shares."""
    transfers, word = wraps(program, step), _word(wrap_bits(program, step))
    for phase, passes in _PASSES:
        tally[phase, "hospital", "memory_bytes"] += passes * 2 * word * transfers
        tally[phase, "developer", "memory_bytes"] += passes * (word + 1) * transfers


def _add_comparisons(tally: _Tally, predicted: StepPrediction, word: int) -> None:
    """H keeps a chunk's code and pads (16 bits), and two answers; D picks and three words."""
    comparisons = predicted.comparisons
    chunks = len(chunk_index_bits(predicted.window)) if predicted.window else 0
    hospital, developer = 3 * chunks + 2 * word, chunks + 3 * word
    tally["offline", "hospital", "memory_bytes"] += comparisons * (hospital + 2 * WORD)
    tally["offline", "developer", "memory_bytes"] += comparisons * developer
    tally["online", "hospital", "memory_bytes"] += comparisons * 2 * hospital
    tally["online", "developer", "memory_bytes"] += comparisons * (2 * developer + 2 * WORD)
