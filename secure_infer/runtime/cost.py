"""What an inference will cost, predicted from the public program alone: bytes each way and round trips.

The counts follow the headers of the protocol's files (``native/protocol/src``). Per comparison with the
window [m, k), n = k - m, in the ring 2^ell with a result in 2^ell':

- online, per chunk of the carry chain with an index of s bits: 4 bits to the hospital (the choice in a
  1-of-16 OT, whatever s is), 2^s bits back;
- online, the multiplexer: 1 + p bits to the hospital, p bits back, where p = min(ell, ell');
- offline: one 1-of-16 OT per chunk, two correlated OTs and a correction of p bits to the developer.

Truncation by f from 2^ell to 2^ell' with g = max(0, ell' - (ell - f)) > 0: online 1 bit to the hospital and
g back, offline one correlated OT and g bits to the developer. The result of a ReLU with ell' > ell takes the
same with f = 0, after the comparisons (of a clipped one: once, for the difference of its two ReLUs). What OTs
cost stands in `cost_ot`, how vectors are cut in `cost_vectors`.

Frames, TLS, nonces and the rounding of each message to whole bytes are not in it. What an inference takes in
seconds is in `timing`, the arithmetic behind it in `work`.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

from secure_infer.runtime.cost_ot import Kind, OtCost, Supply, supply
from secure_infer.runtime.cost_vectors import (
    chunk_index_bits,
    comparisons,
    groups,
    lanes,
    stripes,
    wrap_bits,
    wraps,
)
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

TICKET_BYTES: Final = 2048 * 50 // 8
"""The hospital's one polynomial p_b per ticket: N = 2048 coefficients of 50 bits."""
BASE_OT_BYTES: Final = (8192 + 4128, 8192 + 4128)
"""To the developer and to the hospital: each is once the sender and once the receiver of the base OTs."""
FROM_HOSPITAL: Final[tuple[Kind, ...]] = ("random", "table")
FROM_DEVELOPER: Final[tuple[Kind, ...]] = ("random",)


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
    rounds, offline_rounds : int
        Round trips that wait for one another; within each, the lanes of a long vector overlap.
    messages, offline_messages : int
        In both directions together.
    from_hospital, from_developer : OtCost
        The OTs of either direction: those that the hospital sends and those that the developer sends.
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
    offline_rounds: int
    messages: int
    offline_messages: int
    from_hospital: OtCost
    from_developer: OtCost

    def to_json(self) -> dict[str, Any]:
        """Plain values, bytes instead of bits."""
        plain = asdict(self)
        del plain["from_hospital"], plain["from_developer"]
        return plain | {"online": self.online.to_json(), "offline": self.offline.to_json()}


