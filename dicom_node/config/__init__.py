"""Configuration: TOML in, checked and frozen settings out."""

from dicom_node.config.load import load_settings, parse_settings
from dicom_node.config.settings import (
    ClientTlsSettings,
    CodeSettings,
    DestinationSettings,
    InferenceSettings,
    ListenerSettings,
    NodeSettings,
    PeerSettings,
    QueueSettings,
    ReportSettings,
    SelectionSettings,
    ServerTlsSettings,
    Settings,
)

__all__ = [
    "ClientTlsSettings",
    "CodeSettings",
    "DestinationSettings",
    "InferenceSettings",
    "ListenerSettings",
    "NodeSettings",
    "PeerSettings",
    "QueueSettings",
    "ReportSettings",
    "SelectionSettings",
    "ServerTlsSettings",
    "Settings",
    "load_settings",
    "parse_settings",
]
