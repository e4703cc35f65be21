"""Log lines: one object on a line, with what the call added, without the text of unexpected errors."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

from dicom_node.logs import JsonFormatter, TextFormatter


def record(**extra: object) -> logging.LogRecord:
    made = logging.getLogger("dicom_node.receive.listener").makeRecord(
        "dicom_node.receive.listener", logging.INFO, "file", 1, "object stored", (), None, extra=extra
    )
    made.created = 0.0
    return made


def test_json_line_has_time_level_event_room_and_extra() -> None:
    line = JsonFormatter().format(record(study=7, arrival="new"))
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.000+00:00",
        "level": "info",
        "event": "object stored",
        "room": "receive.listener",
        "study": 7,
        "arrival": "new",
    }
    assert "\n" not in line


def test_text_line_has_the_same() -> None:
    assert TextFormatter().format(record(study=7)).endswith("info    object stored study=7")


def test_line_cannot_be_broken_by_what_a_peer_sent() -> None:
    for formatter in (JsonFormatter(), TextFormatter()):
        assert "\n" not in formatter.format(record(calling="A\nfake line"))


def test_unexpected_error_shows_where_and_not_what() -> None:
    try:
        raise ValueError("Quayle^Ximena")
    except ValueError:
        made = record()
        made.exc_info = sys.exc_info()
    for formatter in (JsonFormatter(), TextFormatter()):
        line = formatter.format(made)
        assert "ValueError" in line
        assert "test_logs.py" in line
        assert "Quayle" not in line


def test_configured_process_writes_its_log_to_standard_error_and_no_warnings_of_libraries() -> None:
    script = (
        "import logging, warnings; from dicom_node.logs import configure_logging\n"
        "configure_logging(form='json', level='info')\n"
        "warnings.warn('Quayle')\n"
        "logging.getLogger('dicom_node.x').info('shown'); logging.getLogger('dicom_node.x').debug('hidden')\n"
        "logging.getLogger('other').info('hidden')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout == ""
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["shown"]
