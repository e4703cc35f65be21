"""The storage provider, driven by pynetdicom and DCMTK as users."""

import errno
import logging
import os
import shutil
import socket
import struct
import subprocess
import time
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import JPEG2000, ExplicitVRBigEndian, ExplicitVRLittleEndian
from pynetdicom import AE

from dicom_node.config import PeerSettings
from dicom_node.logs import JsonFormatter
from dicom_node.queue import State

DX = "1.2.840.10008.5.1.4.1.1.1.1"
DX_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"

#: pydicom remarks on what the tests break on purpose; the gateway's processes ignore it too (`logs`).
pytestmark = [
    pytest.mark.filterwarnings(r"ignore::UserWarning:pydicom\..*"),
    pytest.mark.filterwarnings("ignore:.*[Ii]nvalid value for VR UI"),
]

dcmtk = pytest.mark.skipif(
    shutil.which("storescu") is None, reason="DCMTK (storescu, echoscu) is not installed"
)


def data_set_of(file: Path) -> bytes:
    """What stands behind the file meta information."""
    raw = file.read_bytes()
    group_length = struct.unpack_from("<I", raw, 140)[0]
    return raw[144 + group_length :]


def test_echo_is_answered(start, associate) -> None:
    association = associate(start().port, sop_class=VERIFICATION)
    assert association.send_c_echo().Status == 0x0000


def test_object_is_stored_as_it_came_and_queued_before_success(
    start, associate, radiograph, store_raw, encode
) -> None:
    gateway = start()
    sent = encode(radiograph())
    assert store_raw(associate(gateway.port), sent).Status == 0x0000
    (file,) = gateway.files()
    assert data_set_of(file) == sent
    stored = pydicom.dcmread(file)
    assert stored.file_meta.MediaStorageSOPInstanceUID == "1.2.3.4.5"
    assert stored.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2"
    assert gateway.leftovers() == []
    view = gateway.queue.study(1)
    assert view.state is State.RECEIVING
    assert view.study_uid == "1.2.3"
    assert [one.path for one in view.instances] == [file.relative_to(gateway.spool.root).as_posix()]
    assert view.instances[0].size == file.stat().st_size
    assert view.instances[0].calling_ae == "MODALITY"


def test_every_transfer_syntax_is_stored_byte_for_byte(start, associate, samples) -> None:
    gateway = start(accept=("cr", "dx", "secondary-capture"))
    assert len(samples) >= 7
    for file in samples:
        meta = pydicom.dcmread(file, stop_before_pixels=True).file_meta
        association = associate(
            gateway.port, sop_class=meta.MediaStorageSOPClassUID, syntaxes=[meta.TransferSyntaxUID]
        )
        before = set(gateway.files())
        # By its path, pynetdicom sends a file as it is.
        assert association.send_c_store(file).Status == 0x0000, file.name
        association.release()
        (stored,) = set(gateway.files()) - before
        assert data_set_of(stored) == data_set_of(file), file.name
        assert pydicom.dcmread(stored).file_meta.TransferSyntaxUID == meta.TransferSyntaxUID


def test_private_transfer_syntax_is_accepted(start, associate) -> None:
    association = associate(start().port, syntaxes=["1.2.3.4.5.6"])
    assert association.is_established
    assert association.accepted_contexts[0].transfer_syntax == ["1.2.3.4.5.6"]


def test_of_several_syntaxes_the_uncompressed_one_is_taken(start, associate) -> None:
    association = associate(start().port, syntaxes=[JPEG2000, ExplicitVRBigEndian, ExplicitVRLittleEndian])
    assert association.accepted_contexts[0].transfer_syntax == [ExplicitVRLittleEndian]


@pytest.mark.parametrize("sop_class", [CT, DX_FOR_PROCESSING, SECONDARY_CAPTURE])
def test_other_sop_class_is_not_accepted(start, sop_class) -> None:
    entity = AE(ae_title="MODALITY")
    entity.add_requested_context(sop_class)
    entity.add_requested_context(VERIFICATION)
    association = entity.associate("127.0.0.1", start().port, ae_title="GATEWAY")
    assert [(cx.abstract_syntax, cx.result) for cx in association.rejected_contexts] == [(sop_class, 3)]
    association.release()


