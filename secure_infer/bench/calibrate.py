"""Fits the cost model's coefficients to this machine: ``blindread bench --calibrate``.

Small networks (`calibration_networks`) run between two real parties, one core each, with both OT engines.
For each step it is known how much of each kind of work is in it, and measured what each party took of its
core: non-negative least squares give the seconds a unit. A network runs more than once and the shortest time
of each step counts, since whatever disturbs a run can only lengthen it. Bytes through TLS are measured alone,
because in every network they come in the same proportion to other work. At last it is fitted how the two
parties meet, from the faster run of each network, see `secure_infer.runtime.timing`.
"""

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import secure_infer
from secure_infer import _native
from secure_infer.bench.cache import cache_root
from secure_infer.bench.calibration_networks import NETWORKS, write
from secure_infer.bench.machine import this_machine
from secure_infer.bench.rates import tls_rates
from secure_infer.errors import SecureInferError
from secure_infer.runtime.cost import StepPrediction, predict
from secure_infer.runtime.endpoint import OT_ENGINES
from secure_infer.runtime.local import LocalRun, run_local
from secure_infer.runtime.program import Linear, Program
from secure_infer.runtime.timing import (
    KINDS,
    Coefficients,
    Units,
    built_in,
    busy,
    key,
    meeting,
    timing,
    units,
)
from secure_infer.runtime.work import PARTIES, PHASES, Party, Phase

Progress = Callable[[str, int, int], None]
Float64 = NDArray[np.float64]

FILE: Final = "calibration.json"
#: Images of a run, enough that the first one, in fresh memory, hardly counts; and runs of which the shortest
#: step counts.
IMAGES: Final = 5
RUNS: Final = 2
#: A load that leaves one of two cores to somebody else: how the parties meet can't be told then.
_BUSY: Final = 0.7
_TLS_KINDS: Final = {"sent_bytes", "received_bytes"}


@dataclass(frozen=True)
class Sample:
    """One step of one party: `units` of work took `seconds` of its core."""

    phase: Phase
    party: Party
    engine: str
    units: Units
    seconds: float


@dataclass(frozen=True)
class Meeting:
    """Some steps of both parties in a row.

    Attributes
    ----------
    slower, faster : float
        Seconds of work of the slower party of each step, and of the faster one, summed up.
    rounds : float
        Per image.
    seconds : float
        From the first step's beginning to the last one's end.
    """

    phase: Phase
    engine: str
    slower: float
    faster: float
    rounds: float
    seconds: float


@dataclass(frozen=True)
class Residual:
    """What the fitted model makes of a network that it was fitted to, seconds per image."""

    network: str
    engine: str
    phase: Phase
    measured: float
    predicted: float


def calibration_file(root: Path | None = None) -> Path:
    """Where this machine's coefficients are kept."""
    return (root or cache_root()) / FILE


def coefficients(root: Path | None = None) -> Coefficients:
    """Those of this machine, or the built-in ones when nobody has calibrated (see `Coefficients.about`).

    Raises
    ------
    RuntimeFailure
        When the file is damaged.
    """
    path = calibration_file(root)
    return Coefficients.from_json(path.read_bytes()) if path.exists() else built_in()


def calibrate(root: Path | None = None, *, progress: Progress | None = None) -> Coefficients:
    """Measure this machine, fit, and write the file; takes about a minute on an idle machine.

    Parameters
    ----------
    root : Path, optional
        The cache's folder; None for `cache_root`.
    progress : callable, optional
        Called with what is being done, how much is done, and how much there is to do.

    Raises
    ------
    SecureInferError
        What either party raised.
    """
    tell = progress or (lambda _what, _done, _total: None)
    tell("rates", 0, 1)
    seconds_per_byte = {kind: 1 / rate for kind, rate in tls_rates().items()}
    samples: list[Sample] = []
    meetings: list[Meeting] = []
    measured: list[tuple[str, str, Program, LocalRun]] = []
    with tempfile.TemporaryDirectory(prefix="blindread-") as name:
        for place, network in enumerate(NETWORKS):
            path = Path(name) / f"{network}.bundle"
            program = write(network, path)
            for turn, engine in enumerate(OT_ENGINES):
                tell("calibrate", len(OT_ENGINES) * place + turn, len(OT_ENGINES) * len(NETWORKS))
                runs = [_run(path, program, engine) for _ in range(RUNS)]
                more = observations(
                    program, engine, [(run.stats, run.developer_stats) for run in runs], IMAGES
                )
                samples += more[0]
                meetings += more[1]
                measured += [(network, engine, program, run) for run in runs]
    made = fit(samples, meetings, seconds_per_byte)
    machine = {
        **asdict(this_machine()),
        "version": secure_infer.__version__,
        "protocol_version": _native.PROTOCOL_VERSION,
        "threads": 1,
    }
    fitted = Coefficients(made.seconds, made.overlap, made.round_trip, machine, "measured on this machine")
    residuals = [asdict(one) for one in _residuals(fitted, measured)]
    complete = Coefficients(
        fitted.seconds, fitted.overlap, fitted.round_trip, machine, fitted.about, {"residuals": residuals}
    )
    path = calibration_file(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(complete.to_json(), indent=1) + "\n")
    draft.replace(path)
    return complete


