"""``blindread queue``: the studies of a gateway."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.cli.output import Commands, add_json, show, table

if TYPE_CHECKING:
    from dicom_node.queue import Queue, StudyView


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "queue",
        help="list, show, retry or cancel studies",
        description="The gateway's studies, by the queue's own numbers. The gateway may run meanwhile.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    one = actions.add_parser("list", help="studies, the latest first")
    one.add_argument("--state", action="append", default=[], help="only this state; may be repeated")
    one.add_argument("--limit", type=int, default=100, help="at most so many (%(default)s)")
    _finish(one, _list)

    one = actions.add_parser("show", help="everything about one study")
    one.add_argument("study", type=int, metavar="NUMBER")
    _finish(one, _show)

    one = actions.add_parser("retry", help="try a study again now; a delivered one is sent again")
    one.add_argument("study", type=int, metavar="NUMBER")
    _finish(one, _retry)

    one = actions.add_parser("cancel", help="end the work on a study")
    one.add_argument("study", type=int, metavar="NUMBER")
    _finish(one, _cancel)


def _finish(parser: argparse.ArgumentParser, run: object) -> None:
    parser.add_argument("--config", type=Path, required=True, metavar="FILE", help="the gateway's TOML file")
    add_json(parser)
    parser.set_defaults(run=run)


@contextmanager
def _queue(arguments: argparse.Namespace) -> "Iterator[Queue]":
    from dicom_node.config import load_settings
    from dicom_node.queue import Queue

    settings = load_settings(arguments.config)
    with Queue(settings.database, settings.queue) as queue:
        yield queue


def _list(arguments: argparse.Namespace) -> int:
    from dicom_node.errors import QueueError
    from dicom_node.queue import State

    unknown = sorted(set(arguments.state) - set(State))
    if unknown:
        raise QueueError("--state", expected=" or ".join(State), got=", ".join(unknown))
    with _queue(arguments) as queue:
        studies = queue.studies(states=[State(name) for name in arguments.state], limit=arguments.limit)
        counts = {state.value: count for state, count in queue.counts().items()}

    def text() -> str:
        rows = [
            (
                study.id,
                study.state.value,
                _time(study.changed_at),
                study.objects,
                study.attempts,
                _time(study.next_attempt_at) if study.next_attempt_at else "",
                study.reason_code or "",
                study.reason or "",
            )
            for study in studies
        ]
        header = ("study", "state", "changed", "objects", "attempts", "next attempt", "code", "reason")
        summary = ", ".join(f"{count} {state}" for state, count in counts.items()) or "no studies"
        return f"{table(header, rows)}\n\n{summary}" if rows else summary

    show(arguments, {"counts": counts, "studies": [_plain(study) for study in studies]}, text)
    return 0


def _show(arguments: argparse.Namespace) -> int:
    with _queue(arguments) as queue:
        study = queue.study(arguments.study)
    show(arguments, _plain(study), lambda: _study_text(study))
    return 0


def _retry(arguments: argparse.Namespace) -> int:
    with _queue(arguments) as queue:
        state = queue.retry(arguments.study).value
    return _moved(arguments, state)


def _cancel(arguments: argparse.Namespace) -> int:
    with _queue(arguments) as queue:
        state = queue.cancel(arguments.study).value
    return _moved(arguments, state)


def _moved(arguments: argparse.Namespace, state: str) -> int:
    show(
        arguments,
        {"study": arguments.study, "state": state},
        lambda: f"study {arguments.study} is now {state}",
    )
    return 0


def _plain(study: "StudyView") -> dict[str, object]:
    from dataclasses import asdict

    return asdict(study)


def _study_text(study: "StudyView") -> str:
    lines = [
        f"study         {study.id}{' (stat)' if study.stat else ''}",
        f"study UID     {study.study_uid}",
        f"state         {study.state.value}",
        f"received      {_time(study.created_at)}",
        f"changed       {_time(study.changed_at)}",
        f"attempts      {study.attempts}",
    ]
    if study.next_attempt_at:
        lines.append(f"next attempt  {_time(study.next_attempt_at)}")
    if study.reason_code:
        lines.append(f"reason        {study.reason} [{study.reason_code}]")
    if study.report_path:
        lines.append(f"report        {study.report_path}")
    lines += [f"delivered     {one.destination}: {one.status or 'waiting'}" for one in study.deliveries]
    lines += [f"object        {one.sop_uid} ({one.size} bytes, {one.path})" for one in study.instances]
    lines += [
        f"{_time(entry.at)}  {entry.event} -> {entry.state}{': ' + entry.detail if entry.detail else ''}"
        for entry in study.history
    ]
    return "\n".join(lines)


def _time(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
