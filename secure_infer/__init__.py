"""Private inference of convolutional networks between two parties; knows no DICOM."""

__version__ = "0.1.0"