def _run(path: Path, program: Program, engine: str) -> LocalRun:
    channels, height, width = program.input_value.shape
    picture = np.zeros((height, width) if channels == 1 else (height, width, channels), np.float32)
    return run_local(path, [picture] * IMAGES, threads=1, ot_engine=engine)


def observations(
    program: Program, engine: str, runs: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], images: int
) -> tuple[list[Sample], list[Meeting]]:
    """What runs of one program tell, per image.

    Parameters
    ----------
    program : Program
    engine : str
    runs : sequence of (dict, dict)
        Statistics of hospital and developer over all images of a run, see `HospitalClient.stats`.
    images : int
        Of every run.
    """
    tickets = [predict(program, engine, ticket=ticket).steps for ticket in range(1, images + 1)]
    samples, meetings = [], []
    for phase in PHASES:
        steps = [_steps(run, phase) for run in runs]
        # As it was, of the run that was disturbed least: the shortest of every step would be nobody's run.
        fastest = min((run[0] for run in steps), key=lambda run: sum(one["seconds"] for one in run.values()))
        rows: list[tuple[float, float, float, float]] = []
        for index, step in enumerate(program.steps):
            predicted = [ticket[index] for ticket in tickets]
            both = []
            for role, party in enumerate(PARTIES):
                found = _mean([units(program, step, one, phase, party) for one in predicted])
                took = min(run[role].get(step.name, {}).get("cpu_seconds", 0.0) for run in steps) / images
                both.append(took)
                samples.append(Sample(phase, party, engine, found, took))
            elapsed = fastest.get(step.name, {}).get("seconds", 0.0) / images
            rounds = sum(_rounds(one, phase) for one in predicted) / images
            row = (max(both), min(both), rounds, elapsed)
            # A party that waits in a step may wait for what the other one still does in the step before: a
            # layer is counted together with what follows it.
            if isinstance(step, Linear) or not rows:
                rows.append(row)
            else:
                before = rows[-1]
                rows[-1] = (before[0] + row[0], before[1] + row[1], before[2] + row[2], before[3] + row[3])
        meetings += [Meeting(phase, engine, *row) for row in rows]
    return samples, meetings


def _steps(
    run: tuple[Mapping[str, Any], Mapping[str, Any]], phase: Phase
) -> tuple[dict[str, Mapping[str, float]], ...]:
    return tuple({step["name"]: step for step in party[phase]["steps"]} for party in run)


def _rounds(predicted: StepPrediction, phase: Phase) -> int:
    return predicted.offline_rounds if phase == "offline" else predicted.rounds


def _mean(several: Sequence[Units]) -> Units:
    names = {name for one in several for name in one}
    return {name: sum(one.get(name, 0.0) for one in several) / len(several) for name in names}


def fit(
    samples: Iterable[Sample], meetings: Iterable[Meeting], seconds_per_byte: Mapping[str, float]
) -> Coefficients:
    """Coefficients from measurements.

    Parameters
    ----------
    samples, meetings
        See `observations`.
    seconds_per_byte : dict
        Of ``sent_bytes`` and ``received_bytes``; taken as they are.
    """
    by_key: dict[str, list[Sample]] = {}
    for sample in samples:
        by_key.setdefault(key(sample.phase, sample.party, sample.engine), []).append(sample)
    seconds = {name: _fit_units(several, seconds_per_byte) for name, several in by_key.items()}
    by_meeting: dict[str, list[Meeting]] = {}
    for one in meetings:
        by_meeting.setdefault(meeting(one.phase, one.engine), []).append(one)
    fitted = {name: _fit_meetings(several) for name, several in by_meeting.items()}
    return Coefficients(
        seconds,
        {name: one[0] for name, one in fitted.items()},
        {name: one[1] for name, one in fitted.items()},
        {},
        "",
    )


def _fit_units(samples: Sequence[Sample], seconds_per_byte: Mapping[str, float]) -> dict[str, float]:
    kinds = [
        kind for kind in KINDS if kind not in _TLS_KINDS and any(kind in sample.units for sample in samples)
    ]
    rows = np.array([[sample.units.get(kind, 0.0) for kind in kinds] for sample in samples])
    rest = np.array([sample.seconds - busy(sample.units, seconds_per_byte) for sample in samples])
    weights = _weights([sample.seconds for sample in samples])
    found = non_negative(rows * weights[:, None], rest * weights)
    return {kind: float(value) for kind, value in zip(kinds, found, strict=True)} | dict(seconds_per_byte)


def _fit_meetings(meetings: Sequence[Meeting]) -> tuple[float, float]:
    rows = np.array([[one.faster, one.rounds] for one in meetings], np.float64)
    rest = np.array([one.seconds - one.slower for one in meetings])
    weights = _weights([one.seconds for one in meetings])
    overlap, round_trip = non_negative(rows * weights[:, None], rest * weights)
    if overlap > 1:
        overlap, (round_trip,) = (
            1.0,
            non_negative(rows[:, 1:] * weights[:, None], (rest - rows[:, 0]) * weights),
        )
    return float(overlap), float(round_trip)


def _weights(seconds: Sequence[float]) -> Float64:
    """Errors are taken to grow with the root of what is measured, as those of many independent parts do."""
    return 1 / np.sqrt(np.maximum(np.array(seconds, np.float64), 1e-4))


def non_negative(rows: Float64, targets: Float64) -> Float64:
    """Least squares over x >= 0, by active sets (Lawson, Hanson: Solving Least Squares Problems, ch. 23).

    Parameters
    ----------
    rows : float array [equations, unknowns]
    targets : float array [equations]

    Returns
    -------
    float array [unknowns]
    """
    scale = np.linalg.norm(rows, axis=0)
    scale[scale == 0] = 1.0
    scaled = rows / scale
    unknowns = scaled.shape[1]
    found, free = np.zeros(unknowns), np.zeros(unknowns, bool)
    for _ in range(3 * unknowns + 10):
        gradient = scaled.T @ (targets - scaled @ found)
        gradient[free] = -np.inf
        if free.all() or gradient.max() <= 1e-12 * np.abs(scaled.T @ targets).max(initial=0.0):
            break
        free[int(gradient.argmax())] = True
        while True:
            trial = np.zeros(unknowns)
            trial[free] = np.linalg.lstsq(scaled[:, free], targets, rcond=None)[0]
            bad = free & (trial <= 0)
            if not bad.any():
                break
            step = float((found[bad] / (found[bad] - trial[bad] + 1e-300)).min())
            found += step * (trial - found)
            free &= found > 1e-15
            found[~free] = 0.0
        found = trial
    return np.asarray(found / scale, np.float64)


def _residuals(
    fitted: Coefficients, measured: Sequence[tuple[str, str, Program, LocalRun]]
) -> Iterable[Residual]:
    for network, engine, program, run in measured:
        tickets = [
            timing(program, engine, coefficients=fitted, ticket=ticket) for ticket in range(1, IMAGES + 1)
        ]
        for phase in PHASES:
            spent = run.offline if phase == "offline" else run.online
            if spent is None:
                raise SecureInferError(f"{phase}: expected what it took, got nothing")
            predicted = sum(one.total(phase).seconds for one in tickets) / IMAGES
            yield Residual(network, engine, phase, spent.seconds / IMAGES, predicted)


def to_text(fitted: Coefficients) -> str:
    """What the fit found, and how far it is from what it was fitted to."""
    lines = []
    if fitted.machine.get("load_average", 0.0) > _BUSY:
        lines.append(
            f"load {fitted.machine['load_average']} before the start: calibrate again on an idle machine"
        )
    lines.append("nanoseconds a unit")
    for name, kinds in fitted.seconds.items():
        known = ", ".join(f"{kind} {1e9 * seconds:.3g}" for kind, seconds in kinds.items() if seconds)
        lines.append(f"  {name}: {known}")
    lines.append("part of the faster party's work that does not hide; microseconds of a round trip")
    lines += [
        f"  {name}: {fitted.overlap[name]:.2f}; {1e6 * fitted.round_trip[name]:.0f}"
        for name in fitted.overlap
    ]
    lines.append(f"{'network':10}{'engine':12}{'phase':10}{'measured s':>12}{'predicted s':>13}{'ratio':>8}")
    for one in fitted.fit["residuals"]:
        ratio = one["predicted"] / one["measured"]
        lines.append(
            f"{one['network']:10}{one['engine']:12}{one['phase']:10}{one['measured']:12.3f}"
            f"{one['predicted']:13.3f}{ratio:8.2f}"
        )
    return "\n".join(lines)
