"""A roofline: what the arithmetic needs, what one core can do, what was measured, and the ratio.

The need is counted from the protocol's sizes alone (`secure_infer.runtime.work`), the rates are measured in
the same run (`secure_infer.bench.rates`). For one party in one phase and one kind of step::

    bound = max(memory_bytes / rate, aes_blocks / rate + multiply_adds / rate + butterflies / rate)
            + random_reads / rate + sent_bytes / rate + received_bytes / rate

A core moves memory while it computes, so the longer of both is a bound. AES, products and butterflies are
measured at the full rate of the same vector units, so they add up; bytes through TLS are encrypted, copied
and handed to the kernel by the same core before or after that, so they do, too. So do random reads: fetching
what they read while the core encrypts was tried in several ways and is not faster (decision records 7 and 9).
``ratio`` is the time that was measured on the core, divided by the bound: what is above 1 is what
the arithmetic doesn't explain.
The largest ratios come first, but only of work that takes a hundredth of its party's phase: the next thing to
work on. It is about one core a party; what further threads do is not in the time of a session's own thread.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from secure_infer.runtime.cost import predict
from secure_infer.runtime.program import Program
from secure_infer.runtime.work import PARTIES, PHASES, Amounts, Party, Phase, work

#: Resources that share the vector units, beside which memory is moved, and those that take their own time.
VECTORS: Final = ("aes_blocks", "multiply_adds", "butterflies")
ONE_AFTER_ANOTHER: Final = ("random_reads", "sent_bytes", "received_bytes")
SHARE: Final = 0.01
"""Of a party's phase: what takes less is not worth a look."""
_LAYERS: Final = 10


@dataclass(frozen=True)
class Row:
    """One party, one phase, one kind of step or one step.

    Attributes
    ----------
    phase, party : str
    name : str
        The kind's, or the step's.
    needs : dict
        Resource -> amount, see `secure_infer.runtime.work`.
    bound_by : str
        The resource that takes the longest by itself.
    bound_seconds, busy_seconds, waiting_seconds : float
        What the arithmetic needs at least; what the party's core did; what it waited for the other one.
    ratio : float or None
        Busy divided by bound; None where nothing is needed.
    share : float
        Of what the party's core did in the phase.
    """

    phase: Phase
    party: Party
    name: str
    needs: Mapping[str, float]
    bound_by: str
    bound_seconds: float
    busy_seconds: float
    waiting_seconds: float
    ratio: float | None
    share: float = 0.0


@dataclass(frozen=True)
class Roofline:
    """All rows, the largest ratios first; those that take next to no time come last.

    Attributes
    ----------
    rates : dict
        Units per second of one core.
    kinds, layers : tuple of Row
        By kind of step; the steps that take longest.
    """

    rates: Mapping[str, float]
    kinds: tuple[Row, ...]
    layers: tuple[Row, ...]


def bound(needs: Amounts, rates: Mapping[str, float]) -> tuple[str, float]:
    """The resource that takes the longest by itself, and the seconds that all of them take at least."""
    alone = {resource: amount / rates[resource] for resource, amount in needs.items()}
    if not alone:
        return "", 0.0
    computing = sum(alone.get(resource, 0.0) for resource in VECTORS)
    apart = sum(alone.get(resource, 0.0) for resource in ONE_AFTER_ANOTHER)
    seconds = max(computing, alone.get("memory_bytes", 0.0)) + apart
    return max(alone, key=lambda name: alone[name]), seconds


