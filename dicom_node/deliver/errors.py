"""What can be wrong on this side of a delivery; what the destination says is a `DeliveryResult`.

::

    DeliverError            deliver
    +-- FileUnsendable      deliver.file
    +-- CredentialsInvalid  deliver.tls
"""

from dicom_node.errors import NodeError


class DeliverError(NodeError):
    """Nothing was sent, and sending again will not help."""

    code = "deliver"


class FileUnsendable(DeliverError):
    """The file is missing or no DICOM object."""

    code = "deliver.file"


class CredentialsInvalid(DeliverError):
    """The certificate, its key or the authority can't be read."""

    code = "deliver.tls"