@pytest.mark.parametrize(
    ("word", "sop_class"),
    [("dx", DX), ("dx-for-processing", DX_FOR_PROCESSING), ("secondary-capture", SECONDARY_CAPTURE)],
)
def test_configured_sop_class_is_accepted(start, associate, word, sop_class) -> None:
    assert associate(start(accept=(word,)).port, sop_class=sop_class).is_established


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"calling": "STRANGER"}, (1, 1, 3)),
        ({"called": "OTHER"}, (1, 1, 7)),
        ({"calling": "ELSEWHERE"}, (1, 1, 3)),
    ],
)
def test_stranger_is_rejected(start, associate, options, code) -> None:
    elsewhere = PeerSettings(ae_title="ELSEWHERE", addresses=("10.255.255.1/32",))
    association = associate(start(peers=(PeerSettings(ae_title="MODALITY"), elsewhere)).port, **options)
    assert association.is_rejected
    answer = association.acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == code


def test_one_association_too_many_is_rejected_for_now(start, associate) -> None:
    gateway = start(max_associations=2)
    held = [associate(gateway.port) for _ in range(2)]
    assert all(one.is_established for one in held)
    answer = associate(gateway.port).acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)


def test_low_space_rejects_associations_for_now(start, associate) -> None:
    answer = associate(start(low_space_bytes=1 << 60).port).acceptor.primitive
    assert (answer.result, answer.result_source, answer.diagnostic) == (2, 3, 2)


@pytest.mark.parametrize("failing", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_answers_out_of_resources_and_leaves_nothing(
    start, associate, radiograph, monkeypatch, failing
) -> None:
    gateway = start()
    association = associate(gateway.port)

    def full(descriptor: int) -> None:
        raise OSError(failing, os.strerror(failing))

    with monkeypatch.context() as patch:
        patch.setattr("dicom_node.spool.os.fsync", full)
        assert association.send_c_store(radiograph()).Status == 0xA700
    assert gateway.files() == []
    assert gateway.leftovers() == []
    assert gateway.queue.studies() == []
    assert association.send_c_store(radiograph()).Status == 0x0000


def test_full_disk_under_the_queue_answers_out_of_resources(start, associate, radiograph) -> None:
    gateway = start()
    association = associate(gateway.port)
    with gateway.queue._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    def limit(dbapi_connection: object, *_: object) -> None:
        dbapi_connection.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]

    from sqlalchemy import event

    event.listen(gateway.queue._engine, "checkout", limit)
    statuses = set()
    for number in range(30):
        uid = f"1.2.3.{number}"
        sent = radiograph(SOPInstanceUID=uid, StudyInstanceUID=uid)
        statuses.add(int(association.send_c_store(sent).Status))
    assert statuses == {0x0000, 0xA700}
    assert len(gateway.queue.studies()) < 30


def test_unknown_error_answers_cannot_process_and_the_next_object_is_stored(
    start, associate, radiograph, monkeypatch
) -> None:
    gateway = start()
    association = associate(gateway.port)

    def broken(*_: object) -> None:
        raise RuntimeError("of the test")

    with monkeypatch.context() as patch:
        patch.setattr(gateway.queue, "add_object", broken)
        assert association.send_c_store(radiograph()).Status == 0xC211
    assert association.send_c_store(radiograph()).Status == 0x0000


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"SOPInstanceUID": "1.2.3.4.6"}, 0xA900),
        ({"SOPClassUID": DX}, 0xA900),
        ({"StudyInstanceUID": ""}, 0xC000),
        ({"StudyInstanceUID": "../../etc/passwd"}, 0xC000),
        ({"StudyInstanceUID": "1." * 40 + "1"}, 0xC000),
    ],
)
def test_object_with_wrong_identifiers_is_refused(
    start, associate, radiograph, store_raw, encode, changes, status
) -> None:
    gateway = start()
    answer = store_raw(associate(gateway.port), encode(radiograph(**changes)))
    assert answer.Status == status
    assert answer.ErrorComment
    assert gateway.files() == []
    assert gateway.queue.studies() == []


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\0", os.urandom(1000), b"\xff" * 5000, b"<html>" * 100, b"\x08\0\x16\0\xff\xff\xff\xff" * 50],
)
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"])
def test_data_set_that_is_garbage_is_refused_and_the_next_one_stored(
    start, associate, radiograph, store_raw, garbage, syntax
) -> None:
    gateway = start()
    association = associate(gateway.port, syntaxes=[syntax])
    status = store_raw(association, garbage).Status if garbage else 0xC000
    assert status in {0xC000, 0xA900}
    assert gateway.files() == []
    assert associate(gateway.port).send_c_store(radiograph()).Status == 0x0000


