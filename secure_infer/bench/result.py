"""What a benchmark says; the names in its JSON are the names here."""

from dataclasses import asdict, dataclass
from typing import Any

from secure_infer.bench.roofline import Roofline
from secure_infer.runtime.hospital import Link


@dataclass(frozen=True)
class PhaseCost:
    """Per image; setup once per connection.

    Attributes
    ----------
    seconds : float
        Median.
    bytes_to_developer, bytes_to_hospital : int
        Median, of messages, without TLS.
    round_trips : int
        Median; how often the hospital sent something and then waited.
    samples : tuple of float
        Every image's seconds, in the order of the images.
    """

    seconds: float
    bytes_to_developer: int
    bytes_to_hospital: int
    round_trips: int
    samples: tuple[float, ...]


@dataclass(frozen=True)
class LayerCost:
    """One step of the program as the hospital saw it, waiting for the developer included: medians."""

    name: str
    op: str
    offline_seconds: float
    online_seconds: float
    offline_bytes: int
    online_bytes: int
    online_round_trips: int


@dataclass(frozen=True)
class LogitError:
    """Against the float model: over all logits of all images."""

    max_abs: float
    rms: float


@dataclass(frozen=True)
class BundleCost:
    """What a hospital needs once per model.

    Attributes
    ----------
    hints_bytes : int
        By far the largest file of its half of the bundle.
    load_seconds : float
        For checking that half and reading the hints; its transport isn't in it.
    """

    hints_bytes: int
    load_seconds: float


@dataclass(frozen=True)
class Machine:
    """Where it was measured.

    Attributes
    ----------
    cpu : str
        The processor's name.
    cores : int
        That this process may use.
    instruction_sets : tuple of str
        Those that the core can make use of.
    load_average : float
        Over the minute before the parties started: what else was going on.
    """

    cpu: str
    cores: int
    instruction_sets: tuple[str, ...]
    load_average: float


@dataclass(frozen=True)
class LinkQuality:
    """What one plain TCP connection got between the two hosts, before the parties started.

    Attributes
    ----------
    round_trip_ms : float
        Median of single bytes sent there and back.
    mbit_to_developer, mbit_to_hospital : float
        One direction at a time, after a warm-up.
    """

    round_trip_ms: float
    mbit_to_developer: float
    mbit_to_hospital: float


@dataclass(frozen=True)
class Network:
    """What lay between the parties.

    Attributes
    ----------
    name : str
        ``loopback``, ``lan`` or ``wan``.
    shaper : str
        ``none``, ``netem`` (the kernel's), or ``user-space`` (`secure_infer.bench.link`).
    mbit, round_trip_ms : float or None
        What was asked for, each way and there and back; None for loopback.
    congestion_control : str or None
        TCP's.
    measured : LinkQuality or None
        What the link gave.
    link_cpu_seconds : float or None
        What the user-space link took of the parties' cores while they ran.
    dropped_packets : int or None
        Of the parties', by the user-space link's full queue; TCP sends them again.
    """

    name: str
    shaper: str = "none"
    mbit: float | None = None
    round_trip_ms: float | None = None
    congestion_control: str | None = None
    measured: LinkQuality | None = None
    link_cpu_seconds: float | None = None
    dropped_packets: int | None = None


@dataclass(frozen=True)
class Rate:
    """How fast images followed one another.

    Attributes
    ----------
    images : int
    seconds : float
        From the beginning of the first to the end of the last.
    images_per_hour : float
    """

    images: int
    seconds: float
    images_per_hour: float


@dataclass(frozen=True)
class Throughput:
    """One connection, image after image; see `secure_infer.bench.throughput`.

    Attributes
    ----------
    filled : Rate
        Every image found a ticket in the pool.
    drained : Rate
        Every image waited for its own ticket.
    """

    filled: Rate
    drained: Rate


@dataclass(frozen=True)
class Bench:
    """The result; `to_json` has the same names.

    Attributes
    ----------
    images : int
        Over which medians are taken.
    pool : int
        Tickets that were ready before the first image.
    relus : int
        Comparisons of one image.
    setup : PhaseCost
        TLS, hello and base OTs.
    offline : PhaseCost
        From an empty ticket pool to one ready ticket; for the first `pool` tickets, to one more.
    online : PhaseCost
        From the pixels in the hospital's hands to its logits.
    total_seconds : float
        Median over the images of offline and online together.
    max_rss_mb : dict
        Peak memory of each party, MiB, with `pool` tickets.
    plaintext_seconds : float
        TensorFlow on one core, median per image, in the same run.
    throughput : Throughput or None
        None where it wasn't measured.
    roofline : Roofline or None
        What the arithmetic needs, what the machine can do; None with several threads a party.
    link : Link or None
        The OT engine, and what it was chosen by if that was left open.
    """

    model: str
    input_shape: tuple[int, ...]
    threads: int
    ot_engine: str
    images: int
    pool: int
    relus: int
    machine: Machine
    network: Network
    bundle: BundleCost
    setup: PhaseCost
    offline: PhaseCost
    online: PhaseCost
    total_seconds: float
    max_rss_mb: dict[str, float]
    logit_error: LogitError
    plaintext_seconds: float
    throughput: Throughput | None
    per_layer: tuple[LayerCost, ...]
    roofline: Roofline | None = None
    link: Link | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)
