"""What can keep a report from being made.

::

    ReportError             report
    +-- CodeInvalid         report.code
    +-- ImageUnsuitable     report.image
    +-- ResultUnsuitable    report.result
"""

from dicom_node.errors import NodeError


class ReportError(NodeError):
    """No report could be made."""

    code = "report"


class CodeInvalid(ReportError):
    """A coded concept is malformed; a SNOMED CT identifier fails its check digit."""

    code = "report.code"


class ImageUnsuitable(ReportError):
    """The image lacks the identifiers that a report must refer to."""

    code = "report.image"


class ResultUnsuitable(ReportError):
    """The result can't be said in the report's terms."""

    code = "report.result"