def roofline(
    program: Program,
    ot_engine: str,
    spent: Mapping[str, Mapping[str, Any]],
    images: int,
    rates: Mapping[str, float],
) -> Roofline:
    """Compare what a run took with what its arithmetic needs.

    Parameters
    ----------
    program : Program
    ot_engine : str
    spent : dict
        Party -> its statistics over all images, see `HospitalClient.stats`.
    images : int
        Of the run, on one fresh connection.
    rates : dict
        Units per second of every resource of `secure_infer.runtime.work`.
    """
    tickets = [work(program, predict(program, ot_engine, ticket=ticket)) for ticket in range(1, images + 1)]
    kinds: list[Row] = []
    layers: list[Row] = []
    for phase in PHASES:
        for party in PARTIES:
            times = {step["name"]: step for step in spent[party][phase]["steps"]}
            single = []
            by_op: dict[str, list[tuple[Amounts, float, float]]] = {}
            for index, step in enumerate(program.steps):
                needs = _sum(ticket[index].amounts[phase, party] for ticket in tickets)
                needs = {name: amount / images for name, amount in needs.items()}
                took = times.get(step.name, {})
                waiting = float(took.get("waiting_seconds", 0.0)) / images
                busy = float(took.get("cpu_seconds", 0.0)) / images
                by_op.setdefault(step.op, []).append((needs, busy, waiting))
                single.append(_row(phase, party, step.name, needs, busy, waiting, rates))
            for op, parts in by_op.items():
                total = _sum(part[0] for part in parts)
                busy, waiting = sum(part[1] for part in parts), sum(part[2] for part in parts)
                kinds.append(_row(phase, party, op, total, busy, waiting, rates))
            layers += sorted(single, key=lambda row: -row.busy_seconds)[:_LAYERS]
    return Roofline(dict(rates), tuple(_in_order(kinds, kinds)), tuple(_in_order(layers, kinds)))


def _row(
    phase: Phase,
    party: Party,
    name: str,
    needs: Amounts,
    busy: float,
    waiting: float,
    rates: Mapping[str, float],
) -> Row:
    bound_by, seconds = bound(needs, rates)
    ratio = busy / seconds if seconds else None
    return Row(phase, party, name, dict(needs), bound_by, seconds, busy, waiting, ratio)


def _sum(several: Iterable[Amounts]) -> dict[str, float]:
    total: dict[str, float] = {}
    for one in several:
        for name, amount in one.items():
            total[name] = total.get(name, 0.0) + amount
    return total


def _in_order(rows: Sequence[Row], kinds: Sequence[Row]) -> list[Row]:
    """With shares; the largest ratios first, what takes next to nothing of its party's phase last."""
    whole: dict[tuple[str, str], float] = {}
    for row in kinds:
        whole[row.phase, row.party] = whole.get((row.phase, row.party), 0.0) + row.busy_seconds
    shared = [replace(row, share=row.busy_seconds / (whole[row.phase, row.party] or 1.0)) for row in rows]
    return sorted(shared, key=lambda row: (row.share < SHARE, -(row.ratio or 0.0)))


def to_lines(roofline: Roofline, *, rows: int = 16) -> list[str]:
    """As text: rates, what to work on next, kinds of steps and layers, `rows` of each at most."""
    rates = ", ".join(f"{_scaled(rate)} {name}" for name, rate in roofline.rates.items())
    lines = [f"roofline: a second of one core is {rates}"]
    first = next((row for row in roofline.kinds if row.share >= SHARE and row.ratio), None)
    if first is not None:
        what = f"{first.name} of the {first.party} {first.phase}"
        lines.append(
            f"next: {what}, {first.ratio:.1f} times its bound, {first.share:.0%} of what that core does"
        )
    return [*lines, *_table("kind", roofline.kinds, rows), *_table("layer", roofline.layers, rows)]


def _table(what: str, rows: Sequence[Row], most: int) -> list[str]:
    head = (
        f"{'phase':9}{'party':11}{what:28}{'bound by':16}{'need':>9}{'bound s':>9}{'busy s':>9}{'ratio':>7}"
    )
    lines = [f"{head}{'share':>7}"]
    for row in [row for row in rows if row.share >= SHARE][:most]:
        need = _scaled(row.needs[row.bound_by]) if row.bound_by else ""
        ratio = "" if row.ratio is None else f"{row.ratio:.1f}"
        lines.append(
            f"{row.phase:9}{row.party:11}{row.name[:27]:28}{row.bound_by:16}{need:>9}"
            f"{row.bound_seconds:9.4f}{row.busy_seconds:9.4f}{ratio:>7}{row.share:7.0%}"
        )
    return lines


def _scaled(amount: float) -> str:
    for unit in ("", "k", "M"):
        if amount < 1000:
            return f"{amount:.3g} {unit}".rstrip()
        amount /= 1000
    return f"{amount:.3g} G"
