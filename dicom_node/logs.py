"""Log lines for machines and people: they name studies by the queue's number, and hold no patient data."""

import json
import logging
import sys
import warnings
from datetime import UTC, datetime

#: What `logging` puts on every record; anything else was given with ``extra``.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _traceback(record: logging.LogRecord) -> list[str]:
    """Kind of an unexpected error and the code it went through: not its text, which may hold data."""
    if not record.exc_info or record.exc_info[1] is None:
        return []
    lines = [type(record.exc_info[1]).__name__]
    trace = record.exc_info[2]
    while trace is not None:
        code = trace.tb_frame.f_code
        lines.append(f"{code.co_filename}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return lines


class JsonFormatter(logging.Formatter):
    """One JSON object on a line: time, level, event, room, and what the place of the call added."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "room": record.name.removeprefix("dicom_node."),
            **_extra(record),
        }
        trace = _traceback(record)
        if trace:
            line["trace"] = trace
        return json.dumps(line, default=str)


class TextFormatter(logging.Formatter):
    """The same for people: time, level, event, then ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = datetime.fromtimestamp(record.created, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        extra = "".join(f" {key}={json.dumps(value, default=str)}" for key, value in _extra(record).items())
        lines = [f"{moment} {record.levelname.lower():7} {record.getMessage()}{extra}", *_traceback(record)]
        return "\n    ".join(lines)


def configure_logging(*, form: str, level: str) -> None:
    """Sends this process's log to standard error.

    Parameters
    ----------
    form : str
        ``json`` or ``text``.
    level : str
        ``debug``, ``info``, ``warning`` or ``error``; for other people's code never below ``warning``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("dicom_node").setLevel(level.upper())
    logging.getLogger("secure_infer").setLevel(level.upper())
    # The scheduler says that a job still runs: that is what one at a time means here.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    # pydicom's warnings quote values.
    warnings.simplefilter("ignore")
