"""One benchmark: both parties on this machine, one core each, against TensorFlow on one core."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_infer.bench.cache import cached
from secure_infer.bench.child import BUNDLE, side
from secure_infer.bench.phantoms import phantoms
from secure_infer.bundle import HospitalBundle
from secure_infer.errors import CompileError, OptionError
from secure_infer.runtime.endpoint import OT_ENGINES
from secure_infer.runtime.local import LocalRun, Phase, run_local

Progress = Callable[[str, int, int], None]
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class PhaseCost:
    """Per picture; setup once per connection. Bytes are those of messages, without TLS."""

    seconds: float
    bytes_to_developer: int
    bytes_to_hospital: int


@dataclass(frozen=True)
class LayerCost:
    """One step of the program, per picture, as the hospital saw it (waiting for the developer included)."""

    name: str
    op: str
    offline_seconds: float
    online_seconds: float
    offline_bytes: int
    online_bytes: int
    online_round_trips: int


@dataclass(frozen=True)
class LogitError:
    """Against the float model: over all logits of all pictures."""

    max_abs: float
    rms: float


@dataclass(frozen=True)
class Bench:
    """The result; `to_json` has the same names.

    Attributes
    ----------
    relus : int
        Comparisons of one picture.
    setup : PhaseCost
        TLS, hello and base OTs.
    offline : PhaseCost
        From an empty ticket pool to one ready ticket.
    online : PhaseCost
        From the pixels in the hospital's hands to its logits.
    total_seconds : float
        Offline and online.
    max_rss_mb : dict
        Peak memory of each party, MiB.
    plaintext_seconds : float
        TensorFlow on one core, per picture, in the same run.
    """

    model: str
    input_shape: tuple[int, ...]
    threads: int
    ot_engine: str
    relus: int
    setup: PhaseCost
    offline: PhaseCost
    online: PhaseCost
    total_seconds: float
    max_rss_mb: dict[str, float]
    logit_error: LogitError
    plaintext_seconds: float
    per_layer: tuple[LayerCost, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def run_bench(
    model: str = "densenet121-320",
    *,
    threads: int = 1,
    ot_engine: str = "softspoken",
    images: int = 1,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Bench:
    """Measure a benchmark network, compiling it first unless the cache has it.

    Parameters
    ----------
    model : str
        Such as ``densenet121-320``, see `secure_infer.compiler.frontends.benchmark_models`.
    threads : int
        Cores of each party; the protocol itself uses one.
    ot_engine : str
        One of `secure_infer.runtime.endpoint.OT_ENGINES`.
    images : int
        Pictures to average over; each uses up a ticket.
    cache : Path, optional
        None for the user's.
    progress : callable, optional
        Called with what is being done, how much is done, and how much there is to do.

    Raises
    ------
    OptionError
        For what can't be measured.
    SecureInferError
        What either party raised.
    """
    if ot_engine not in OT_ENGINES:
        raise OptionError("OT engine", expected=" or ".join(OT_ENGINES), got=ot_engine)
    if threads < 1 or images < 1:
        raise OptionError("threads and images", expected="at least 1", got=min(threads, images))
    tell = progress or (lambda _what, _done, _total: None)
    tell("compile", 0, 1)
    folder = cached(model, lambda draft: _make(model, draft), cache)
    pictures = phantoms(images, side(model))
    run = run_local(folder / BUNDLE, pictures, threads=threads, ot_engine=ot_engine, progress=tell)
    tell("plaintext", 0, 1)
    plain = _time_plain(folder, pictures)
    bundle = HospitalBundle.open(folder / BUNDLE)
    secure = np.array([answer.logits for answer in run.answers])
    return _result(
        model, threads, ot_engine, bundle, run, _logit_error(secure, plain, bundle), plain["seconds"]
    )


def _result(
    model: str,
    threads: int,
    ot_engine: str,
    bundle: HospitalBundle,
    run: LocalRun,
    logit_error: LogitError,
    plaintext_seconds: float,
) -> Bench:
    images = len(run.answers)
    # The secure backend has them all.
    assert run.setup is not None
    assert run.offline is not None
    assert run.online is not None
    offline, online = _per_picture(run.offline, images), _per_picture(run.online, images)
    return Bench(
        model=model,
        input_shape=bundle.program.input_value.shape,
        threads=threads,
        ot_engine=ot_engine,
        relus=bundle.program.totals().comparisons,
        setup=_per_picture(run.setup, 1),
        offline=offline,
        online=online,
        total_seconds=offline.seconds + online.seconds,
        max_rss_mb=run.max_rss_mb,
        logit_error=logit_error,
        plaintext_seconds=plaintext_seconds,
        per_layer=_layers(run.stats, images),
    )


def _per_picture(phase: Phase, images: int) -> PhaseCost:
    return PhaseCost(
        phase.seconds / images, phase.bytes_to_developer // images, phase.bytes_to_hospital // images
    )


def _layers(stats: dict[str, Any], images: int) -> tuple[LayerCost, ...]:
    offline = {step["name"]: step for step in stats["offline"]["steps"]}
    layers = []
    for step in stats["online"]["steps"]:
        before = offline.get(step["name"], {"seconds": 0.0, "bytes_sent": 0, "bytes_received": 0})
        layers.append(
            LayerCost(
                name=step["name"],
                op=step["op"],
                offline_seconds=before["seconds"] / images,
                online_seconds=step["seconds"] / images,
                offline_bytes=(before["bytes_sent"] + before["bytes_received"]) // images,
                online_bytes=(step["bytes_sent"] + step["bytes_received"]) // images,
                online_round_trips=step["round_trips"] // images,
            )
        )
    return tuple(layers)


def _logit_error(secure: Float64, plain: dict[str, Any], bundle: HospitalBundle) -> LogitError:
    """Logits are recovered from the model's outputs; a softmax tells them up to a constant only."""
    outputs = np.array(plain["outputs"], np.float64)
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
