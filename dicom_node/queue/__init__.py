"""The queue of studies: states, leases, attempts, results, reports, deliveries."""

from dicom_node.queue.moves import Reason
from dicom_node.queue.queue import Queue
from dicom_node.queue.records import (
    Arrival,
    Claim,
    DeliveryView,
    HistoryEntry,
    InstanceView,
    ObjectRecord,
    Outcome,
    Priority,
    Receipt,
    StudyView,
)
from dicom_node.queue.states import CLAIMABLE, ENDED, TRANSITIONS, Effect, Event, State, transition

__all__ = [
    "CLAIMABLE",
    "ENDED",
    "TRANSITIONS",
    "Arrival",
    "Claim",
    "DeliveryView",
    "Effect",
    "Event",
    "HistoryEntry",
    "InstanceView",
    "ObjectRecord",
    "Outcome",
    "Priority",
    "Queue",
    "Reason",
    "Receipt",
    "State",
    "StudyView",
    "transition",
]
