"""Results become a DICOM Structured Report."""

from dicom_node.report.errors import ReportError
from dicom_node.report.sr import build_report, report_uid
from dicom_node.report.tree import print_content_tree

__all__ = ["ReportError", "build_report", "print_content_tree", "report_uid"]
