"""kill -9 in every state: nothing is lost, and there is one report, the same one, in the end."""

import os
import signal
import socket
import struct
import time

import pydicom
import pytest
from pynetdicom import AE

from dicom_node.queue import State

pytestmark = [
    pytest.mark.filterwarnings(r"ignore::UserWarning:pydicom\..*"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SR_3D = "1.2.840.10008.5.1.4.1.1.88.34"


def test_worker_killed_at_every_step_sends_one_report(
    archive, new_site, forks, radiograph, send_until_stored, until, killable_points
) -> None:
    site = new_site(archive.port)
    listener = forks(site.start("fork", "listener"))
    worker = forks(site.start("fork", "worker"))
    serving = listener.start()
    # "After" one step is "before" the next, but for what happens inside of a step.
    points = [f"{name}:after" for name in killable_points("WORKER_POINTS")]
    points += ["queue.Queue.claim:before", "spool.os.fsync:before", "deliver.send:before"]
    assert len(points) == 16
    for number, point in enumerate(points, start=1):
        send_until_stored(site.port, radiograph(number))
        worker.start(point)
        assert worker.ended() == -signal.SIGKILL, point
        healthy = worker.start()
        until(lambda: set(site.states()) == {State.DELIVERED}, f"delivery after {point}")
        os.kill(healthy, signal.SIGTERM)
        assert worker.ended() == 0
        # However often it was sent, it was the same object.
        assert len(set(archive.received)) == number, point
    os.kill(serving, signal.SIGTERM)
    assert listener.ended() == 0
    reports = archive.reports()
    assert sorted(one.StudyInstanceUID for one in reports) == sorted(
        f"1.2.826.0.1.1.{number}" for number in range(1, len(points) + 1)
    )
    assert {one.SOPClassUID for one in reports} == {SR_3D}


def test_listener_killed_at_every_step_of_a_store_loses_and_doubles_nothing(
    new_site, forks, radiograph, send, send_until_stored, until, killable_points
) -> None:
    site = new_site(1)
    listener = forks(site.start("fork", "listener"))
    points = [f"{name}:{when}" for name in killable_points("LISTENER_POINTS") for when in ("before", "after")]
    for number, point in enumerate(points, start=1):
        file = radiograph(number)
        listener.start(point)
        until(lambda: _listens(site.port), "listening")
        assert send(site.port, file) is None, "killed before it could say success"
        assert listener.ended() == -signal.SIGKILL, point
        healthy = listener.start()
        send_until_stored(site.port, file)
        os.kill(healthy, signal.SIGTERM)
        assert listener.ended() == 0
    spool = site.settings.node.spool
    kept = [pydicom.dcmread(one) for one in spool.glob("objects/*/*.dcm")]
    assert sorted(one.StudyInstanceUID for one in kept) == sorted(
        f"1.2.826.0.1.1.{number}" for number in range(1, len(points) + 1)
    )
    assert list(spool.glob("incoming/receive/*")) == []
    with site.queue() as queue:
        assert [view.objects for view in queue.studies()] == [1] * len(points)


def test_listener_killed_in_the_middle_of_an_object_keeps_nothing_of_it(
    new_site, forks, radiograph, send_until_stored, until
) -> None:
    site = new_site(1)
    listener = forks(site.start("fork", "listener"))
    pid = listener.start()
    until(lambda: _listens(site.port), "listening")
    connection = _half_an_object(site.port)
    os.kill(pid, signal.SIGKILL)
    assert listener.ended() == -signal.SIGKILL
    connection.close()
    healthy = listener.start()
    send_until_stored(site.port, radiograph(1))
    assert len(list(site.settings.node.spool.glob("objects/*/*.dcm"))) == 1
    os.kill(healthy, signal.SIGTERM)
    assert listener.ended() == 0


def test_stop_does_not_wait_for_a_modality_that_holds_its_association(new_site, forks, until) -> None:
    site = new_site(1)
    listener = forks(site.start("fork", "listener"))
    pid = listener.start()
    until(lambda: _listens(site.port), "listening")
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", site.port, ae_title="GATEWAY")
    assert association.is_established
    os.kill(pid, signal.SIGTERM)
    assert listener.ended() == 0
    association.abort()


def test_whole_gateway_survives_kills_of_its_processes_and_of_itself(
    archive, new_site, radiograph, send_until_stored, until, tmp_path
) -> None:
    site = new_site(archive.port)
    kills = tmp_path / "kills"
    kills.write_text("queue.Queue.add_object:after Double.infer:after deliver.send:after")
    gateway = site.start("node", environment={"BLINDREAD_KILLS": str(kills)})
    for number in (1, 2, 3):
        send_until_stored(site.port, radiograph(number))
    gateway.kill()
    gateway.wait()
    again = site.start("node")
    send_until_stored(site.port, radiograph(4))
    until(lambda: site.states() == [State.DELIVERED] * 4, "delivery")
    again.send_signal(signal.SIGTERM)
    assert again.wait(30) == 0
    assert len(set(archive.received)) == 4
    assert len(archive.reports()) == 4
    assert "process died" in site.log()


def test_archive_that_is_away_gets_its_report_when_it_is_back(
    new_site, forks, radiograph, send_until_stored, until, tmp_path, archive
) -> None:
    port = archive.port
    archive.failing.set()
    site = new_site(port)
    listener, worker = forks(site.start("fork", "listener")), forks(site.start("fork", "worker"))
    pids = [listener.start(), worker.start()]
    send_until_stored(site.port, radiograph(1))

    def refused() -> bool:
        with site.queue() as queue:
            view = queue.study(1)
            return view.attempts >= 2 and view.reason_code == "deliver"

    until(refused, "refusal by a full archive")
    archive.close()

    def unreachable() -> bool:
        with site.queue() as queue:
            return "0xA700" not in (queue.study(1).reason or "0xA700")

    until(unreachable, "an attempt without archive")
    archive.__init__(archive.folder, port)  # type: ignore[misc]
    until(lambda: site.states() == [State.DELIVERED], "delivery")
    assert len(archive.reports()) == 1
    for pid, process in zip(pids, (listener, worker), strict=True):
        os.kill(pid, signal.SIGTERM)
        assert process.ended() == 0


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionError:
        return False
    return True


def _half_an_object(port: int) -> socket.socket:
    """Negotiates by hand and sends the beginning of a C-STORE request whose rest never comes."""
    context = b"\x10\0" + struct.pack(">H", 21) + b"1.2.840.10008.3.1.1.1"
    abstract = b"1.2.840.10008.5.1.4.1.1.1"
    syntax = b"1.2.840.10008.1.2"
    items = b"\x30\0" + struct.pack(">H", len(abstract)) + abstract
    items += b"\x40\0" + struct.pack(">H", len(syntax)) + syntax
    proposed = b"\x20\0" + struct.pack(">H", len(items) + 4) + b"\x01\0\0\0" + items
    user = b"\x51\0\0\x04" + struct.pack(">I", 16384) + b"\x52\0\0\x05" + b"1.2.3"
    information = b"\x50\0" + struct.pack(">H", len(user)) + user
    body = (
        b"\0\x01\0\0"
        + b"GATEWAY".ljust(16)
        + b"MODALITY".ljust(16)
        + bytes(32)
        + context
        + proposed
        + information
    )
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(b"\x01\0" + struct.pack(">I", len(body)) + body)
    assert connection.recv(1) == b"\x02"
    time.sleep(0.1)
    connection.sendall(
        b"\x04\0" + struct.pack(">I", 100_000) + struct.pack(">IB", 99_996, 1) + b"\0" + bytes(10_000)
    )
    time.sleep(0.1)
    return connection
