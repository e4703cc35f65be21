"""What oblivious transfers cost in bytes, for both engines, from the sizes of the calls alone.

``softspoken`` sends 31 corrections for every OT, in chunks of 256 OTs (``native/ot/src/softspoken``).
``ferret`` sends nothing for an OT, but 4 M of them at a time have to be made: a *refill*, one request of the
receiver and one answer of the sender (``native/ot/src/ferret.rs``, whose rule for when one is due stands in
`_Ferret.call`). Refills are large: a small network may get through on what the set-up has left over.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, Protocol

from secure_infer.errors import OptionError

Engine = Literal["softspoken", "ferret"]
Kind = Literal["random", "table"]

CHUNK: Final = 256
"""OTs that both engines make together."""
CORRECTIONS: Final = 31
"""Corrections per OT: one for each of the 32 punctured PRFs but the first."""
PLANES: Final[dict[Kind, int]] = {"random": 1, "table": 4}
"""Bits of a correction: one-of-two OTs are over F_2, one-of-sixteen OTs over F_16."""

LPN_SECRET: Final = 1 << 18
TREES: Final = 1 << 11
LEVELS: Final = 11
LEAVES: Final = 1 << LEVELS
TREE_OTS: Final = TREES * LEVELS
"""Random OTs that the trees of one refill take."""
SEEDS: Final[dict[Kind, int]] = {"random": LPN_SECRET + TREE_OTS, "table": LPN_SECRET + TREES}
"""Samples of the last refill that the next one starts from."""
ANSWER_BYTES: Final[dict[Kind, int]] = {"random": 16 * TREES * LEVELS, "table": 16 * TREES * (LEVELS + 2)}
REQUEST_BYTES: Final[dict[Kind, int]] = {"random": 0, "table": TREES // 2}
_ROUND: Final = TREES * LEAVES // CHUNK


@dataclass(frozen=True)
class OtCost:
    """What some OTs of one direction cost.

    Attributes
    ----------
    to_sender, to_receiver : int
        Bytes.
    random, table : int
        OTs that are used, in whole chunks.
    random_refills, table_refills : int
        Refills before them; never with ``softspoken``.
    messages_to_sender, messages_to_receiver : int
        That are not empty.
    """

    to_sender: int = 0
    to_receiver: int = 0
    random: int = 0
    table: int = 0
    random_refills: int = 0
    table_refills: int = 0
    messages_to_sender: int = 0
    messages_to_receiver: int = 0

    def __add__(self, other: "OtCost") -> "OtCost":
        return OtCost(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def refills(self) -> int:
        """Of both kinds: a round trip each."""
        return self.random_refills + self.table_refills


class Supply(Protocol):
    """OTs of one connection in one direction, in the order in which they are used.

    Attributes
    ----------
    sends_corrections : bool
        Whether the receiver sends something for every call.
    """

    sends_corrections: ClassVar[bool]

    def setup(self, kinds: tuple[Kind, ...]) -> OtCost:
        """What is made when a connection is set up, beyond the base OTs."""

    def call(self, kind: Kind, count: int) -> OtCost:
        """`count` OTs."""


def supply(engine: str) -> Supply:
    """A fresh connection's OTs of one direction.

    Raises
    ------
    OptionError
        For an engine that there isn't.
    """
    if engine == "softspoken":
        return _Softspoken()
    if engine == "ferret":
        return _Ferret()
    raise OptionError("OT engine", expected="softspoken or ferret", got=engine)


def corrections(kind: Kind, count: int) -> int:
    """Bytes of softspoken's corrections for `count` OTs."""
    return -(-count // CHUNK) * CORRECTIONS * PLANES[kind] * CHUNK // 8


def _used(kind: Kind, count: int) -> OtCost:
    whole = -(-count // CHUNK) * CHUNK
    return OtCost(random=whole) if kind == "random" else OtCost(table=whole)


class _Softspoken:
    sends_corrections: ClassVar[bool] = True

    def setup(self, _kinds: tuple[Kind, ...]) -> OtCost:
        return OtCost()

    def call(self, kind: Kind, count: int) -> OtCost:
        return OtCost(to_sender=corrections(kind, count), messages_to_sender=1) + _used(kind, count)


@dataclass
class _Ferret:
    """Chunks made and used of each kind."""

    sends_corrections: ClassVar[bool] = False
    made: dict[Kind, int] = field(default_factory=lambda: {"random": 0, "table": 0})
    used: dict[Kind, int] = field(default_factory=lambda: {"random": 0, "table": 0})

    def setup(self, kinds: tuple[Kind, ...]) -> OtCost:
        return sum((self._until(kind, 1) for kind in kinds), OtCost())

    def call(self, kind: Kind, count: int) -> OtCost:
        chunks = -(-count // CHUNK)
        cost = self._until(kind, chunks) + _used(kind, count)
        self.used[kind] += chunks
        return cost

    def _ready(self, kind: Kind) -> int:
        return max(self.made[kind] - self.used[kind] - SEEDS[kind] // CHUNK, 0)

    def _until(self, kind: Kind, chunks: int) -> OtCost:
        cost = OtCost()
        while self._ready(kind) < chunks:
            # The trees of a refill of the larger kind take random OTs.
            low = kind == "table" and self._ready("random") < TREE_OTS // CHUNK
            cost += self._refill("random" if low else kind)
        return cost

    def _refill(self, kind: Kind) -> OtCost:
        request = REQUEST_BYTES[kind]
        if self.made[kind] == 0:
            request += corrections(kind, SEEDS[kind])
        else:
            self.used[kind] += SEEDS[kind] // CHUNK
        if kind == "table":
            self.used["random"] += TREE_OTS // CHUNK
        self.made[kind] += _ROUND
        return OtCost(
            to_sender=request,
            to_receiver=ANSWER_BYTES[kind],
            random_refills=int(kind == "random"),
            table_refills=int(kind == "table"),
            messages_to_sender=int(request > 0),
            messages_to_receiver=1,
        )
