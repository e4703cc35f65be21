"""Reports go to where the site wants them, and are delivered when the destination says so."""

from dicom_node.deliver.errors import DeliverError
from dicom_node.deliver.scu import echo, send

__all__ = ["DeliverError", "echo", "send"]
