"""One party as a process of its own: ``python -m secure_infer.runtime.party_process SETTINGS.json``.

Started by `secure_infer.runtime.local`, which holds its standard input open: the end of input is the request
to stop, so no party outlives its parent. Everything said goes to standard output, one JSON object a line.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from secure_infer import _native
from secure_infer.bundle import DeveloperBundle, HospitalBundle
from secure_infer.errors import SecureInferError
from secure_infer.runtime.developer import DeveloperServer, Limits
from secure_infer.runtime.endpoint import Credentials, Endpoint
from secure_infer.runtime.hospital import HospitalClient


def main(settings: Path) -> int:
    """Run the party that the settings describe; returns the exit status."""
    # Whatever imports wrote to standard output must not look like one of our lines.
    wanted = json.loads(settings.read_text())
    if wanted["cores"]:
        os.sched_setaffinity(0, wanted["cores"])
    _native.forbid_dumps()
    try:
        {"hospital": _hospital, "developer": _developer}[wanted["role"]](wanted)
    except SecureInferError as error:
        say("failed", code=error.code, message=str(error))
        return 1
    return 0


def say(event: str, **facts: Any) -> None:
    """Tell the parent."""
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\n")
    sys.stdout.flush()


def peak_memory_mb() -> float:
    """Largest resident size of this process; ``ru_maxrss`` would include what was there before ``exec``."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _credentials(wanted: Mapping[str, Any]) -> Credentials:
    authority, certificate, key = (Path(wanted[name]) for name in ("authority", "certificate", "key"))
    return Credentials(authority=authority, certificate=certificate, key=key)


def _developer(wanted: Mapping[str, Any]) -> None:
    bundle = DeveloperBundle.open(wanted["bundle"])
    limits = Limits(
        tickets=wanted["pool"],
        output_noise=wanted["output_noise"],
        timeout_s=wanted["timeout_s"],
        ot_engine=wanted["ot_engine"],
        threads=wanted["threads"],
    )
    server = DeveloperServer(bundle, f"{wanted['address']}:0", _credentials(wanted), limits)
    with server:
        say("ready", port=server.port)
        sys.stdin.read()
        server.shutdown(grace_s=1.0)
        say("end", max_rss_mb=peak_memory_mb(), stats=server.stats())


def _hospital(wanted: Mapping[str, Any]) -> None:
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    files = _credentials(wanted)
    endpoint = Endpoint(
        host=wanted["address"],
        port=wanted["port"],
        authority=files.authority,
        certificate=files.certificate,
        key=files.key,
        timeout_s=wanted["timeout_s"],
        ot_engine=wanted["ot_engine"],
        threads=wanted["threads"],
    )
    begin = time.perf_counter()
    client = HospitalClient(HospitalBundle.open(wanted["bundle"]), endpoint)
    client.load()
    say("ready", seconds=time.perf_counter() - begin)
    images = [np.load(path, allow_pickle=False) for path in wanted["images"]]
    begin = time.perf_counter()
    with client:
        connected = time.perf_counter()
        say("connected", seconds=connected - begin, link=asdict(client.link) if client.link else {})
        for _ in range(min(wanted["pool"], len(images))):
            _prepare(client)
        for image in images:
            if client.tickets_ready == 0:
                _prepare(client)
            begin = time.perf_counter()
            answer = client.infer(image)
            seconds = time.perf_counter() - begin
            facts = {"begin": begin - connected, "stats": client.stats()["online"]}
            say("answered", seconds=seconds, logits=answer.logits.tolist(), **facts)
        say("end", max_rss_mb=peak_memory_mb(), stats=client.stats())


def _prepare(client: HospitalClient) -> None:
    begin = time.perf_counter()
    client.prepare()
    say("prepared", seconds=time.perf_counter() - begin, stats=client.stats()["offline"])


def _leave_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
