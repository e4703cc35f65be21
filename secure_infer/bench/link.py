"""A link between two network namespaces for kernels without netem: ``python -m secure_infer.bench.link``.

Two TUN devices, and this process between them: what one host sends leaves its device here, waits for its
turn on the wire (the rate), travels (half the round trip) and enters the other device. A queue in front of
the wire holds so many bytes and drops what comes when it is full, as a router's does. The two directions are
independent.

The devices take packets that the kernel hasn't cut to the MTU yet (virtio's header in front says where it
would), so that TCP keeps the windows and segments of an ordinary MTU of 1500 while few packets cross this
process; a packet occupies the wire for as long as its segments with their headers would. See the kernel's
``Documentation/networking/tuntap.rst`` and ``include/uapi/linux/virtio_net.h``.

One argument, a JSON object: ``devices`` (two names), ``bits_per_second``, ``delay_s`` (one way),
``queue_bytes``. Standard output gets one JSON object a line: ``ready``, and ``spent`` for every byte of
standard input, whose end is the request to stop.
"""

import fcntl
import json
import os
import select
import struct
import sys
import time
from collections import deque
from contextlib import suppress
from typing import Any, Final

_TUN: Final = "/dev/net/tun"
# include/uapi/linux/if_tun.h
_TUNSETIFF: Final = 0x400454CA
_TUNSETOFFLOAD: Final = 0x400454D0
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_IFF_VNET_HDR: Final = 0x4000
_TUN_F_CSUM: Final = 0x01
_TUN_F_TSO4: Final = 0x02

#: struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset.
_VIRTIO: Final = struct.Struct("<BBHHHH")
_LARGEST: Final = _VIRTIO.size + 65536
#: Packets taken from one side before the other one has its turn.
_BATCH: Final = 64


def wire_bytes(packet: bytes) -> int:
    """How many bytes a packet from a device is on the wire: IP headers and all, no Ethernet framing."""
    segment: int = _VIRTIO.unpack_from(packet)[3]
    size = len(packet) - _VIRTIO.size
    if segment == 0:
        return size
    ip = (packet[_VIRTIO.size] & 15) * 4
    headers = ip + (packet[_VIRTIO.size + ip + 12] >> 4) * 4
    segments = -(-(size - headers) // segment)
    return size + (segments - 1) * headers


class Direction:
    """From one device to the other.

    Parameters
    ----------
    source, target : int
        Their descriptors, non-blocking.
    bits_per_second, delay_s, queue_bytes : float
        See the module.
    """

    def __init__(
        self, source: int, target: int, *, bits_per_second: float, delay_s: float, queue_bytes: float
    ) -> None:
        self.source = source
        self.packets = self.bytes = self.dropped = 0
        self._target = target
        self._byte_s = 8 / bits_per_second
        self._delay_s = delay_s
        self._queue_s = queue_bytes * self._byte_s
        self._free_at = 0.0
        self._under_way: deque[tuple[float, bytes]] = deque()

    @property
    def next_at(self) -> float:
        """When the next packet arrives."""
        return self._under_way[0][0] if self._under_way else float("inf")

    def take(self, now: float) -> None:
        """Put what the source has sent on the wire."""
        for _ in range(_BATCH):
            try:
                packet = os.read(self.source, _LARGEST)
            except BlockingIOError:
                return
            size = wire_bytes(packet)
            begin = max(self._free_at, now)
            if begin - now + size * self._byte_s > self._queue_s:
                self.dropped += 1
                continue
            self._free_at = begin + size * self._byte_s
            self._under_way.append((self._free_at + self._delay_s, packet))
            self.packets += 1
            self.bytes += size

    def give(self, now: float) -> None:
        """Hand over what has arrived."""
        while self._under_way and self._under_way[0][0] <= now:
            packet = self._under_way.popleft()[1]
            try:
                os.write(self._target, packet)
            except OSError:  # the host's own queue is full, or the device is down: a loss like any other
                self.dropped += 1


def open_device(name: str) -> int:
    """A new TUN device in this process's network namespace; it is gone when its descriptor is closed."""
    device = os.open(_TUN, os.O_RDWR | os.O_NONBLOCK)
    flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    fcntl.ioctl(device, _TUNSETOFFLOAD, _TUN_F_CSUM | _TUN_F_TSO4)
    return device


def main(wanted: dict[str, Any]) -> None:
    """Carry packets until standard input ends."""
    one, other = (open_device(name) for name in wanted.pop("devices"))
    directions = (Direction(one, other, **wanted), Direction(other, one, **wanted))
    with suppress(PermissionError):
        # A wire doesn't wait for a core to be free; and timers of real-time processes have no slack.
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    _say("ready")
    listen = [one, other, sys.stdin.fileno()]
    while True:
        wait = min(direction.next_at for direction in directions) - time.monotonic()
        ready, _, _ = select.select(listen, [], [], max(wait, 0) if wait < float("inf") else None)
        now = time.monotonic()
        for direction in directions:
            if direction.source in ready:
                direction.take(now)
            direction.give(now)
        if listen[2] in ready:
            if not os.read(listen[2], 1):
                return
            _say(
                "spent",
                cpu_seconds=time.process_time(),
                packets=sum(direction.packets for direction in directions),
                bytes=sum(direction.bytes for direction in directions),
                dropped=sum(direction.dropped for direction in directions),
            )


def _say(event: str, **facts: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
