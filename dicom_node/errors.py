"""Every error that `dicom_node` raises on purpose.

::

    NodeError                   node
    +-- ConfigError             config
    +-- NodeBusy                node.busy
    +-- ReceiveError            receive
    |   +-- SpoolFull           receive.full
    |   +-- ObjectRefused       receive.refused
    |   +-- ObjectMismatch      receive.mismatch
    +-- QueueError              queue
    |   +-- StudyNotFound       queue.study
    |   +-- IllegalEvent        queue.event
    |   +-- LeaseLost           queue.lease
    |   +-- QueueVersion        queue.version
    |   +-- OutcomeDamaged      queue.outcome
    +-- InferenceError          inference
        +-- PartyUnreachable    inference.unreachable    (tried again)
        +-- PartyTimeout        inference.timeout        (tried again)
        +-- PartyFaulty         inference.protocol       (tried again)
        +-- PartyRejected       inference.rejected
        +-- BundleUnusable      inference.bundle
        +-- ImageRejected       inference.image

A ``code`` is stable: programs, and the queue's table, may compare it. Messages read "what: expected X, got Y"
and never contain patient data, keys or shares: they are written to logs and to the queue.
"""

from typing import ClassVar


class NodeError(Exception):
    """Root of the tree; catch this to catch all of them.

    Attributes
    ----------
    code : str
        Stable name of the kind of error.
    retryable : bool
        Whether doing the same again later may succeed without a person's help. The queue tries such a study
        again after a pause and holds the others for a person.

    Parameters
    ----------
    what : str
        The thing that was wrong, in a few words.
    expected, got : object, optional
        What was wanted and what was found, formatted with ``str``; None leaves that part out.
    """

    code: ClassVar[str] = "node"
    retryable: ClassVar[bool] = False

    def __init__(self, what: str, *, expected: object = None, got: object = None) -> None:
        self.what = what
        self.expected = expected
        self.got = got
        parts = [f"expected {expected}"] if expected is not None else []
        parts += [f"got {got}"] if got is not None else []
        super().__init__(f"{what}: {', '.join(parts)}" if parts else what)


class ConfigError(NodeError):
    """The configuration can't be used; the message names the file, the line, the key, the allowed values."""

    code = "config"


class NodeBusy(NodeError):
    """Another process works on the same spool."""

    code = "node.busy"


class ReceiveError(NodeError):
    """An object that was sent to the gateway was not stored."""

    code = "receive"


class SpoolFull(ReceiveError):
    """There is no space left for an object; the sender may try again."""

    code = "receive.full"
    retryable = True


class ObjectRefused(ReceiveError):
    """An object's header can't be understood, or lacks the identifiers to file it under."""

    code = "receive.refused"


class ObjectMismatch(ReceiveError):
    """An object is not what the C-STORE request announced."""

    code = "receive.mismatch"


class QueueError(NodeError):
    """The queue of studies was used in a way that it does not allow."""

    code = "queue"


class StudyNotFound(QueueError):
    """There is no study with this number."""

    code = "queue.study"


class IllegalEvent(QueueError):
    """The event can't happen in the study's state."""

    code = "queue.event"


class LeaseLost(QueueError):
    """The study no longer belongs to this worker: its lease ran out, or a person stepped in."""

    code = "queue.lease"


class QueueVersion(QueueError):
    """The database was written by another version of the program."""

    code = "queue.version"


class OutcomeDamaged(QueueError):
    """A stored report or image is gone from the spool, or is not what was stored."""

    code = "queue.outcome"


class InferenceError(NodeError):
    """The private inference failed."""

    code = "inference"


class PartyUnreachable(InferenceError):
    """The developer's party could not be reached, or the connection broke."""

    code = "inference.unreachable"
    retryable = True


class PartyTimeout(InferenceError):
    """The developer's party was silent for too long."""

    code = "inference.timeout"
    retryable = True


class PartyFaulty(InferenceError):
    """The developer's party sent something that no correct implementation sends."""

    code = "inference.protocol"
    retryable = True


class PartyRejected(InferenceError):
    """One party refused the other: certificate, protocol version, budget or bundle."""

    code = "inference.rejected"


class BundleUnusable(InferenceError):
    """The model bundle can't be read, isn't trusted, or isn't the one that the other party has."""

    code = "inference.bundle"


class ImageRejected(InferenceError):
    """The image doesn't have the shape or range that the model asks for."""

    code = "inference.image"
