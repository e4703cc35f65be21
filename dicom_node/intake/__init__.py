"""Objects from outside become a chosen image and the model's input."""

from dicom_node.intake.errors import IntakeError
from dicom_node.intake.pixels import display, pixels
from dicom_node.intake.selection import narrow, select_study

__all__ = ["IntakeError", "display", "narrow", "pixels", "select_study"]