@dataclass(frozen=True)
class Prediction:
    """A whole program's cost, step by step; `setup` is once per connection."""

    ot_engine: str
    setup: Traffic
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

    @property
    def offline_rounds(self) -> int:
        """Offline round trips; one more than the steps' for the nonces."""
        return 1 + sum(step.offline_rounds for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        """The content of ``predictions.json``."""
        return {
            "ot_engine": self.ot_engine,
            "comparisons": sum(step.comparisons for step in self.steps),
            "truncations": sum(step.truncations for step in self.steps),
            "multiply_adds": sum(step.multiply_adds for step in self.steps),
            "setup": self.setup.to_json(),
            "online": self.online.to_json() | {"rounds": self.rounds},
            "offline": self.offline.to_json() | {"rounds": self.offline_rounds},
            "steps": [step.to_json() for step in self.steps],
        }


def predict(program: Program, ot_engine: str = "softspoken", *, ticket: int = 1) -> Prediction:
    """Predict the cost of one inference.

    Parameters
    ----------
    program : Program
    ot_engine : str
        ``softspoken`` or ``ferret``.
    ticket : int
        Which ticket of a connection. With ``ferret`` rounds begin now in this ticket and now in that
        one: a large network's tickets differ by a few per cent, a small one's more.

    Raises
    ------
    OptionError
        For an engine that there isn't.
    """
    supplies = supply(ot_engine), supply(ot_engine)
    made = (supplies[0].setup(FROM_HOSPITAL), supplies[1].setup(FROM_DEVELOPER))
    setup = Traffic(*(8 * size for size in BASE_OT_BYTES)) + _ot_traffic(*made)
    counts = program.costs()
    masked = _masked_by_their_makers(program)
    for _ in range(ticket):
        steps = tuple(
            _step(
                program, step, (count.comparisons, count.truncations, count.multiply_adds), masked, supplies
            )
            for step, count in zip(program.steps, counts, strict=True)
        )
    return Prediction(ot_engine, setup, steps)


def comparison_traffic(window: tuple[int, int], product_bits: int) -> tuple[Traffic, Traffic]:
    """Online and offline bits of one ReLU with its product in so many bits; offline without OTs."""
    indices = chunk_index_bits(window)
    online = Traffic(sum(2**s for s in indices) + product_bits, 4 * len(indices) + 1 + product_bits)
    return online, Traffic(product_bits, 0)


def wrap_traffic(bits: int) -> tuple[Traffic, Traffic]:
    """Online and offline bits of one wrap that takes an OT of so many bits; offline without OTs."""
    return (Traffic(bits, 1), Traffic(bits, 0)) if bits else (Traffic(), Traffic())


def _ot_traffic(from_hospital: OtCost, from_developer: OtCost) -> Traffic:
    """In bits."""
    to_developer = from_hospital.to_receiver + from_developer.to_sender
    return Traffic(8 * to_developer, 8 * (from_hospital.to_sender + from_developer.to_receiver))


def _step(
    program: Program,
    step: Step,
    counts: tuple[int, int, int],
    masked: frozenset[str],
    supplies: tuple[Supply, Supply],
) -> StepPrediction:
    value = program.values[step.source if isinstance(step, Output) else step.out]
    online, offline, rounds, messages, window = Traffic(), Traffic(), 0, 0, None
    ots = (OtCost(), OtCost())
    offline_messages = offline_rounds = 0
    if isinstance(step, Input):
        online, messages = Traffic(value.elements * value.ring_bits, 0), 1
    elif isinstance(step, Output):
        online, rounds, messages = Traffic(0, value.elements * value.ring_bits), 1, 1
    elif isinstance(step, Linear):
        offline = Traffic(_mask_bits(program, step, step.name in masked), 0)
        offline_messages = 2 - int(step.name in masked)
    elif isinstance(step, Truncate | Relu | ReluClipped | MaxPool):
        vectors, wrapped, chunks = comparisons(program, step), wraps(program, step), 0
        online, offline = (part.times(wrapped) for part in wrap_traffic(wrap_bits(program, step)))
        if not isinstance(step, Truncate):
            window = step.window
            chunks = len(chunk_index_bits(window))
            bits = min(program.values[step.source].ring_bits, value.ring_bits)
            each = comparison_traffic(window, bits)
            online, offline = online + each[0].times(sum(vectors)), offline + each[1].times(sum(vectors))
        rounds = sum(groups(length) for length in vectors) * (chunks + 1) + groups(wrapped)
        messages = sum(lanes(length) for length in vectors) * (2 * chunks + 2) + 2 * lanes(wrapped)
        parts = [part for length in vectors for part in stripes(length)]
        ots = _ots(parts, stripes(wrapped), chunks, supplies)
        offline += _ot_traffic(*ots)
        # The correction of the correlated OTs follows each stripe's OTs.
        parts += stripes(wrapped)
        offline_messages = len(parts) + sum(one.messages_to_sender + one.messages_to_receiver for one in ots)
        # Where the developer sends corrections for every stripe, it waits for the hospital's before the next
        # one; without them the hospital just streams.
        offline_rounds = len(parts) if supplies[0].sends_corrections else 0
    return StepPrediction(
        step.name,
        step.op,
        value.shape,
        value.ring_bits,
        window,
        *counts,
        online,
        offline,
        rounds,
        offline_rounds,
        messages,
        offline_messages,
        *ots,
    )


def _ots(
    compared: list[int], wrapped: list[int], chunks: int, supplies: tuple[Supply, Supply]
) -> tuple[OtCost, OtCost]:
    """OTs of a step, stripe by stripe: `chunks` tables and a multiplexer's two, then one for each wrap."""
    from_hospital, from_developer = OtCost(), OtCost()
    for part in compared:
        for _ in range(chunks):
            from_hospital += supplies[0].call("table", part)
        from_hospital += supplies[0].call("random", part)
        from_developer += supplies[1].call("random", part)
    for part in wrapped:
        from_hospital += supplies[0].call("random", part)
    return from_hospital, from_developer


def _masked_by_their_makers(program: Program) -> frozenset[str]:
    """The linear layers whose input carries their mask from its making (`Plan::new` in ``plan.rs``).

    The hospital may choose the mask of the input and of the result of a ReLU; the first linear layer that
    reads such a value gets it.
    """
    free = {step.out for step in program.steps if isinstance(step, Input | Relu | ReluClipped)}
    masked = set()
    for step in program.steps:
        if isinstance(step, Linear) and step.source in free:
            free.remove(step.source)
            masked.add(step.name)
    return frozenset(masked)


def _mask_bits(program: Program, step: Linear, masked: bool) -> int:
    """Offline bits of a linear layer: masks at zero padding, and re-masks where its input has other masks."""
    value = program.values[step.source]
    channels, height, width = value.shape
    top, bottom, left, right = step.padding
    padded = (height + top + bottom) * (width + left + right) - height * width
    bits = channels * padded * value.ring_bits
    return bits if masked else bits + value.elements * value.ring_bits
