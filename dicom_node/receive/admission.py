"""Who may send: decided once for each association, before anything is accepted (PS3.8 section 9.3.4)."""

import ipaddress
from dataclasses import dataclass

from dicom_node.config import ListenerSettings, PeerSettings

#: PS3.7 annex A: the only application context.
DICOM_APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"


@dataclass(frozen=True, slots=True)
class Rejection:
    """An A-ASSOCIATE-RJ (PS3.8 table 9-21).

    Attributes
    ----------
    result : int
        1 permanent, 2 transient.
    source : int
        1 the service user, 2 the provider (ACSE), 3 the provider (presentation).
    reason : int
        Depends on the source.
    text : str
        For the log.
    """

    result: int
    source: int
    reason: int
    text: str


APPLICATION_CONTEXT_UNKNOWN = Rejection(1, 1, 2, "application context name not supported")
CALLING_AE_UNKNOWN = Rejection(1, 1, 3, "calling AE title not recognised")
CALLING_ADDRESS_WRONG = Rejection(1, 1, 3, "calling AE title not allowed from this address")
CALLED_AE_UNKNOWN = Rejection(1, 1, 7, "called AE title not recognised")
TOO_MANY = Rejection(2, 3, 2, "local limit exceeded: too many associations")
NO_ROOM = Rejection(2, 3, 2, "local limit exceeded: the spool's disk is almost full")


@dataclass(frozen=True, slots=True)
class Request:
    """What an association request says about itself."""

    calling_ae: str
    called_ae: str
    address: str
    application_context: str


def admit(
    request: Request,
    listener: ListenerSettings,
    peers: tuple[PeerSettings, ...],
    *,
    active: int,
    room: bool,
) -> Rejection | None:
    """Decides about an association.

    Parameters
    ----------
    request : Request
        What the peer asks for; AE titles without the spaces around them.
    listener : ListenerSettings
        The port on which it asks.
    peers : tuple of PeerSettings
        Who may send.
    active : int
        Associations under way on this port, without this one.
    room : bool
        Whether the spool's disk has room.

    Returns
    -------
    Rejection or None
        None admits.
    """
    if request.application_context != DICOM_APPLICATION_CONTEXT:
        return APPLICATION_CONTEXT_UNKNOWN
    if not listener.any_called and request.called_ae != listener.ae_title:
        return CALLED_AE_UNKNOWN
    peer = next((one for one in peers if one.ae_title == request.calling_ae), None)
    if peer is None and not listener.any_caller:
        return CALLING_AE_UNKNOWN
    if peer is not None and peer.addresses and not _within(request.address, peer.addresses):
        return CALLING_ADDRESS_WRONG
    if active >= listener.max_associations:
        return TOO_MANY
    if not room:
        return NO_ROOM
    return None


def _within(address: str, networks: tuple[str, ...]) -> bool:
    # A link-local IPv6 address comes with its interface ("fe80::1%eth0").
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in ipaddress.ip_network(network) for network in networks)
