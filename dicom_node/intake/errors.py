"""What can be wrong with an object that arrived.

::

    IntakeError                     intake
    +-- NotDicom                    intake.not_dicom
    +-- ObjectDamaged               intake.damaged
    +-- ObjectTooLarge              intake.too_large
    +-- PixelsMissing               intake.no_pixels
    +-- PixelsUnsupported           intake.unsupported
    +-- PixelsUndecodable           intake.undecodable
    +-- PresentationContradictory   intake.presentation

None is retryable: the same object will not read better later.
"""

from dicom_node.errors import NodeError


class IntakeError(NodeError):
    """An object can't become the model's input."""

    code = "intake"


class NotDicom(IntakeError):
    """The file is no DICOM file (PS3.10 section 7.1)."""

    code = "intake.not_dicom"


class ObjectDamaged(IntakeError):
    """The dataset is cut off, or its elements contradict each other."""

    code = "intake.damaged"


class ObjectTooLarge(IntakeError):
    """The file, its inflated form or its picture exceeds a limit; nothing of that size was allocated."""

    code = "intake.too_large"


class PixelsMissing(IntakeError):
    """The object has no pixel data."""

    code = "intake.no_pixels"


class PixelsUnsupported(IntakeError):
    """The pixels are of a kind that no radiograph has: several frames, a palette, 32 bits, unknown coding."""

    code = "intake.unsupported"


class PixelsUndecodable(IntakeError):
    """The pixel data is damaged."""

    code = "intake.undecodable"


class PresentationContradictory(IntakeError):
    """Photometric Interpretation and Presentation LUT Shape disagree on what is black."""

    code = "intake.presentation"
