"""A benchmark as text for people: sections with an empty line between them."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final

from secure_infer.bench.result import Bench, PhaseCost
from secure_infer.bench.roofline import to_lines

Section = Callable[[Bench], list[str]]

#: Of the steps that take longest online.
_SLOWEST: Final = 12


def to_text(bench: Bench, sections: Sequence[Section] | None = None) -> str:
    """The given sections, or all `SECTIONS`, without those that have nothing to say."""
    made = [section(bench) for section in (SECTIONS if sections is None else sections)]
    return "\n\n".join("\n".join(lines) for lines in made if lines)


def conditions(bench: Bench) -> list[str]:
    """What was measured where."""
    shape = "x".join(str(extent) for extent in bench.input_shape)
    machine = bench.machine
    return [
        f"{bench.model}, input {shape}, {bench.relus / 1e6:.2f} M comparisons",
        f"OT engine {bench.ot_engine}, {bench.threads} thread(s) a party, medians of {bench.images} image(s)",
        f"{machine.cpu}, {machine.cores} cores, load {machine.load_average} before the start",
        f"instruction sets: {' '.join(machine.instruction_sets)}",
        *_network(bench),
    ]


def phases(bench: Bench) -> list[str]:
    """Seconds and bytes of each phase."""
    return [
        f"{'':12}{'seconds':>10}{'lowest':>10}{'highest':>10}{'MB to developer':>18}{'MB to hospital':>18}",
        _phase("setup", bench.setup),
        _phase("offline", bench.offline),
        _phase("online", bench.online),
        f"{'total':12}{bench.total_seconds:10.2f}",
        f"{'TensorFlow':12}{bench.plaintext_seconds:10.2f}",
    ]


def throughput(bench: Bench) -> list[str]:
    """X-rays per hour."""
    if bench.throughput is None:
        return []
    rows = {"filled pool": bench.throughput.filled, "drained pool": bench.throughput.drained}
    return [
        f"{'':14}{'X-rays/hour':>12}{'images':>8}{'seconds':>10}",
        *(
            f"{name:14}{rate.images_per_hour:12.0f}{rate.images:8}{rate.seconds:10.2f}"
            for name, rate in rows.items()
        ),
        "one connection; with the pool drained, making a ticket and answering an image take turns",
    ]


def memory_and_error(bench: Bench) -> list[str]:
    """Peak memory, the bundle's size, and how far the logits are from the model's."""
    memory = ", ".join(f"{who} {size:.0f} MiB" for who, size in bench.max_rss_mb.items())
    hints = f"{bench.bundle.hints_bytes / 1e6:.0f} MB of hints"
    return [
        f"once per model: {hints}, {bench.bundle.load_seconds:.2f} s to check and load them",
        f"peak memory with {bench.pool} ticket(s): {memory}",
        f"logit error: largest {bench.logit_error.max_abs:.4f}, rms {bench.logit_error.rms:.4f}",
    ]


def kinds(bench: Bench) -> list[str]:
    """Sums over the steps of each kind."""
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0] * 5)
    for layer in bench.per_layer:
        row = (
            1,
            layer.offline_seconds,
            layer.online_seconds,
            layer.offline_bytes / 1e6,
            layer.online_bytes / 1e6,
        )
        sums[layer.op] = [total + part for total, part in zip(sums[layer.op], row, strict=True)]
    header = f"{'steps':16}{'count':>8}{'offline s':>11}{'online s':>11}{'offline MB':>12}{'online MB':>12}"
    rows = [
        f"{op:16}{count:8.0f}{offline:11.2f}{online:11.2f}{offline_mb:12.2f}{online_mb:12.2f}"
        for op, (count, offline, online, offline_mb, online_mb) in sums.items()
    ]
    return [header, *rows]


def slowest_steps(bench: Bench) -> list[str]:
    """The steps that take longest online."""
    layers = sorted(bench.per_layer, key=lambda layer: -layer.online_seconds)[:_SLOWEST]
    return [
        f"{'slowest steps online (medians)':44}{'offline s':>11}{'online s':>11}{'online MB':>11}",
        *(
            f"{layer.name[:44]:44}{layer.offline_seconds:11.3f}{layer.online_seconds:11.3f}"
            f"{layer.online_bytes / 1e6:11.2f}"
            for layer in layers
        ),
    ]


def roofline(bench: Bench) -> list[str]:
    """What the arithmetic needs and what was measured, the largest ratios first."""
    return [] if bench.roofline is None else to_lines(bench.roofline)


#: In the order of a report.
SECTIONS: Final[tuple[Section, ...]] = (
    conditions,
    phases,
    throughput,
    memory_and_error,
    kinds,
    slowest_steps,
    roofline,
)


def _network(bench: Bench) -> list[str]:
    network = bench.network
    if network.mbit is None or network.measured is None:
        return [f"network: {network.name}, TLS"]
    got = network.measured
    wire = f"{network.mbit:.0f} Mbit/s each way, {network.round_trip_ms:g} ms there and back"
    stream = (
        f"{got.mbit_to_developer:.0f} Mbit/s to the developer, {got.mbit_to_hospital:.0f} to the hospital"
    )
    lines = [
        f"network: {network.name}, {wire}, shaped by {network.shaper}, TLS",
        f"  a plain TCP stream ({network.congestion_control}) got {stream}, {got.round_trip_ms:.2f} ms",
    ]
    if network.link_cpu_seconds is not None:
        cpu = f"{network.link_cpu_seconds:.1f} s of the parties' cores"
        lines.append(f"  the link took {cpu} and dropped {network.dropped_packets} packets")
    return lines


def _phase(name: str, cost: PhaseCost) -> str:
    return (
        f"{name:12}{cost.seconds:10.2f}{min(cost.samples):10.2f}{max(cost.samples):10.2f}"
        f"{cost.bytes_to_developer / 1e6:18.2f}{cost.bytes_to_hospital / 1e6:18.2f}"
    )
