"""Networks between the parties of a benchmark: two hosts on this machine and a link of known rate and delay.

Each host is a network namespace without a name: it lives as long as the processes in it, so nothing is left
behind however the benchmark ends. Where the kernel has netem, a veth pair joins them and netem shapes both of
its ends; elsewhere `secure_infer.bench.link` carries the packets. No packet leaves the two namespaces.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, Final, Self

from secure_infer.bench.result import LinkQuality, Network
from secure_infer.errors import OptionError
from secure_infer.runtime.local import Host

LOOPBACK: Final = "loopback"


@dataclass(frozen=True)
class Profile:
    """A link, the same in both directions.

    Attributes
    ----------
    mbit : float
        Rate each way, Mbit/s.
    round_trip_ms : float
        Of an empty link.
    """

    mbit: float
    round_trip_ms: float

    @property
    def queue_bytes(self) -> int:
        """In front of the wire: what is under way during a round trip, and some bursts."""
        return int(self.mbit * self.round_trip_ms * 125) + 256_000


#: By name; loopback is the machine's own and isn't shaped.
NETWORKS: Final[dict[str, Profile | None]] = {
    LOOPBACK: None,
    "lan": Profile(mbit=1000, round_trip_ms=1),
    "wan": Profile(mbit=100, round_trip_ms=20),
}

#: Of a network that exists in two namespaces only.
_ADDRESSES: Final = {"developer": "10.77.0.1", "hospital": "10.77.0.2"}
#: Of the namespace that looks.
_TCP: Final = "/proc/sys/net/ipv4"
_FAREWELL_S: Final = 5.0
_PROGRAMS: Final = ("unshare", "nsenter", "ip")


@dataclass(frozen=True)
class Link:
    """A network that stands.

    Attributes
    ----------
    developer, hospital : Host
        Its ends.
    report : callable
        Describes it, and what it took since it was measured.
    """

    developer: Host
    hospital: Host
    report: Callable[[], Network]


def check_network(name: str) -> None:
    """Find early what `connected` would stumble over.

    Raises
    ------
    OptionError
        For a name that isn't one of `NETWORKS`, or a program that isn't installed.
    """
    if name not in NETWORKS:
        raise OptionError("network", expected=" or ".join(NETWORKS), got=name)
    if NETWORKS[name] is None:
        return
    for program in _PROGRAMS:
        if _found(program) is None:
            raise OptionError(
                f"network {name}", expected=f"the program {program} (util-linux, iproute2)", got="none"
            )
    if os.geteuid() != 0:
        raise OptionError(
            f"network {name}", expected="root, who may make network namespaces", got="another user"
        )


@contextmanager
def connected(
    name: str, progress: Callable[[str, int, int], None] | None = None, profile: Profile | None = None
) -> Iterator[Link]:
    """Two hosts with a link between them, measured; everything is gone afterwards.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    progress : callable, optional
        Called with what is being done, how much is done, and how much there is to do.
    profile : Profile, optional
        None for the one of this name.

    Raises
    ------
    OptionError
        For what this machine doesn't have or allow.
    """
    check_network(name)
    profile = profile or NETWORKS[name]
    if profile is None:
        yield Link(Host(), Host(), lambda: Network(name))
        return
    if progress is not None:
        progress("network", 0, 1)
    with ExitStack() as stack:
        developer = stack.enter_context(Namespace("developer"))
        hospital = stack.enter_context(Namespace("hospital"))
        has_netem = _has_netem(developer)
        wire = None if has_netem else stack.enter_context(Wire(developer, profile))
        if wire is None:
            _join_by_veth(developer, hospital)
        _address(developer, hospital)
        if wire is None:
            _shape(developer, hospital, profile)
        quality = _measure(developer, hospital)
        before = wire.spent() if wire else {}

        def report() -> Network:
            spent = wire.spent() if wire else {}
            return Network(
                name=name,
                shaper="user-space" if wire else "netem",
                mbit=profile.mbit,
                round_trip_ms=profile.round_trip_ms,
                congestion_control=developer.run("cat", f"{_TCP}/tcp_congestion_control").strip(),
                measured=quality,
                link_cpu_seconds=spent["cpu_seconds"] - before["cpu_seconds"] if wire else None,
                dropped_packets=spent["dropped"] - before["dropped"] if wire else None,
            )

        yield Link(developer.host, hospital.host, report)


class _Child:
    """A process that leaves when its standard input ends; a context manager that waits for it.

    Its own session keeps the terminal's Ctrl-C from it: this process ends it in the right order.
    """

    def __init__(self, what: str, command: Sequence[str]) -> None:
        self._what = what
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _pipe(self.process.stdin).close()
        try:
            self.process.wait(_FAREWELL_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            _pipe(pipe).close()

    def line(self) -> str:
        """The next line of its standard output.

        Raises
        ------
        OptionError
            With its last words, if it has ended instead.
        """
        line = _pipe(self.process.stdout).readline()
        if line:
            return line.strip()
        words = _pipe(self.process.stderr).read().strip().splitlines()
        with self:
            raise OptionError(self._what, expected="it to start", got=words[-1] if words else "its end")


class Namespace(_Child):
    """A network namespace, held by a process that only waits."""

    def __init__(self, role: str) -> None:
        self.role = role
        command = ["unshare", "--net", "sh", "-c", "echo ready; exec cat"]
        super().__init__(f"network namespace of the {role}", command)
        self.line()
        self.enter = ("nsenter", f"--net=/proc/{self.process.pid}/ns/net", "--")
        self.host = Host(_ADDRESSES[role], self.enter)

    def run(self, *command: str) -> str:
        """What a command says in the namespace.

        Raises
        ------
        OptionError
            With its last words, if it fails.
        """
        done = self._run(command)
        if done.returncode:
            words = done.stderr.strip().splitlines()
            raise OptionError(
                f"network of the {self.role}",
                expected=f"'{' '.join(command)}' to work",
                got=words[-1] if words else f"status {done.returncode}",
            )
        return done.stdout

    def tries(self, *command: str) -> bool:
        """Whether a command works in the namespace."""
        return self._run(command).returncode == 0

    def _run(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*self.enter, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )


class Wire(_Child):
    """The link in user space. Its devices, named for the roles, are made in a namespace."""

    def __init__(self, namespace: Namespace, profile: Profile) -> None:
        wanted = {
            "devices": list(_ADDRESSES),
            "bits_per_second": profile.mbit * 1e6,
            "delay_s": profile.round_trip_ms / 2e3,
            "queue_bytes": profile.queue_bytes,
        }
        command = [*namespace.enter, sys.executable, "-m", "secure_infer.bench.link", json.dumps(wanted)]
        super().__init__("link by TUN devices, for want of netem", command)
        self.line()

    def spent(self) -> dict[str, Any]:
        """Its processor seconds, packets, bytes and drops so far."""
        pipe = _pipe(self.process.stdin)
        pipe.write("\n")
        pipe.flush()
        spent: dict[str, Any] = json.loads(self.line())
        return spent


def _found(program: str) -> str | None:
    # Where administrators' programs are isn't on everybody's path.
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


def _has_netem(namespace: Namespace) -> bool:
    on_loopback = ("dev", "lo", "root")
    if _found("tc") is None or not namespace.tries(
        "tc", "qdisc", "add", *on_loopback, "netem", "delay", "1ms"
    ):
        return False
    namespace.run("tc", "qdisc", "delete", *on_loopback)
    return True


def _join_by_veth(developer: Namespace, hospital: Namespace) -> None:
    peer = ["peer", "name", hospital.role, "netns", str(hospital.process.pid)]
    developer.run("ip", "link", "add", developer.role, "type", "veth", *peer)


def _address(developer: Namespace, hospital: Namespace) -> None:
    """Give each host its device and address, loopback, and a TCP that begins alike in every run."""
    if developer.tries("ip", "link", "show", hospital.role):  # TUN devices are born together
        developer.run("ip", "link", "set", hospital.role, "netns", str(hospital.process.pid))
    for host in (developer, hospital):
        host.run("ip", "address", "add", f"{_ADDRESSES[host.role]}/30", "dev", host.role)
        host.run("ip", "link", "set", host.role, "up")
        host.run("ip", "link", "set", "lo", "up")
        # What TCP learns from the measurement must not help the parties.
        host.run("sh", "-c", f"echo 1 > {_TCP}/tcp_no_metrics_save")


def _shape(developer: Namespace, hospital: Namespace, profile: Profile) -> None:
    packets = 2 * profile.queue_bytes // 1500
    delay, rate = f"{profile.round_trip_ms / 2}ms", f"{profile.mbit}mbit"
    for host in (developer, hospital):
        netem = ["netem", "delay", delay, "rate", rate, "limit", str(packets)]
        host.run("tc", "qdisc", "add", "dev", host.role, "root", *netem)


def _measure(developer: Namespace, hospital: Namespace) -> LinkQuality:
    probe = [sys.executable, "-m", "secure_infer.bench.probe"]
    address = developer.host.address
    with _Child("measurement of the link", [*developer.enter, *probe, "serve", address]) as server:
        port = server.line()
        said = json.loads(hospital.run(*probe, "call", address, port))
    return LinkQuality(said["round_trip_ms"], said["mbit_up"], said["mbit_down"])


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe
