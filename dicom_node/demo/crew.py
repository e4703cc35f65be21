"""The demonstration's processes: started, waited for, killed and started again, and all ended at the end."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from dicom_node.errors import NodeError

_POLL_S: Final = 0.1
_GRACE_S: Final = 30.0
_TAIL_LINES: Final = 15


class DemoFailed(NodeError):
    """The demonstration did not come to its end, or a check at its end did not hold."""

    code = "demo"


@dataclass(slots=True)
class _Member:
    command: Sequence[str]
    ready: Callable[[], bool]
    timeout_s: float
    process: subprocess.Popen[bytes] | None = None


class Crew:
    """Named processes, each with its log in a file; a context manager that leaves none behind.

    Parameters
    ----------
    folder : Path
        Where ``NAME.log`` are written.
    environment : mapping, optional
        In addition to this process's own.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._environment = {**os.environ, **(environment or {})}
        self._members: dict[str, _Member] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in reversed(self._members):
            self._end(name)

    def run(self, name: str, command: Sequence[str], *, timeout_s: float) -> str:
        """Run a command to its end and return what it printed.

        Raises
        ------
        DemoFailed
            It failed, or took too long; the message has its last lines.
        """
        with self._log(name).open("ab") as log:
            try:
                done = subprocess.run(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=self._environment,
                    timeout=timeout_s,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise DemoFailed(name, expected=f"an end within {timeout_s:g} s", got="none") from error
        if done.returncode != 0:
            raise DemoFailed(name, expected="exit status 0", got=f"{done.returncode}\n{self.tail(name)}")
        return done.stdout.decode()

    def start(
        self, name: str, command: Sequence[str], ready: Callable[[], bool], *, timeout_s: float = 60.0
    ) -> None:
        """Start a process and wait until it is ready.

        Raises
        ------
        DemoFailed
            It ended, or was not ready in time.
        """
        self._members[name] = _Member(command, ready, timeout_s)
        self._start(name)

    def kill(self, name: str) -> None:
        """End a process and all that it started with SIGKILL, as a power cut would."""
        self._signal(name, signal.SIGKILL)
        member = self._members[name]
        if member.process is not None:
            member.process.wait(_GRACE_S)
            member.process = None

    def hold(self, name: str) -> None:
        """Stop a process where it is (SIGSTOP), until `release` or `kill`."""
        self._signal(name, signal.SIGSTOP)

    def release(self, name: str) -> None:
        """Let a process that is held go on; nothing for one that isn't, or has been killed."""
        self._signal(name, signal.SIGCONT)

    def again(self, name: str) -> None:
        """Start a killed process as it was started before."""
        self._start(name)

    def check(self) -> None:
        """Raise DemoFailed when one of the processes has ended by itself."""
        for name, member in self._members.items():
            status = member.process.poll() if member.process else None
            if status is not None:
                raise DemoFailed(name, expected="to run", got=f"exit status {status}\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        """The last lines of a process's log."""
        log = self._log(name)
        return "\n".join(log.read_text(errors="replace").splitlines()[-_TAIL_LINES:]) if log.exists() else ""

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def _signal(self, name: str, number: signal.Signals) -> None:
        """To a process and all that it started."""
        process = self._members[name].process
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def _start(self, name: str) -> None:
        member = self._members[name]
        with self._log(name).open("ab") as log:
            # A session of its own, so that a kill takes its children with it.
            member.process = subprocess.Popen(
                member.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        end = time.monotonic() + member.timeout_s
        while not member.ready():
            self.check()
            if time.monotonic() > end:
                got = f"silence\n{self.tail(name)}"
                raise DemoFailed(name, expected=f"ready within {member.timeout_s:g} s", got=got)
            time.sleep(_POLL_S)

    def _end(self, name: str) -> None:
        """Ask a process to end, and insist when it doesn't."""
        process = self._members[name].process
        if process is None:
            return
        process.terminate()
        self.release(name)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_S)
        self._signal(name, signal.SIGKILL)
        process.wait(_GRACE_S)


def free_port() -> int:
    """A port that nobody uses at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True
