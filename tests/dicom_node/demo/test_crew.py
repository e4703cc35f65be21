import sys
from pathlib import Path

import pytest

from dicom_node.demo.crew import Crew, DemoFailed, free_port, listens

LISTENER = (
    "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
    "print('here', flush=True); time.sleep(600)"
)


def listener(port: int) -> list[str]:
    return [sys.executable, "-c", LISTENER, str(port)]


def test_command_gives_what_it_printed(tmp_path: Path) -> None:
    with Crew(tmp_path) as crew:
        assert crew.run("echo", [sys.executable, "-c", "print('done')"], timeout_s=30) == "done\n"


def test_failed_command_is_reported_with_its_last_lines(tmp_path: Path) -> None:
    code = "import sys; print('the reason', file=sys.stderr); sys.exit(3)"
    with Crew(tmp_path) as crew, pytest.raises(DemoFailed, match="got 3\nthe reason"):
        crew.run("bad", [sys.executable, "-c", code], timeout_s=30)


def test_command_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    code = "import time; time.sleep(600)"
    with Crew(tmp_path) as crew, pytest.raises(DemoFailed, match=r"slow: expected an end within 0\.5 s"):
        crew.run("slow", [sys.executable, "-c", code], timeout_s=0.5)


def test_process_is_started_killed_started_again_and_ended(tmp_path: Path) -> None:
    port = free_port()
    with Crew(tmp_path) as crew:
        crew.start("one", listener(port), lambda: listens(port))
        crew.check()
        crew.kill("one")
        assert not listens(port)
        crew.check()  # what was killed on purpose is not missed
        crew.again("one")
        assert listens(port)
        assert crew.tail("one") == "here\nhere"
    assert not listens(port)


def test_process_that_ends_by_itself_is_missed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit(7)"]
    with Crew(tmp_path) as crew, pytest.raises(DemoFailed, match="one: expected to run, got exit status 7"):
        crew.start("one", command, lambda: False)


def test_process_that_is_never_ready_is_not_left_behind(tmp_path: Path) -> None:
    port = free_port()
    with Crew(tmp_path) as crew, pytest.raises(DemoFailed, match="expected ready within 1 s, got silence"):
        crew.start("one", listener(port), lambda: False, timeout_s=1)
    assert not listens(port)
