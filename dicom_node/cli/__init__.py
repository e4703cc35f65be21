"""The command line ``blindread``: the composition root, where rooms are put together."""

from dicom_node.cli.app import main

__all__ = ["main"]