def test_deflated_bomb_is_inflated_only_as_far_as_the_header(start, associate, radiograph, store_raw) -> None:
    import zlib

    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(64)) + packer.flush()
    association = associate(start().port, syntaxes=["1.2.840.10008.1.2.1.99"])
    assert store_raw(association, bomb).Status in {0xC000, 0xA900}


def test_object_without_all_of_its_pixels_is_kept_for_intake_to_judge(
    start, associate, radiograph, store_raw, encode
) -> None:
    gateway = start()
    assert store_raw(associate(gateway.port), encode(radiograph())[:-1000]).Status == 0x0000
    assert len(gateway.files()) == 1


def test_sop_class_of_another_context_is_refused(start, associate, radiograph, store_raw, encode) -> None:
    gateway = start()
    answer = store_raw(associate(gateway.port), encode(radiograph(SOPClassUID=DX)), sop_class=DX)
    assert answer.Status == 0xA900
    assert gateway.files() == []


def test_same_object_twice_is_success_twice_and_kept_once(start, associate, radiograph) -> None:
    gateway = start()
    association = associate(gateway.port)
    assert [association.send_c_store(radiograph()).Status for _ in range(2)] == [0, 0]
    assert len(gateway.files()) == 1
    assert gateway.queue.study(1).objects == 1


def test_other_content_under_a_known_uid_is_kept_apart(start, associate, radiograph) -> None:
    gateway = start()
    association = associate(gateway.port)
    for comment in ("first", "second"):
        assert association.send_c_store(radiograph(ImageComments=comment)).Status == 0
    view = gateway.queue.study(1)
    assert [one.conflict for one in view.instances] == [False, True]
    comments = [pydicom.dcmread(gateway.spool.root / one.path).ImageComments for one in view.instances]
    assert comments == ["first", "second"]


@pytest.mark.parametrize(
    ("changes", "priority", "peer_is_stat", "stat"),
    [
        ({}, 2, False, False),
        ({}, 0, False, False),
        ({}, 1, False, True),
        ({}, 2, True, True),
        ({"RequestedProcedurePriority": "STAT"}, 2, False, True),
        ({"RequestedProcedurePriority": "ROUTINE"}, 2, False, False),
        ({"StudyPriorityID": "HIGH"}, 2, False, True),
    ],
)
def test_urgency_is_read_from_request_object_and_peer(
    start, associate, radiograph, changes, priority, peer_is_stat, stat
) -> None:
    gateway = start(peers=(PeerSettings(ae_title="MODALITY", stat=peer_is_stat),))
    associate(gateway.port).send_c_store(radiograph(**changes), priority=priority)
    assert gateway.queue.study(1).stat is stat


def test_peers_quiet_period_is_used(start, associate, radiograph) -> None:
    gateway = start(peers=(PeerSettings(ae_title="MODALITY", quiet_period_s=1000),))
    associate(gateway.port).send_c_store(radiograph())
    view = gateway.queue.study(1)
    assert view.next_attempt_at is not None
    assert view.next_attempt_at - view.created_at > 800


