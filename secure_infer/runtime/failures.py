"""The compiled core's failures in this package's own words; the one place that knows the core's codes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from secure_infer._native import NativeError
from secure_infer.errors import (
    BundleMismatch,
    Cancelled,
    CertificateInvalid,
    InputRejected,
    PeerRejected,
    PeerUnreachable,
    ProgramError,
    ProtocolError,
    RuntimeFailure,
    SecureInferError,
    Timeout,
)

_CLASSES: Final[Mapping[str, type[SecureInferError]]] = {
    "bundle": BundleMismatch,
    "cancelled": Cancelled,
    "input": InputRejected,
    "timeout": Timeout,
    "program": ProgramError,
    "private_parameters": ProgramError,
    "credentials": CertificateInvalid,
    # Trying again later may help.
    "connect": PeerUnreachable,
    "peer_closed": PeerUnreachable,
    "connection": PeerUnreachable,
    "session_closed": PeerUnreachable,
    "busy": PeerUnreachable,
    "idle": PeerUnreachable,
    "shutdown": PeerUnreachable,
    # Only a person can help.
    "budget": PeerRejected,
    "engine": PeerRejected,
    "parameters": PeerRejected,
    "version": PeerRejected,
    # This side's own trouble.
    "argument": RuntimeFailure,
    "budget_store": RuntimeFailure,
    "listen": RuntimeFailure,
    "no_entropy": RuntimeFailure,
    "no_ticket": RuntimeFailure,
    "panic": RuntimeFailure,
    "threads": RuntimeFailure,
}


def translate(error: NativeError) -> SecureInferError:
    """The exception of `secure_infer.errors` for one of the core; what isn't known is the protocol's.

    The core's finer code, such as ``certificate_expired``, is ``args[0]`` of the new error's cause.
    """
    code, message = error.args
    if code.startswith("certificate"):
        return PeerRejected(message)
    return _CLASSES.get(code, ProtocolError)(message)


@contextmanager
def translated() -> Iterator[None]:
    """Within it, the core raises exceptions of `secure_infer.errors`."""
    try:
        yield
    except NativeError as error:
        raise translate(error) from error
