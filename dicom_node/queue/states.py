"""A study's life as one table: state, event, next state, side effect.

Each state names what is to be done next, so a crash loses nothing: whoever claims the study afterwards does
the same step again, and each step may be done twice without harm (same image chosen, same report made, same
object sent under the same identifiers).

::

    receiving -> ready -> selecting -> inferring -> reporting -> delivering -> delivered
                              |            |             |            |
                              +------------+-- skipped | held | failed | cancelled

An event that is not in a state's row can't happen there: `transition` raises `IllegalEvent`.
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from dicom_node.errors import IllegalEvent


class State(StrEnum):
    """What a study waits for."""

    RECEIVING = "receiving"
    """More objects, or the end of the quiet period."""
    READY = "ready"
    """A worker."""
    SELECTING = "selecting"
    """The choice of its image."""
    INFERRING = "inferring"
    """The private inference on the chosen image."""
    REPORTING = "reporting"
    """The making of the report from the stored result."""
    DELIVERING = "delivering"
    """The destinations' word that they have the stored report."""
    DELIVERED = "delivered"
    """Nothing: every destination has the report."""
    SKIPPED = "skipped"
    """Nothing: the model is for none of its images."""
    HELD = "held"
    """A person: something that trying again does not mend."""
    FAILED = "failed"
    """A person: it was tried until the limits (the dead letters)."""
    CANCELLED = "cancelled"
    """Nothing: a person said so."""


class Event(StrEnum):
    """What happens to a study."""

    OBJECT_STORED = "object-stored"
    COMPLETED = "completed"
    CLAIMED = "claimed"
    SELECTED = "selected"
    RESULT_FOUND = "result-found"
    REPORT_FOUND = "report-found"
    UNCHANGED = "unchanged"
    NOT_FOR_MODEL = "not-for-model"
    INFERRED = "inferred"
    REPORTED = "reported"
    MODEL_CHANGED = "model-changed"
    DELIVERED = "delivered"
    ATTEMPT_FAILED = "attempt-failed"
    REFUSED = "refused"
    GAVE_UP = "gave-up"
    RELEASED = "released"
    LEASE_EXPIRED = "lease-expired"
    RETRIED = "retried"
    CANCELLED = "cancelled"


class Effect(StrEnum):
    """What changes in the study's row besides its state."""

    NOTHING = "nothing"
    AWAIT_MORE = "await more"
    """The quiet period begins again; no lease."""
    NOTE_LATE = "note late"
    """The study reopens when the work in progress has ended."""
    OFFER = "offer"
    """May be claimed at once, with all attempts before it; no lease."""
    HURRY = "hurry"
    """May be claimed at once; a lease stays."""
    LEASE = "lease"
    """Belongs to the worker until the lease ends."""
    ADVANCE = "advance"
    """The next step, with all attempts before it; the lease stays."""
    BACK_OFF = "back off"
    """One attempt more; may be claimed after a pause; no lease."""
    RELEASE = "release"
    """May be claimed at once, nothing counted; no lease."""
    COUNT_CRASH = "count crash"
    """One crash more; may be claimed at once; no lease."""
    CLOSE = "close"
    """No lease; when objects came late, `OBJECT_STORED` happens at once."""
    SEND_AGAIN = "send again"
    """Every destination gets the stored report again; as OFFER."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of the table."""

    state: State
    event: Event
    next: State
    effect: Effect