def closed_by_peer(connection: socket.socket) -> bool:
    connection.settimeout(5)
    try:
        while connection.recv(4096):
            pass
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        struct.pack(">BBL", 1, 0, 0xFFFFFFF0),
        struct.pack(">BBL", 4, 0, 10) + b"\0" * 10,
        struct.pack(">BBL", 1, 0, 68) + os.urandom(68),
    ],
    ids=["http", "tls", "four gigabytes", "data first", "random request"],
)
def test_connection_that_speaks_something_else_is_closed_and_others_are_served(
    start, associate, first
) -> None:
    gateway = start(timeout_s=0.5)
    with socket.create_connection(("127.0.0.1", gateway.port)) as connection:
        connection.sendall(first)
        assert closed_by_peer(connection)
    assert associate(gateway.port).is_established


def test_silent_and_vanishing_clients_do_not_keep_others_out(start, associate, radiograph) -> None:
    gateway = start(max_associations=1)
    silent = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(10)]
    for connection in silent[:5]:
        connection.close()
    association = associate(gateway.port)
    assert association.send_c_store(radiograph()).Status == 0x0000
    association.release()
    for connection in silent[5:]:
        connection.close()
    # pynetdicom alone would keep a thread for each of them until its time-out.
    deadline = time.monotonic() + 4
    while not gateway.listener.drained() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert gateway.listener.drained()


def test_object_larger_than_the_limit_ends_the_association(start, associate, radiograph) -> None:
    gateway = start(max_object_mb=1)
    association = associate(gateway.port)
    answer = association.send_c_store(radiograph(PixelData=bytes(3 << 20)))
    assert "Status" not in answer
    assert gateway.files() == []
    small = associate(gateway.port)
    assert [small.send_c_store(radiograph(PixelData=bytes(600 << 10))).Status for _ in range(4)] == [0] * 4


def test_log_names_the_study_by_number_and_holds_no_patient(
    start, associate, radiograph, store_raw, encode, caplog
) -> None:
    caplog.set_level(logging.DEBUG, logger="dicom_node")
    gateway = start()
    association = associate(gateway.port)
    association.send_c_store(radiograph())
    store_raw(association, encode(radiograph(StudyInstanceUID="9.9.9.Quayle")))
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert any('"event": "object stored"' in line and '"study": 1' in line for line in lines)
    text = "\n".join(lines)
    for secret in ("Quayle", "Ximena", "PID-770077", "1.2.3"):
        assert secret not in text


def test_stop_ends_the_listener_and_frees_the_port(start) -> None:
    gateway = start()
    port = gateway.port
    gateway.listener.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    gateway.listener.stop = lambda: None  # type: ignore[method-assign]
    assert start(port=port).port == port


@dcmtk
@pytest.mark.peer
def test_dcmtk_echoes_and_stores(start, samples) -> None:
    gateway = start()
    own = ["-aet", "MODALITY", "-aec", "GATEWAY", "127.0.0.1", str(gateway.port)]
    subprocess.run(["echoscu", *own], check=True, timeout=30)
    file = next(one for one in samples if "rle" in one.name)
    subprocess.run(["storescu", "-xr", *own, str(file)], check=True, timeout=30)
    assert data_set_of(gateway.files()[0]) == data_set_of(file)


@dcmtk
@pytest.mark.peer
def test_dcmtk_is_told_why_it_is_rejected(start) -> None:
    command = ["echoscu", "-aet", "STRANGER", "-aec", "GATEWAY", "127.0.0.1", str(start().port)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert answer.returncode != 0
    assert "Calling AE Title Not Recognized" in answer.stderr


def test_many_associations_at_once_lose_nothing(start, associate, radiograph) -> None:
    import threading

    gateway = start()
    failures: list[object] = []

    def send(number: int) -> None:
        association = associate(gateway.port)
        for instance in range(3):
            uid = f"1.2.{number}.{instance}"
            answer = association.send_c_store(
                radiograph(StudyInstanceUID=f"1.2.{number}", SOPInstanceUID=uid)
            )
            if answer.get("Status") != 0:
                failures.append(answer)
        association.release()

    threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(gateway.files()) == 12
    assert sum(view.objects for view in gateway.queue.studies()) == 12
    deadline = time.monotonic() + 5
    while not gateway.listener.drained() and time.monotonic() < deadline:
        time.sleep(0.05)
