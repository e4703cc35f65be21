"""What oblivious transfers cost in bytes, for both engines, from the sizes of the calls alone.

``softspoken`` sends 31 corrections for every OT, in chunks of 256 OTs (``native/ot/src/softspoken``).
``ferret`` makes OTs in batches, twice as many each time up to 2^19, whenever a call finds too few in stock,
and sends the sums of a tree with the first OTs that are made of its leaves, 2048 at a time. After 4 M
OTs a round is used up but for the *seeds* of the next one, made like OTs but not hashed; those of the
first round are softspoken's (``native/ot/src/ferret.rs``, whose `batches_len` is `_Ferret` here).
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
"""Random OTs that the trees of one round take."""
SEEDS: Final[dict[Kind, int]] = {"random": LPN_SECRET + TREE_OTS, "table": LPN_SECRET + TREES}
"""Samples that a round starts from."""
TREE_BYTES: Final[dict[Kind, int]] = {"random": 16 * LEVELS, "table": 16 * (LEVELS + 2)}
FIRST_BATCH: Final = 1 << 6
LARGEST_BATCH: Final = 1 << 11
"""In chunks."""
_TREE: Final = LEAVES // CHUNK
_ROUND: Final = TREES * _TREE


@dataclass(frozen=True)
class OtCost:
    """What some OTs of one direction cost.

    Attributes
    ----------
    to_sender, to_receiver : int
        Bytes.
    random, table : int
        OTs that are made, in whole chunks; with ``ferret`` later calls may use them.
    random_seeds, table_seeds : int
        Samples that rounds start from, of the rounds that begin with these OTs; never with ``softspoken``.
    messages_to_sender, messages_to_receiver : int
        That are not empty.
    """

    to_sender: int = 0
    to_receiver: int = 0
    random: int = 0
    table: int = 0
    random_seeds: int = 0
    table_seeds: int = 0
    messages_to_sender: int = 0
    messages_to_receiver: int = 0

    def __add__(self, other: "OtCost") -> "OtCost":
        return OtCost(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))

    @property
    def seeds(self) -> int:
        """Of both kinds."""
        return self.random_seeds + self.table_seeds


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
    """Chunks of the round that are used, all of them before the first one; chunks ever made; OTs in stock."""

    sends_corrections: ClassVar[bool] = False
    place: dict[Kind, int] = field(default_factory=lambda: {"random": _ROUND, "table": _ROUND})
    made: dict[Kind, int] = field(default_factory=lambda: {"random": 0, "table": 0})
    stock: dict[Kind, int] = field(default_factory=lambda: {"random": 0, "table": 0})

    def setup(self, kinds: tuple[Kind, ...]) -> OtCost:
        return OtCost(to_sender=sum(corrections(kind, SEEDS[kind]) for kind in kinds), messages_to_sender=1)

    def call(self, kind: Kind, count: int) -> OtCost:
        cost = OtCost()
        while self.stock[kind] < count:
            cost += self._batch(kind)
        self.stock[kind] -= count
        return cost + OtCost(messages_to_receiver=int(cost.to_receiver > 0))

    def _batch(self, kind: Kind) -> OtCost:
        cost = self._begin(kind) if self._ready(kind) <= 0 else OtCost()
        chunks = min(max(self.made[kind], FIRST_BATCH), LARGEST_BATCH, self._ready(kind))
        self.made[kind] += chunks
        self.stock[kind] += chunks * CHUNK
        return cost + self._grow(kind, chunks) + _used(kind, chunks * CHUNK)

    def _ready(self, kind: Kind) -> int:
        return _ROUND - SEEDS[kind] // CHUNK - self.place[kind]

    def _take(self, kind: Kind, chunks: int) -> OtCost:
        cost = OtCost()
        while chunks > 0:
            step = min(chunks, self._ready(kind))
            if step > 0:
                cost += self._grow(kind, step)
                chunks -= step
            else:
                cost += self._begin(kind)
        return cost

    def _begin(self, kind: Kind) -> OtCost:
        rest = _ROUND - self.place[kind]
        if kind == "random":
            cost = OtCost(random_seeds=rest * CHUNK)
        else:
            # The trees over F_16 take random OTs.
            cost = self._take("random", TREE_OTS // CHUNK)
            cost += OtCost(random_seeds=TREE_OTS, table_seeds=rest * CHUNK)
        cost += self._grow(kind, rest)
        self.place[kind] = 0
        return cost

    def _grow(self, kind: Kind, chunks: int) -> OtCost:
        first = self.place[kind]
        self.place[kind] += chunks
        trees = -(-self.place[kind] // _TREE) - -(-first // _TREE)
        return OtCost(to_receiver=trees * TREE_BYTES[kind])
