"""What an answer to C-STORE means for the sender (PS3.4 B.2.3, GG.4.2; PS3.7 annex C).

==========================  ==================================  ===========
status                      meaning                             here
==========================  ==================================  ===========
0x0000                      success                             delivered
0xB000, 0xB006, 0xB007      stored with a remark                delivered
0x0001, 0x0107, 0x0116, Bx  other warnings                      delivered
0x0111                      the destination has this object     delivered
0xA7xx                      out of resources                    again later
0x0110, 0x0210, 0x0213      processing failure, busy            again later
0xA9xx, 0xCxxx, the rest    the object is not accepted          a person
none                        aborted, or no answer in time       again later
==========================  ==================================  ===========

NOTE: 0x0111 (Duplicate SOP Instance) is listed as a failure; here it answers the question that matters: a
report's identifier is derived from the image and the model, so an object that has it is that report.
"""

from typing import Final

from dicom_node.steps import DeliveryResult

_WARNINGS: Final = frozenset({0x0001, 0x0107, 0x0116})
_TRANSIENT: Final = frozenset({0x0110, 0x0210, 0x0213})
_DUPLICATE: Final = 0x0111


def classify(status: int | None) -> DeliveryResult:
    """The result of one C-STORE; None stands for no answer."""
    if status is None:
        return DeliveryResult(delivered=False, status="no answer to C-STORE", retryable=True)
    text = f"0x{status:04X}"
    if status == 0x0000:
        return DeliveryResult(delivered=True, status=text, retryable=False)
    if status in _WARNINGS or status >> 12 == 0xB:
        return DeliveryResult(delivered=True, status=f"{text} (warning)", retryable=False)
    if status == _DUPLICATE:
        return DeliveryResult(delivered=True, status=f"{text} (the destination has it)", retryable=False)
    if status >> 8 == 0xA7:
        return DeliveryResult(delivered=False, status=f"{text} (out of resources)", retryable=True)
    return DeliveryResult(delivered=False, status=f"{text} (refused)", retryable=status in _TRANSIENT)
