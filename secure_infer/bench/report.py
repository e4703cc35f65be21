"""A benchmark as text for people."""

from collections import defaultdict

from secure_infer import _native
from secure_infer.bench.run import Bench, PhaseCost


def to_text(bench: Bench, *, layers: int = 12) -> str:
    """A summary, the sums over kinds of steps, and the `layers` most expensive steps online."""
    shape = "x".join(str(extent) for extent in bench.input_shape)
    memory = ", ".join(f"{who} {size:.0f} MiB" for who, size in bench.max_rss_mb.items())
    lines = [
        f"{bench.model}, input {shape}, {bench.relus / 1e6:.2f} M comparisons",
        f"OT engine {bench.ot_engine}, {bench.threads} thread(s) per party",
        f"instruction sets: {' '.join(_native.cpu_features())}",
        "",
        f"{'':12}{'seconds':>10}{'MB to developer':>18}{'MB to hospital':>18}",
        _phase("setup", bench.setup),
        _phase("offline", bench.offline),
        _phase("online", bench.online),
        f"{'total':12}{bench.total_seconds:10.2f}",
        f"{'TensorFlow':12}{bench.plaintext_seconds:10.2f}",
        "",
        f"peak memory: {memory}",
        f"logit error: largest {bench.logit_error.max_abs:.4f}, rms {bench.logit_error.rms:.4f}",
        "",
        *_kinds(bench),
        "",
        f"{'slowest steps online':44}{'offline s':>11}{'online s':>11}{'online MB':>11}",
    ]
    slowest = sorted(bench.per_layer, key=lambda layer: -layer.online_seconds)[:layers]
    lines += [
        f"{layer.name[:44]:44}{layer.offline_seconds:11.3f}{layer.online_seconds:11.3f}"
        f"{layer.online_bytes / 1e6:11.2f}"
        for layer in slowest
    ]
    return "\n".join(lines)


def _phase(name: str, cost: PhaseCost) -> str:
    return (
        f"{name:12}{cost.seconds:10.2f}{cost.bytes_to_developer / 1e6:18.2f}"
        f"{cost.bytes_to_hospital / 1e6:18.2f}"
    )


def _kinds(bench: Bench) -> list[str]:
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
