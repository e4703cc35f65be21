"""One benchmark: both parties on this machine, one core each, against TensorFlow on one core."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secure_infer import _native
from secure_infer.bench.cache import cached
from secure_infer.bench.child import BUNDLE, side
from secure_infer.bench.machine import this_machine
from secure_infer.bench.network import LOOPBACK, check_network, connected
from secure_infer.bench.phantoms import phantoms
from secure_infer.bench.rates import machine_rates, tls_rates
from secure_infer.bench.result import Bench, BundleCost, LayerCost, LogitError, PhaseCost
from secure_infer.bench.roofline import Roofline, roofline
from secure_infer.bench.throughput import throughput_of
from secure_infer.bundle import HospitalBundle
from secure_infer.errors import CompileError, OptionError
from secure_infer.runtime.endpoint import OT_OPTIONS
from secure_infer.runtime.local import ImageCost, LocalRun, Phase, run_local

#: From so many images on, throughput is measured unless the caller says otherwise.
MANY: Final = 10
#: Tickets of a filled pool; one of DenseNet-121 at 320 takes some 0.7 GB of each party's memory.
POOL: Final = 3

Progress = Callable[[str, int, int], None]
Float64 = NDArray[np.float64]


def run_bench(
    model: str = "densenet121-320",
    *,
    threads: int = 1,
    ot_engine: str = "softspoken",
    images: int = 5,
    pool: int | None = None,
    throughput: bool | None = None,
    network: str = LOOPBACK,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Bench:
    """Measure a benchmark network, compiling it first unless the cache has it.

    Parameters
    ----------
    model : str
        Such as ``densenet121-320``, see `secure_infer.compiler.frontends.benchmark_models`.
    threads : int
        Cores of each party.
    ot_engine : str
        One of `secure_infer.runtime.endpoint.OT_OPTIONS`; the result has the engine that it came to.
    images : int
        Over which medians are taken; each uses up a ticket.
    pool : int, optional
        Tickets that are made before the first image; None for 1, or `POOL` where throughput is measured.
    throughput : bool, optional
        Whether to say how many images an hour are answered; None for: where there are `MANY` or more.
    network : str
        One of `secure_infer.bench.network.NETWORKS`.
    cache : Path, optional
        None for the user's.
    progress : callable, optional
        Called with what is being done, how much is done, and how much there is to do.

    Raises
    ------
    OptionError
        For what can't be measured, or not on this machine.
    SecureInferError
        What either party raised.
    """
    if ot_engine not in OT_OPTIONS:
        raise OptionError("OT engine", expected=" or ".join(OT_OPTIONS), got=ot_engine)
    if min(threads, images) < 1:
        raise OptionError("threads and images", expected="at least 1", got=min(threads, images))
    with_rates = images >= MANY if throughput is None else throughput
    tickets = pool if pool is not None else POOL if with_rates else 1
    if tickets < 1:
        raise OptionError("pool", expected="at least 1", got=tickets)
    if with_rates and images <= tickets:
        raise OptionError("images", expected=f"more than the pool's {tickets} to drain it", got=images)
    check_network(network)
    tell = progress or (lambda _what, _done, _total: None)
    tell("compile", 0, 1)
    folder = cached(model, lambda draft: _make(model, draft), cache)
    pictures = phantoms(images, side(model))
    machine = this_machine()
    with connected(network, tell) as link:
        run = run_local(
            folder / BUNDLE,
            pictures,
            threads=threads,
            ot_engine=ot_engine,
            pool=tickets,
            developer_host=link.developer,
            hospital_host=link.hospital,
            progress=tell,
        )
        between = link.report()
    tell("plaintext", 0, 1)
    plain = _time_plain(folder, pictures)
    bundle = HospitalBundle.open(folder / BUNDLE)
    secure = np.array([answer.logits for answer in run.answers])
    # The secure backend has them all.
    assert run.load_seconds is not None
    assert run.setup is not None
    assert run.link is not None
    return Bench(
        model=model,
        input_shape=bundle.program.input_value.shape,
        threads=threads,
        ot_engine=run.link.ot_engine,
        images=images,
        pool=tickets,
        relus=bundle.program.totals().comparisons,
        machine=machine,
        network=between,
        bundle=BundleCost(_native.hints_len(bundle.program_json), run.load_seconds),
        setup=_median([run.setup]),
        offline=_median([image.offline for image in run.images]),
        online=_median([image.online for image in run.images]),
        total_seconds=median(image.offline.seconds + image.online.seconds for image in run.images),
        max_rss_mb=run.max_rss_mb,
        logit_error=_logit_error(secure, plain["outputs"], bundle),
        plaintext_seconds=median(plain["seconds"]),
        throughput=throughput_of(run.images, tickets) if with_rates else None,
        per_layer=_layers(run.images),
        roofline=_roofline(bundle, run.link.ot_engine, run, tell) if threads == 1 else None,
        link=run.link,
    )


def _roofline(bundle: HospitalBundle, ot_engine: str, run: LocalRun, tell: Progress) -> Roofline:
    tell("rates", 0, 1)
    rates = machine_rates() | tls_rates()
    spent = {"hospital": run.stats, "developer": run.developer_stats}
    return roofline(bundle.program, ot_engine, spent, len(run.images), rates)


def _median(phases: Sequence[Phase]) -> PhaseCost:
    return PhaseCost(
        seconds=median(phase.seconds for phase in phases),
        bytes_to_developer=round(median(phase.bytes_to_developer for phase in phases)),
        bytes_to_hospital=round(median(phase.bytes_to_hospital for phase in phases)),
        round_trips=round(median(phase.round_trips for phase in phases)),
        samples=tuple(phase.seconds for phase in phases),
    )


def _layers(images: Sequence[ImageCost]) -> tuple[LayerCost, ...]:
    offline = [{step["name"]: step for step in image.offline_steps} for image in images]
    online = [{step["name"]: step for step in image.online_steps} for image in images]

    def middle(costs: list[dict[str, dict[str, Any]]], name: str, *keys: str) -> float:
        return float(median(sum(cost[name][key] for key in keys) if name in cost else 0 for cost in costs))

    traffic = ("bytes_sent", "bytes_received")
    return tuple(
        LayerCost(
            name=name,
            op=step["op"],
            offline_seconds=middle(offline, name, "seconds"),
            online_seconds=middle(online, name, "seconds"),
            offline_bytes=round(middle(offline, name, *traffic)),
            online_bytes=round(middle(online, name, *traffic)),
            online_round_trips=round(middle(online, name, "round_trips")),
        )
        for name, step in online[0].items()
    )


def _logit_error(secure: Float64, plain: list[list[float]], bundle: HospitalBundle) -> LogitError:
    """Logits are recovered from the model's outputs; a softmax tells them up to a constant only."""
    outputs = np.array(plain, np.float64)
    activation = bundle.findings[0].activation
    if activation == "sigmoid":
        error = secure - (np.log(outputs) - np.log1p(-outputs))
    elif activation == "softmax":
        error = secure - np.log(outputs)
        error -= error.mean(axis=1, keepdims=True)
    else:
        error = secure - outputs
    return LogitError(float(np.abs(error).max()), float(np.sqrt((error**2).mean())))


def _make(model: str, folder: Path) -> None:
    _child({"work": "make", "model": model, "folder": str(folder)}, one_thread=False)


def _time_plain(folder: Path, pictures: list[NDArray[np.float32]]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="blindread-") as name:
        path = Path(name) / "pictures.npy"
        np.save(path, np.array(pictures), allow_pickle=False)
        core = min(os.sched_getaffinity(0))
        wanted = {"work": "time", "folder": str(folder), "pictures": str(path), "core": core}
        return _child(wanted, one_thread=True)


def _child(wanted: dict[str, Any], *, one_thread: bool) -> dict[str, Any]:
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    threads = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    single = dict.fromkeys(threads, "1") if one_thread else {}
    with tempfile.TemporaryDirectory(prefix="blindread-") as name:
        settings, result = Path(name) / "settings.json", Path(name) / "result.json"
        settings.write_text(json.dumps({**wanted, "result": str(result)}))
        done = subprocess.run(
            [sys.executable, "-m", "secure_infer.bench.child", str(settings)],
            env={**os.environ, **quiet, **single},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode or not result.exists():
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise CompileError("benchmark network", expected=f"to {wanted['work']} it", got=last)
        answer: dict[str, Any] = json.loads(result.read_text())
        return answer
