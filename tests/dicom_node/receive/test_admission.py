"""Who is admitted: the decision alone."""

import pytest

from dicom_node.config import ListenerSettings, PeerSettings
from dicom_node.receive.admission import DICOM_APPLICATION_CONTEXT, Request, admit

LISTENER = ListenerSettings(ae_title="GATEWAY")
PEERS = (
    PeerSettings(ae_title="ANYWHERE"),
    PeerSettings(ae_title="ROOM1", addresses=("10.0.0.5/32", "192.168.0.0/16", "fd00::/8")),
)


def request(
    calling: str = "ANYWHERE", called: str = "GATEWAY", address: str = "10.0.0.1", **more: str
) -> Request:
    context = more.get("context", DICOM_APPLICATION_CONTEXT)
    return Request(calling_ae=calling, called_ae=called, address=address, application_context=context)


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        (request(context="1.2.3"), (1, 1, 2)),
        (request(called="OTHER"), (1, 1, 7)),
        (request(calling="STRANGER"), (1, 1, 3)),
        (request(calling="anywhere"), (1, 1, 3)),
        (request(calling=""), (1, 1, 3)),
        (request(calling="ROOM1", address="10.0.0.6"), (1, 1, 3)),
        (request(calling="ROOM1", address="::ffff:10.0.0.6"), (1, 1, 3)),
    ],
)
def test_stranger_is_rejected_with_the_reason_of_the_standard(asked: Request, code: tuple[int, ...]) -> None:
    rejection = admit(asked, LISTENER, PEERS, active=0, room=True)
    assert rejection is not None
    assert (rejection.result, rejection.source, rejection.reason) == code


@pytest.mark.parametrize(
    "address", ["10.0.0.5", "192.168.7.7", "::ffff:192.168.7.7", "fd00::1", "fd12::1%eth0"]
)
def test_peer_from_its_own_address_is_admitted(address: str) -> None:
    assert admit(request(calling="ROOM1", address=address), LISTENER, PEERS, active=0, room=True) is None


def test_full_disk_rejects_transiently_and_only_those_who_might_send() -> None:
    rejection = admit(request(), LISTENER, PEERS, active=0, room=False)
    assert rejection is not None
    assert (rejection.result, rejection.source, rejection.reason) == (2, 3, 2)
    stranger = admit(request(calling="STRANGER"), LISTENER, PEERS, active=0, room=False)
    assert stranger is not None
    assert stranger.result == 1


def test_any_caller_admits_strangers_but_keeps_known_peers_to_their_addresses() -> None:
    listener = ListenerSettings(ae_title="GATEWAY", any_caller=True)
    assert admit(request(calling="STRANGER"), listener, PEERS, active=0, room=True) is None
    assert (
        admit(request(calling="ROOM1", address="10.9.9.9"), listener, PEERS, active=0, room=True) is not None
    )


def test_any_called_admits_every_called_title() -> None:
    assert (
        admit(
            request(called="X"),
            ListenerSettings(ae_title="GATEWAY", any_called=True),
            PEERS,
            active=0,
            room=True,
        )
        is None
    )


@pytest.mark.parametrize(("active", "admitted"), [(0, True), (63, True), (64, False), (100, False)])
def test_associations_are_counted(active: int, admitted: bool) -> None:
    rejection = admit(request(), LISTENER, PEERS, active=active, room=True)
    assert (rejection is None) is admitted
    if rejection:
        assert (rejection.result, rejection.source, rejection.reason) == (2, 3, 2)
