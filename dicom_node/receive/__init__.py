"""Receiving objects: associations, TLS, the spool's way in. Runs in a process of its own."""

from dicom_node.receive.listener import Listener, silence_libraries

__all__ = ["Listener", "silence_libraries"]
