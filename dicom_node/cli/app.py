"""Entry point: reads arguments, runs one command, turns errors into a line and an exit status.

Exit status, after sysexits.h where it has one:

====  ===============================================================================================
0     done
1     the work ran and did not succeed (a study not found, a demo whose check failed, ...)
2     the command line is wrong
65    data is wrong: a bundle, a program, a model, an image
69    the other party can't be reached or is silent; trying later may help
70    a defect of this program; run again with --debug for the traceback
76    the other party refused, or sent what no correct implementation sends
77    a key or certificate can't be used
78    the configuration is wrong
130   interrupted
====  ===============================================================================================
"""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NoReturn

from dicom_node.errors import NodeError
from secure_infer import __version__
from secure_infer.errors import SecureInferError

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_DATA: Final = 65
EXIT_UNAVAILABLE: Final = 69
EXIT_DEFECT: Final = 70
EXIT_PEER: Final = 76
EXIT_KEYS: Final = 77
EXIT_CONFIG: Final = 78
EXIT_INTERRUPTED: Final = 130

#: Beginning of an error's code to exit status; the first that fits.
_STATUS: Final = (
    ("peer.unreachable", EXIT_UNAVAILABLE),
    ("peer.timeout", EXIT_UNAVAILABLE),
    ("inference.unreachable", EXIT_UNAVAILABLE),
    ("inference.timeout", EXIT_UNAVAILABLE),
    ("peer", EXIT_PEER),
    ("inference.protocol", EXIT_PEER),
    ("inference.rejected", EXIT_PEER),
    ("keys", EXIT_KEYS),
    ("config", EXIT_CONFIG),
    ("bundle", EXIT_DATA),
    ("program", EXIT_DATA),
    ("compile", EXIT_DATA),
    ("input", EXIT_DATA),
    ("intake", EXIT_DATA),
    ("inference.bundle", EXIT_DATA),
    ("inference.image", EXIT_DATA),
)

_COMMANDS: Final = ("compile", "inspect", "party", "node", "infer", "local", "bench", "keys", "queue", "demo")

_EXTRAS: Final = {
    "pydicom": "hospital",
    "pynetdicom": "hospital",
    "highdicom": "hospital",
    "sqlalchemy": "hospital",
    "apscheduler": "hospital",
    "keras": "developer",
    "tensorflow": "developer",
}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where the help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (try {self.prog} --help)\n")


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; each command's module adds its own part."""
    parser = _Parser(
        prog="blindread",
        description="Private X-ray inference: the hospital keeps its image, the developer keeps the model.",
        epilog="Exit status: 0 done, 1 not succeeded, 2 wrong usage, 65 wrong data, 69 other party "
        "unreachable, 70 defect, 76 other party refused or misbehaved, 77 wrong key, 78 wrong configuration, "
        "130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"blindread {__version__}")
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in _COMMANDS:
        import_module(f"dicom_node.cli.{name}_command").add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; None for those of the process.

    Returns
    -------
    int
        The exit status.
    """
    arguments = build_parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (SecureInferError, NodeError) as error:
        return _fail(arguments, error, f"{error} [{error.code}]", status_of(error.code))
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            return _defect(arguments, error)
        return _fail(
            arguments, error, f"{error.name}: expected to be installed (pip install 'blindread[{extra}]')", 1
        )
    except KeyboardInterrupt as interrupt:
        return _fail(arguments, interrupt, "interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain again when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        return _fail(arguments, error, f"{name}{error.strerror}", EXIT_FAILED)
    except Exception as error:  # noqa: BLE001 - the outermost frame: a defect becomes one line and a status
        return _defect(arguments, error)


def status_of(code: str) -> int:
    """The exit status for an error's stable code."""
    return next((status for start, status in _STATUS if code.startswith(start)), EXIT_FAILED)


def _defect(arguments: argparse.Namespace, error: Exception) -> int:
    # The text of an unexpected error may hold data.
    return _fail(arguments, error, f"defect: {type(error).__name__} (run with --debug)", EXIT_DEFECT)


def _fail(arguments: argparse.Namespace, error: BaseException, line: str, status: int) -> int:
    if arguments.debug:
        traceback.print_exception(error)
    print(f"blindread: {line}", file=sys.stderr)
    return status
