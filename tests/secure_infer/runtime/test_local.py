"""Both parties as processes on this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from secure_infer.errors import InputRejected, PeerUnreachable, RuntimeFailure
from secure_infer.runtime import local
from secure_infer.runtime.local import run_local
from tests.secure_infer.runtime.conftest import assert_plausible
from tests.tiny import Made


def pictures(count: int) -> list[NDArray[np.float32]]:
    return list(np.random.default_rng(5).uniform(-40, 40, (count, 8, 8)).astype(np.float32))


def test_two_processes_answer_as_the_reference_does(tiny_bundle: Made) -> None:
    told: list[str] = []
    run = run_local(tiny_bundle.path, pictures(2), progress=lambda what, _done, _all: told.append(what))
    plain = run_local(tiny_bundle.path, pictures(2), backend="reference")
    for secure, image in zip(run.answers, pictures(2), strict=True):
        assert_plausible(secure.logits, image, tiny_bundle.path)
    assert told == ["load", "offline", "online", "offline", "online", "online"]
    assert plain.online is None
    for phase in (run.setup, run.offline, run.online):
        assert phase is not None
        assert min(phase.bytes_to_developer, phase.bytes_to_hospital, phase.round_trips) > 0
    assert all(0 < memory < 4096 for memory in run.max_rss_mb.values())


def test_two_processes_with_two_threads_each_answer_as_well(tiny_bundle: Made) -> None:
    run = run_local(tiny_bundle.path, pictures(1), threads=2)
    assert_plausible(run.answers[0].logits, pictures(1)[0], tiny_bundle.path)
    with pytest.raises(RuntimeFailure, match="threads: expected 1 to 256, got 0"):
        run_local(tiny_bundle.path, pictures(1), threads=0)


def test_both_parties_count_the_same_bytes_and_their_own_core(tiny_bundle: Made) -> None:
    run = run_local(tiny_bundle.path, pictures(2))
    for phase in ("offline", "online"):
        hospital, developer = run.stats[phase], run.developer_stats[phase]
        # A command belongs to no phase of the developer's yet.
        assert 0 < hospital["bytes_sent"] - developer["bytes_received"] < 100
        assert hospital["bytes_received"] == developer["bytes_sent"]
        assert [step["name"] for step in hospital["steps"]] == [step["name"] for step in developer["steps"]]
        for party in (hospital, developer):
            assert 0 < party["cpu_seconds"] < party["seconds"]
            for ours in party["steps"]:
                assert ours["cpu_seconds"] <= ours["seconds"] + 0.01


def test_image_that_does_not_fit_is_refused_before_a_process_is_started(tiny_bundle: Made) -> None:
    with pytest.raises(InputRejected):
        run_local(tiny_bundle.path, [np.zeros((8, 9), np.float32)])


def test_float_backend_needs_the_model(tiny_bundle: Made) -> None:
    with pytest.raises(RuntimeFailure, match="model's folder"):
        run_local(tiny_bundle.path, pictures(1), backend="float")


@pytest.mark.parametrize("victim", ["developer", "hospital"])
def test_party_killed_in_the_middle_ends_the_run_with_a_named_error(tiny_bundle: Made, victim: str) -> None:
    images = pictures(200)

    def kill(_what: str, done: int, _total: int) -> None:
        if done == 1:
            for child in _children():
                if f"{victim}.json" in child[1]:
                    os.kill(child[0], signal.SIGKILL)

    with pytest.raises(PeerUnreachable):
        run_local(tiny_bundle.path, images, progress=kill)
    assert not _children()


def test_party_does_not_outlive_its_parent(tiny_bundle: Made) -> None:
    code = (
        "import sys, os, numpy as np\n"
        "from secure_infer.runtime.local import run_local\n"
        "image = np.zeros((8, 8), np.float32)\n"
        "def stop(what, done, total):\n"
        "    if done == 1:\n"
        "        print(*[p for p, _ in children()], flush=True)\n"
        "        os._exit(0)\n"
        "sys.path.insert(0, sys.argv[2])\n"
        "from tests.secure_infer.runtime.test_local import _children as children\n"
        "run_local(sys.argv[1], [image] * 50, progress=stop)\n"
    )
    command = [sys.executable, "-c", code, str(tiny_bundle.path), str(Path.cwd())]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    parties = [int(word) for word in done.stdout.split()]
    assert len(parties) == 2
    until = time.monotonic() + 30
    while any(Path(f"/proc/{party}").exists() for party in parties):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_cores_are_given_only_where_both_parties_get_their_own() -> None:
    available = len(os.sched_getaffinity(0))
    assert local._cores(available) == ([], [])
    if available >= 2:
        developer, hospital = local._cores(1)
        assert len(developer) == len(hospital) == 1
        assert developer != hospital


def _children() -> list[tuple[int, str]]:
    """Process numbers and command lines of this process's living children that are parties."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            command = (entry / "cmdline").read_text().replace("\0", " ")
        except OSError:  # gone in the meantime
            continue
        if parent == os.getpid() and "party_process" in command:
            found.append((int(entry.name), command))
    return found
