"""Networks between the parties: the link's arithmetic, a real one with parties on it, and what it leaves."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from secure_infer.bench import network
from secure_infer.bench.link import Direction, wire_bytes
from secure_infer.bench.network import NETWORKS, Link, Namespace, Profile, check_network, connected
from secure_infer.errors import OptionError
from secure_infer.runtime.local import run_local
from tests.secure_infer.runtime.conftest import assert_plausible
from tests.tiny import Made


def why_not() -> str:
    """Why no network can be made here; empty if one can."""
    try:
        check_network("lan")
        with Namespace("developer"):
            return "" if Path("/dev/net/tun").exists() else "no /dev/net/tun"
    except OptionError as error:
        return str(error)


needs_network = pytest.mark.skipif(bool(why_not()), reason=why_not())

ROOT = Path(__file__).parents[3]
OWN = Path("/proc/self/ns/net").readlink()
#: Small numbers, so that a test sees the wire and not the machine.
SLOW = {"bits_per_second": 8000.0, "delay_s": 0.5, "queue_bytes": 2500.0}


class Ends:
    """A direction between two sockets that keep packets whole, as devices do."""

    def __init__(self) -> None:
        self.sender, source = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        target, self.receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._held = (source, target)
        for end in (source, target, self.receiver):
            end.setblocking(False)
        self.direction = Direction(source.fileno(), target.fileno(), **SLOW)

    def arrived(self) -> list[bytes]:
        packets = []
        while True:
            try:
                packets.append(self.receiver.recv(1 << 17))
            except BlockingIOError:
                return packets

    def close(self) -> None:
        for end in (self.sender, self.receiver, *self._held):
            end.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def packet(size: int, *, first: int = 0) -> bytes:
    """A packet of `size` bytes on the wire, as a device gives it."""
    return bytes(10) + bytes([first]) + bytes(size - 1)


def test_packets_wait_for_the_wire_and_travel_and_keep_their_order(ends: Ends) -> None:
    ends.sender.send(packet(1000, first=1))
    ends.sender.send(packet(500, first=2))
    ends.direction.take(100.0)
    # 1000 bytes at 1000 bytes/s, then half a second on the way; the second one waits for the first.
    assert ends.direction.next_at == pytest.approx(101.5)
    ends.direction.give(101.49)
    assert ends.arrived() == []
    ends.direction.give(101.51)
    assert [one[10] for one in ends.arrived()] == [1]
    assert ends.direction.next_at == pytest.approx(102.0)
    ends.direction.give(200.0)
    assert ends.arrived() == [packet(500, first=2)]
    assert ends.direction.next_at == float("inf")
    # An idle wire serves at once.
    ends.sender.send(packet(100))
    ends.direction.take(300.0)
    assert ends.direction.next_at == pytest.approx(300.6)
    assert (ends.direction.packets, ends.direction.bytes, ends.direction.dropped) == (3, 1600, 0)


def test_full_queue_drops_what_comes_and_has_room_again_when_the_wire_is_free(ends: Ends) -> None:
    for first in range(4):
        ends.sender.send(packet(1000, first=first))
    ends.direction.take(0.0)
    assert (ends.direction.packets, ends.direction.dropped) == (2, 2)
    ends.sender.send(packet(1000, first=9))
    ends.direction.take(1.0)
    ends.direction.give(10.0)
    assert [one[10] for one in ends.arrived()] == [0, 1, 9]


def test_packet_that_the_device_did_not_cut_counts_as_its_segments() -> None:
    headers = bytes([0x45]) + bytes(19) + bytes(12) + bytes([8 << 4]) + bytes(19)  # IP 20, TCP 32
    whole = struct.pack("<BBHHHH", 1, 1, len(headers), 1448, 20, 16) + headers + bytes(3 * 1448 + 1)
    assert wire_bytes(whole) == 3 * 1448 + 1 + 4 * 52
    assert wire_bytes(struct.pack("<BBHHHH", 0, 0, 0, 0, 0, 0) + headers + bytes(7)) == 59


def test_queue_holds_what_is_under_way_and_some_bursts() -> None:
    lan, wan = NETWORKS["lan"], NETWORKS["wan"]
    assert lan is not None
    assert wan is not None
    assert (lan.mbit, lan.round_trip_ms, wan.mbit, wan.round_trip_ms) == (1000, 1, 100, 20)
    assert (lan.queue_bytes, wan.queue_bytes) == (125_000 + 256_000, 250_000 + 256_000)


def test_missing_program_and_missing_right_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "_found", lambda name: None if name == "nsenter" else f"/bin/{name}")
    with pytest.raises(OptionError, match="network wan: expected the program nsenter"):
        check_network("wan")
    monkeypatch.setattr(network, "_found", lambda name: f"/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(OptionError, match="expected root"):
        check_network("lan")
    check_network("loopback")


def test_loopback_is_this_machine_as_it_is() -> None:
    with connected("loopback") as link:
        assert link.developer.enter == link.hospital.enter == ()
        assert link.report() == network.Network("loopback")


@needs_network
def test_parties_on_a_lan_answer_through_a_link_as_slow_as_asked(tiny_bundle: Made) -> None:
    told: list[str] = []
    pictures = [np.full((8, 8), value, np.float32) for value in (0, 30)]
    with connected("lan", lambda what, _done, _all: told.append(what)) as link:
        run = run_local(
            tiny_bundle.path, pictures, developer_host=link.developer, hospital_host=link.hospital
        )
        report = link.report()
        networks = _networks_of(link)
    assert len(networks) == 2
    assert OWN not in networks
    assert told == ["network"]
    for answer, picture in zip(run.answers, pictures, strict=True):
        assert_plausible(answer.logits, picture, tiny_bundle.path)
    assert (report.mbit, report.round_trip_ms) == (1000, 1)
    assert report.measured is not None
    # A slow machine makes a link slower, none makes it faster.
    assert report.measured.round_trip_ms >= 1
    assert 0 < report.measured.mbit_to_developer <= 1000
    assert 0 < report.measured.mbit_to_hospital <= 1000
    assert run.online is not None
    assert run.online.seconds >= 1e-3 * run.online.round_trips
    if report.shaper == "user-space":
        assert report.link_cpu_seconds is not None
        assert report.link_cpu_seconds > 0
    assert _left(networks) == []


@needs_network
def test_nothing_is_left_of_a_network_after_an_error() -> None:
    networks: set[Path] = set()
    with pytest.raises(ZeroDivisionError), connected("lan") as link:
        networks = _networks_of(link)
        assert len(_left(networks)) >= 2
        raise ZeroDivisionError
    assert len(networks) == 2
    assert _left(networks) == []


@needs_network
def test_link_that_can_not_start_says_why_and_leaves_nothing() -> None:
    before = _children()
    impossible = Profile(mbit=0, round_trip_ms=1)
    if _netem_here():
        pytest.skip("the kernel's netem is used here")
    with pytest.raises(OptionError, match=r"link.*ZeroDivisionError"), connected("lan", profile=impossible):
        pass
    assert _children() == before


@needs_network
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_of_a_network_after_a_signal(kind: signal.Signals) -> None:
    code = (
        "import signal, time\n"
        "from secure_infer.bench.network import connected\n"
        "from tests.secure_infer.bench.test_network import _networks_of\n"
        # A job in the background of a shell is born deaf to it.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with connected('lan') as link:\n"
        "    print(*_networks_of(link), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout is not None
        networks = {Path(name) for name in run.stdout.readline().split()}
        assert len(networks) == 2
        run.send_signal(kind)
        assert run.wait(30) != 0
    until = time.monotonic() + 30
    while _left(networks):
        assert time.monotonic() < until
        time.sleep(0.05)


def _netem_here() -> bool:
    with Namespace("developer") as host:
        return network._has_netem(host)


def _networks_of(link: Link) -> set[Path]:
    """What the kernel calls the networks of both hosts."""
    hosts = (link.developer, link.hospital)
    return {Path(host.enter[1].removeprefix("--net=")).readlink() for host in hosts}


def _left(networks: set[Path]) -> list[int]:
    """Numbers of the processes in these networks, zombies left out."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "ns" / "net").readlink() in networks:
                found.append(int(entry.name))
        except OSError:  # gone in the meantime
            continue
    return found


def _children() -> set[int]:
    """Numbers of this process's children."""
    found = set()
    for entry in Path("/proc").iterdir():
        try:
            parent = (
                (entry / "stat").read_text().rpartition(")")[2].split()[1] if entry.name.isdigit() else ""
            )
        except OSError:  # gone in the meantime
            continue
        if parent == str(os.getpid()):
            found.add(int(entry.name))
    return found
