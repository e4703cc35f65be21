"""What an inference will take in seconds: counts of work times what a unit of each kind takes on a machine.

One party, one step, one phase::

    busy = sum over kinds of work of (units * seconds per unit)

The kinds are in `units`; coefficients come from `secure_infer.bench.calibrate` or from `built_in`, for one
core of each party. How the parties meet, per step and phase::

    here    = max(busy H, busy D) + overlap * min(busy H, busy D) + round trips * loopback's round trip
    elapsed = max(here, bytes each way / bandwidth) + round trips * the link's round trip

- Offline both parties work on the same stripes of OTs, one behind the other, and linear layers don't wait
  for one another: the slower party decides, and `overlap` is the part of the faster one's work that doesn't
  hide behind it.
- Online the developer computes linear layers alone; in comparisons and wraps the lanes of a vector
  pass from one party to the other, so both work at the same time once the first lane has come back.
- Both directions of the link carry at the same time, and carry while the parties compute.

A connection's set-up is not in it: it takes tenths of a second.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

from secure_infer.errors import RuntimeFailure
from secure_infer.runtime.cost import Prediction, StepPrediction, Traffic, predict
from secure_infer.runtime.cost_vectors import chunk_index_bits, polynomials, wraps
from secure_infer.runtime.program import Linear, Program, Step
from secure_infer.runtime.steps import sources
from secure_infer.runtime.work import PARTIES, PHASES, Party, Phase

FORMAT: Final = "blindread.calibration"
VERSION: Final = 1
_BUILT_IN: Final = Path(__file__).with_name("timing_defaults.json")

#: Kinds of work; the unit is one of each, of bytes one byte.
KINDS: Final = (
    "tables",
    "randoms",
    "comparisons",
    "truncations",
    "seeds",
    "input_polynomials",
    "output_polynomials",
    "multiply_adds",
    "depthwise_multiply_adds",
    "words",
    "messages",
    "sent_bytes",
    "received_bytes",
)

Units = dict[str, float]


@dataclass(frozen=True)
class Link:
    """What lies between the parties.

    Attributes
    ----------
    name : str
    bits_per_second : float or None
        Each way; None for loopback, whose cost is in the parties' own seconds.
    round_trip_s : float
        On top of loopback's.
    """

    name: str = "loopback"
    bits_per_second: float | None = None
    round_trip_s: float = 0.0


@dataclass(frozen=True)
class Coefficients:
    """What a machine takes for a unit of each kind of work.

    Attributes
    ----------
    seconds : dict
        Key (see `key`) -> kind -> seconds a unit.
    overlap, round_trip : dict
        `meeting` -> part of the faster party's work that does not hide; seconds of a loopback round trip.
    machine : dict
        Where it was measured.
    about : str
        What these numbers are, for people.
    fit : dict
        What the numbers make of the measurements that they come from.
    """

    seconds: Mapping[str, Mapping[str, float]]
    overlap: Mapping[str, float]
    round_trip: Mapping[str, float]
    machine: Mapping[str, Any]
    about: str
    fit: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The content of a calibration file."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, text: str | bytes) -> "Coefficients":
        """Read a calibration file.

        Raises
        ------
        RuntimeFailure
            When it is another file, or another version's.
        """
        try:
            document = json.loads(text)
            if document.pop("format") != FORMAT or document.pop("version") != VERSION:
                raise ValueError("version")
            made = cls(**document)
            for engine in ("softspoken", "ferret"):
                for phase in PHASES:
                    float(made.overlap[meeting(phase, engine)])
                    float(made.round_trip[meeting(phase, engine)])
                    for party in PARTIES:
                        sum(made.seconds[key(phase, party, engine)].values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            wanted = f"{FORMAT} of version {VERSION}"
            raise RuntimeFailure("calibration", expected=wanted, got="something else") from error
        return made


@dataclass(frozen=True)
class PhaseTime:
    """One step in one phase, seconds.

    Attributes
    ----------
    hospital, developer : float
        In which each party works.
    link : float
        That the bytes take on the link, the fuller direction, and the link's round trips.
    seconds : float
        From the step's beginning to its end.
    """

    hospital: float
    developer: float
    link: float
    seconds: float

    def __add__(self, other: "PhaseTime") -> "PhaseTime":
        return PhaseTime(
            self.hospital + other.hospital,
            self.developer + other.developer,
            self.link + other.link,
            self.seconds + other.seconds,
        )


@dataclass(frozen=True)
class StepTime:
    """One step's seconds, beside its bytes and rounds."""

    step: StepPrediction
    offline: PhaseTime
    online: PhaseTime


@dataclass(frozen=True)
class Timing:
    """A whole program's seconds, in the order of its steps."""

    prediction: Prediction
    link: Link
    coefficients: Coefficients
    steps: tuple[StepTime, ...]

    def total(self, phase: Phase) -> PhaseTime:
        """Sum over the steps."""
        parts = (step.offline if phase == "offline" else step.online for step in self.steps)
        return sum(parts, PhaseTime(0, 0, 0, 0))


@cache
def built_in() -> Coefficients:
    """Measured on an AMD EPYC (AVX2, VAES-256): for machines that nobody has calibrated."""
    return Coefficients.from_json(_BUILT_IN.read_bytes())