def _rows() -> tuple[Transition, ...]:
    s, e, f = State, Event, Effect
    rows = [
        (s.RECEIVING, e.OBJECT_STORED, s.RECEIVING, f.AWAIT_MORE),
        (s.RECEIVING, e.COMPLETED, s.READY, f.OFFER),
        (s.RECEIVING, e.RETRIED, s.READY, f.OFFER),
        (s.RECEIVING, e.CANCELLED, s.CANCELLED, f.CLOSE),
        #
        (s.READY, e.OBJECT_STORED, s.RECEIVING, f.AWAIT_MORE),
        (s.READY, e.CLAIMED, s.SELECTING, f.LEASE),
        (s.READY, e.RETRIED, s.READY, f.HURRY),
        (s.READY, e.CANCELLED, s.CANCELLED, f.CLOSE),
        #
        (s.SELECTING, e.SELECTED, s.INFERRING, f.ADVANCE),
        (s.SELECTING, e.RESULT_FOUND, s.REPORTING, f.ADVANCE),
        (s.SELECTING, e.REPORT_FOUND, s.DELIVERING, f.ADVANCE),
        (s.SELECTING, e.UNCHANGED, s.DELIVERED, f.CLOSE),
        (s.SELECTING, e.NOT_FOR_MODEL, s.SKIPPED, f.CLOSE),
        #
        (s.INFERRING, e.INFERRED, s.REPORTING, f.ADVANCE),
        (s.INFERRING, e.MODEL_CHANGED, s.SELECTING, f.ADVANCE),
        #
        (s.REPORTING, e.REPORTED, s.DELIVERING, f.ADVANCE),
        (s.REPORTING, e.MODEL_CHANGED, s.SELECTING, f.ADVANCE),
        #
        (s.DELIVERING, e.DELIVERED, s.DELIVERED, f.CLOSE),
        #
        (s.DELIVERED, e.OBJECT_STORED, s.RECEIVING, f.AWAIT_MORE),
        (s.DELIVERED, e.RETRIED, s.DELIVERING, f.SEND_AGAIN),
        #
        (s.CANCELLED, e.OBJECT_STORED, s.CANCELLED, f.NOTHING),
        (s.CANCELLED, e.RETRIED, s.READY, f.OFFER),
    ]
    for working in (s.SELECTING, s.INFERRING, s.REPORTING, s.DELIVERING):
        rows += [
            (working, e.OBJECT_STORED, working, f.NOTE_LATE),
            (working, e.CLAIMED, working, f.LEASE),
            (working, e.ATTEMPT_FAILED, working, f.BACK_OFF),
            (working, e.REFUSED, s.HELD, f.CLOSE),
            (working, e.GAVE_UP, s.FAILED, f.CLOSE),
            (working, e.RELEASED, working, f.RELEASE),
            (working, e.LEASE_EXPIRED, working, f.COUNT_CRASH),
            (working, e.RETRIED, working, f.HURRY),
            (working, e.CANCELLED, s.CANCELLED, f.CLOSE),
        ]
    for ended in (s.SKIPPED, s.HELD, s.FAILED):
        rows += [
            (ended, e.OBJECT_STORED, s.RECEIVING, f.AWAIT_MORE),
            (ended, e.RETRIED, s.READY, f.OFFER),
            (ended, e.CANCELLED, s.CANCELLED, f.CLOSE),
        ]
    return tuple(Transition(*row) for row in rows)


#: The table.
TRANSITIONS: tuple[Transition, ...] = _rows()

_BY_STATE_AND_EVENT = MappingProxyType({(row.state, row.event): row for row in TRANSITIONS})

#: States in which a worker may claim a study (when nobody holds a lease and its time has come).
CLAIMABLE: frozenset[State] = frozenset(row.state for row in TRANSITIONS if row.event is Event.CLAIMED)

#: States that a study stays in until somebody or something from outside steps in.
ENDED: frozenset[State] = frozenset(
    {State.DELIVERED, State.SKIPPED, State.HELD, State.FAILED, State.CANCELLED},
)


def transition(state: State, event: Event) -> Transition:
    """The row for an event in a state.

    Raises
    ------
    IllegalEvent
        The table has no such row.
    """
    row = _BY_STATE_AND_EVENT.get((state, event))
    if row is None:
        allowed = ", ".join(sorted(one.event for one in TRANSITIONS if one.state is state))
        raise IllegalEvent(f"event in state {state.value!r}", expected=f"one of {allowed}", got=event.value)
    return row
