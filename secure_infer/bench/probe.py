"""What a plain TCP connection gets between two hosts: ``python -m secure_infer.bench.probe``.

``serve ADDRESS`` prints its port and answers one caller after another until standard input ends; ``call
ADDRESS PORT`` measures and prints a JSON object: ``round_trip_ms``, ``mbit_up``, ``mbit_down``.
"""

import json
import socket
import sys
import threading
import time
from statistics import median
from typing import Final

_ECHOES: Final = 21
#: Until TCP has found the link's rate, and then while it is measured.
_WARM_UP_S: Final = 0.5
_MEASURED_S: Final = 1.0
_PIECE: Final = bytes(1 << 16)
_PATIENCE_S: Final = 30.0


def serve(address: str) -> None:
    """Answer callers: ``e`` echoes, ``u`` takes a stream and tells its rate, ``d`` sends one."""
    with socket.create_server((address, 0)) as listener:
        threading.Thread(target=_answer, args=(listener,), daemon=True).start()
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        sys.stdin.read()


def call(address: str, port: int) -> dict[str, float]:
    """Measure the way to a server and back."""
    with _calling(address, port, b"e") as line:
        times = []
        for _ in range(_ECHOES):
            begin = time.perf_counter()
            line.sendall(b".")
            line.recv(1)
            times.append(time.perf_counter() - begin)
    with _calling(address, port, b"u") as line:
        send_stream(line)
        line.shutdown(socket.SHUT_WR)
        up = float(line.recv(64))
    with _calling(address, port, b"d") as line:
        down = stream_rate(line)
    return {"round_trip_ms": 1e3 * median(times), "mbit_up": up, "mbit_down": down}


def send_stream(line: socket.socket) -> None:
    """Send as fast as the link takes it, for as long as the other side measures."""
    until = time.perf_counter() + _WARM_UP_S + _MEASURED_S
    while time.perf_counter() < until:
        line.sendall(_PIECE)


def stream_rate(line: socket.socket) -> float:
    """Mbit/s of what arrives until the end, without the warm-up."""
    begin = time.perf_counter() + _WARM_UP_S
    count, first, last = 0, 0.0, 0.0
    while piece := line.recv(1 << 20):
        last = time.perf_counter()
        if last < begin:
            continue
        if not first:
            first = last
        else:
            count += len(piece)
    return 8e-6 * count / (last - first) if last > first else 0.0


def _answer(listener: socket.socket) -> None:
    while True:
        line, _ = listener.accept()
        with _patient(line):
            wanted = line.recv(1)
            if wanted == b"e":
                while piece := line.recv(1):
                    line.sendall(piece)
            elif wanted == b"u":
                line.sendall(f"{stream_rate(line)}".encode())
            elif wanted == b"d":
                send_stream(line)


def _calling(address: str, port: int, wanted: bytes) -> socket.socket:
    line = _patient(socket.create_connection((address, port), timeout=_PATIENCE_S))
    line.sendall(wanted)
    return line


def _patient(line: socket.socket) -> socket.socket:
    line.settimeout(_PATIENCE_S)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return line


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        print(json.dumps(call(sys.argv[2], int(sys.argv[3]))))  # noqa: T201