def key(phase: Phase, party: Party, engine: str) -> str:
    """Of a party's coefficients; online they do not depend on the OT engine."""
    return f"offline.{party}.{engine}" if phase == "offline" else f"online.{party}"


def meeting(phase: Phase, engine: str) -> str:
    """Of what a phase has once for both parties."""
    return f"offline.{engine}" if phase == "offline" else "online"


def units(program: Program, step: Step, predicted: StepPrediction, phase: Phase, party: Party) -> Units:
    """How many of each kind of work a party does in a step; those that are none are left out.

    - ``tables``, ``randoms``: one-of-sixteen and one-of-two OTs, in either direction, when they are made;
      online ``tables`` are the look-ups, comparisons times chunks.
    - ``comparisons``, ``truncations``: multiplexers and wraps (those of extended ReLUs as well) with all else
      that belongs to each.
    - ``seeds``: of ferret's rounds, in either direction.
    - ``input_polynomials``, ``output_polynomials``: of the ring-LWE correlation.
    - ``multiply_adds``, ``depthwise_multiply_adds``: of convolutions; the latter with one channel a group.
    - ``words``: elements read and written by steps that only rearrange or add, and by linear layers.
    - ``messages``: of both parties, in which each of them has a part.
    """
    offline = phase == "offline"
    traffic = predicted.offline if offline else predicted.online
    hospital = party == "hospital"
    sent, received = traffic.to_developer / 8, traffic.to_hospital / 8
    found: Units = {
        "messages": predicted.offline_messages if offline else predicted.messages,
        "sent_bytes": sent if hospital else received,
        "received_bytes": received if hospital else sent,
    }
    if predicted.window is not None:
        found["comparisons"] = predicted.comparisons
        if not offline:
            found["tables"] = predicted.comparisons * len(chunk_index_bits(predicted.window))
    found["truncations"] = wraps(program, step)
    if offline:
        ots = predicted.from_hospital + predicted.from_developer
        found |= {"tables": ots.table, "randoms": ots.random, "seeds": ots.seeds}
    moved = _words(program, step)
    if isinstance(step, Linear):
        if offline:
            count = polynomials(program, step)
            found["output_polynomials"] = count.outputs
            found["input_polynomials"] = count.inputs if hospital else 0
        elif not hospital:
            depthwise = step.groups == program.values[step.source].shape[0] > 1
            found["depthwise_multiply_adds" if depthwise else "multiply_adds"] = predicted.multiply_adds
            found["words"] = moved
    elif predicted.window is None and hospital == offline:
        found["words"] = moved  # local steps: the hospital's offline, the developer's online
    return {kind: count for kind, count in found.items() if count}


def _words(program: Program, step: Step) -> int:
    read = sum(program.values[source].elements for source in sources(step))
    out = getattr(step, "out", None)
    return read + (program.values[out].elements if out is not None else 0)


def busy(found: Units, seconds: Mapping[str, float]) -> float:
    """Seconds for some work."""
    return sum(count * seconds.get(kind, 0.0) for kind, count in found.items())


def timing(
    program: Program,
    ot_engine: str = "softspoken",
    *,
    coefficients: Coefficients | None = None,
    link: Link | None = None,
    ticket: int = 1,
) -> Timing:
    """Predict the seconds of one inference, step by step.

    Parameters
    ----------
    program : Program
    ot_engine, ticket
        See `secure_infer.runtime.cost.predict`.
    coefficients : Coefficients, optional
        Of the machines; None for `built_in`.
    link : Link, optional
        None for loopback.

    Raises
    ------
    OptionError
        For an engine that there isn't.
    """
    prediction = predict(program, ot_engine, ticket=ticket)
    chosen, between = coefficients or built_in(), link or Link()
    steps = []
    for step, predicted in zip(program.steps, prediction.steps, strict=True):
        times = []
        for phase in PHASES:
            both = [
                busy(
                    units(program, step, predicted, phase, party),
                    chosen.seconds[key(phase, party, ot_engine)],
                )
                for party in PARTIES
            ]
            times.append(_phase_time(phase, predicted, both, chosen, meeting(phase, ot_engine), between))
        steps.append(StepTime(predicted, *times))
    return Timing(prediction, between, chosen, tuple(steps))


def _phase_time(
    phase: Phase,
    predicted: StepPrediction,
    both: list[float],
    coefficients: Coefficients,
    name: str,
    link: Link,
) -> PhaseTime:
    offline = phase == "offline"
    traffic = predicted.offline if offline else predicted.online
    rounds = predicted.offline_rounds if offline else predicted.rounds
    here = max(both) + coefficients.overlap[name] * min(both) + rounds * coefficients.round_trip[name]
    carrying, waiting = transfer_s(traffic, link), rounds * link.round_trip_s
    return PhaseTime(both[0], both[1], carrying + waiting, max(here, carrying) + waiting)


def transfer_s(traffic: Traffic, link: Link) -> float:
    """The fuller direction, for both carry at the same time."""
    if link.bits_per_second is None:
        return 0.0
    return max(traffic.to_developer, traffic.to_hospital) / link.bits_per_second
