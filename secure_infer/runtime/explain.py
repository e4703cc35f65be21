"""What dominates an inference's cost, in sentences."""

from collections import Counter
from collections.abc import Iterator

from secure_infer.runtime.cost_vectors import chunk_index_bits
from secure_infer.runtime.timing import Timing, transfer_s
from secure_infer.runtime.work import PHASES, Phase


def explain(timing: Timing) -> list[str]:
    """A few sentences on each phase: what dominates it, and why."""
    return [sentence for phase in PHASES for sentence in _phase(timing, phase)]


def _phase(timing: Timing, phase: Phase) -> Iterator[str]:
    offline, total = phase == "offline", timing.total(phase)
    by_op: Counter[str] = Counter()
    for step in timing.steps:
        by_op[step.step.op] += (step.offline if offline else step.online).seconds  # type: ignore[assignment]
    op, seconds = by_op.most_common(1)[0]
    parties = {"hospital": total.hospital, "developer": total.developer}
    slower, faster = sorted(parties, key=lambda party: -parties[party])
    share = seconds / total.seconds if total.seconds else 0.0
    yield (
        f"{phase.capitalize()} takes {total.seconds:.2f} s, {share:.0%} of it in steps of kind {op!r}: the "
        f"{slower} works for {parties[slower]:.2f} s, the {faster} for {parties[faster]:.2f} s meanwhile."
    )
    yield from _comparisons(timing, offline)
    if timing.link.bits_per_second is None:
        return
    prediction, link = timing.prediction, timing.link
    traffic = prediction.offline if offline else prediction.online
    rounds = prediction.offline_rounds if offline else prediction.rounds
    carrying, waiting = transfer_s(traffic, link), rounds * link.round_trip_s
    causes = {
        "bandwidth dominates": carrying,
        "latency dominates": waiting,
        f"the {slower}'s work dominates": parties[slower],
    }
    megabytes = max(traffic.to_developer, traffic.to_hospital) / 8e6
    yield (
        f"On {link.name}, {megabytes:,.1f} MB in the fuller direction take {carrying:.2f} s and {rounds:,} "
        f"round trips {waiting:.2f} s: {max(causes, key=lambda cause: causes[cause])}."
    )


def _comparisons(timing: Timing, offline: bool) -> Iterator[str]:
    compared = [step.step for step in timing.steps if step.step.window is not None]
    count = sum(step.comparisons for step in compared)
    if not count:
        return
    prediction = timing.prediction
    whole = prediction.offline if offline else prediction.online
    parts = [step.offline if offline else step.online for step in compared]
    bits = sum(part.to_developer + part.to_hospital for part in parts)
    lookups = sum(step.comparisons * len(chunk_index_bits(step.window or (0, 0))) for step in compared)
    yield (
        f"Its {count:,} comparisons take {lookups / count:.1f} table look-ups and {bits / count:.0f} bits "
        f"each, extended results included: {bits / 8e6:,.1f} of "
        f"{(whole.to_developer + whole.to_hospital) / 8e6:,.1f} MB both ways."
    )
