"""The gateway's settings as frozen, checked types. `config/gateway.example.toml` explains each for people."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

from dicom_node.config import checks as c

_DAY_S = 86_400

_modality = c.text("a modality code such as 'DX'", r"[A-Z]{2,16}")
_body_part = c.text("a body part such as 'CHEST'", r"[A-Z0-9 _]{1,16}")
_scheme = c.text("a coding scheme designator of 1 to 16 characters", r"[A-Za-z0-9_.-]{1,16}")
_code_value = c.text("a code of 1 to 64 characters without spaces", r"[!-~]{1,64}")
_short_name = c.text("1 to 32 of a-z, 0-9, '-'", r"[a-z0-9-]{1,32}")
_sop_class = c.choice("cr", "dx", "dx-for-processing", "secondary-capture")
_fingerprint = c.text("a SHA-256 of 64 hexadecimal digits", r"[0-9a-f]{64}")
_sr_class = c.choice("comprehensive-3d", "comprehensive", "enhanced", "basic-text")


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeSettings:
    """``[node]``: the gateway as a whole."""

    spool: Annotated[Path, c.path()]
    name: Annotated[str, _short_name] = "gateway"
    log_format: Annotated[str, c.choice("text", "json")] = "text"
    log_level: Annotated[str, c.choice("debug", "info", "warning", "error")] = "info"
    low_space_mb: Annotated[int, c.integer(0, 10_000_000)] = 1024
    retention_days: Annotated[int, c.integer(0, 36_500)] = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerTlsSettings:
    """``[listener.tls]``: PS3.15 B.12, B.13 (BCP 195)."""

    certificate: Annotated[Path, c.existing_file()]
    key: Annotated[Path, c.existing_file()]
    clients: Annotated[str, c.choice("none", "optional", "required")] = "required"
    authority: Annotated[Path | None, c.existing_file()] = None
    minimum_version: Annotated[str, c.choice("1.2", "1.3")] = "1.2"
    handshake_timeout_s: Annotated[float, c.number(0.1, 300)] = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ListenerSettings:
    """``[[listener]]``: a port on which modalities send."""

    ae_title: Annotated[str, c.ae_title()]
    host: Annotated[str, c.host()] = "0.0.0.0"  # noqa: S104 - a gateway serves its network; bind narrower by configuration
    port: Annotated[int, c.port()] = 11112
    any_called: Annotated[bool, c.flag()] = False
    any_caller: Annotated[bool, c.flag()] = False
    max_associations: Annotated[int, c.integer(1, 10_000)] = 64
    max_pdu_bytes: Annotated[int, c.integer(4096, 16_777_216)] = 1_048_576
    max_object_mb: Annotated[int, c.integer(1, 2047)] = 128
    backlog: Annotated[int, c.integer(1, 4096)] = 128
    timeout_s: Annotated[float, c.number(0.1, 3600)] = 60.0
    accept: Annotated[tuple[str, ...], c.array(_sop_class, least=1)] = ("cr", "dx")
    tls: Annotated[ServerTlsSettings | None, c.section(ServerTlsSettings)] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PeerSettings:
    """``[[peer]]``: an application entity that may send."""

    ae_title: Annotated[str, c.ae_title()]
    addresses: Annotated[tuple[str, ...], c.array(c.network())] = ()
    quiet_period_s: Annotated[float | None, c.number(0, _DAY_S)] = None
    stat: Annotated[bool, c.flag()] = False


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueSettings:
    """``[queue]``: when a study is complete, and how often work is tried again."""

    quiet_period_s: Annotated[float, c.number(0, _DAY_S)] = 30.0
    complete_after_s: Annotated[float, c.number(1, 7 * _DAY_S)] = 900.0
    tick_s: Annotated[float, c.number(0.05, 60)] = 1.0
    lease_s: Annotated[float, c.number(1, _DAY_S)] = 120.0
    retry_first_s: Annotated[float, c.number(0, 3600)] = 10.0
    retry_longest_s: Annotated[float, c.number(0, _DAY_S)] = 900.0
    give_up_after_s: Annotated[float, c.number(1, 365 * _DAY_S)] = 3.0 * _DAY_S
    crashes_allowed: Annotated[int, c.integer(1, 1000)] = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectionSettings:
    """``[selection]``: which images the model may see."""

    modalities: Annotated[tuple[str, ...], c.array(_modality, least=1)] = ("CR", "DX")
    body_parts: Annotated[tuple[str, ...], c.array(_body_part, least=1)] = ("CHEST", "THORAX")
    body_part_missing: Annotated[str, c.choice("accept", "hold", "skip")] = "hold"
    views: Annotated[tuple[str, ...], c.array(c.choice("PA", "AP", "LL", "RL"), least=1)] = ("PA", "AP")
    view_unknown: Annotated[str, c.choice("hold", "skip")] = "hold"
    for_processing: Annotated[bool, c.flag()] = False
    burned_in_annotation: Annotated[bool, c.flag()] = False
    minimum_age_years: Annotated[float | None, c.number(0, 150)] = None
    maximum_age_years: Annotated[float | None, c.number(0, 150)] = None
    age_unknown: Annotated[str, c.choice("accept", "hold", "skip")] = "accept"


@dataclass(frozen=True, kw_only=True, slots=True)
class InferenceSettings:
    """``[inference]``: the model's bundle and the developer's party."""

    bundle: Annotated[Path, c.existing_folder()]
    trusted_key: Annotated[Path | None, c.existing_file()] = None
    host: Annotated[str, c.host()]
    port: Annotated[int, c.integer(1, 65535)]
    server_name: Annotated[str | None, c.host()] = None
    fingerprint: Annotated[str | None, _fingerprint] = None
    authority: Annotated[Path, c.existing_file()]
    certificate: Annotated[Path, c.existing_file()]
    key: Annotated[Path, c.existing_file()]
    tickets: Annotated[int, c.integer(0, 64)] = 1
    timeout_s: Annotated[float, c.number(1, 3600)] = 120.0
    ot_engine: Annotated[str, c.choice("auto", "softspoken", "ferret")] = "auto"
    threads: Annotated[int, c.integer(1, 256)] = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class CodeSettings:
    """``[[report.code]]``: a site's own code for one of the model's findings."""

    finding: Annotated[str, c.line_of_text(64)]
    scheme: Annotated[str, _scheme]
    value: Annotated[str, _code_value]
    meaning: Annotated[str, c.line_of_text(64)]


@dataclass(frozen=True, kw_only=True, slots=True)
class ReportSettings:
    """``[report]``: what the Structured Report says about itself."""

    sop_class: Annotated[str, _sr_class] = "comprehensive-3d"
    series_number: Annotated[int, c.integer(1, 2_147_483_647)] = 9001
    series_description: Annotated[str, c.line_of_text(64)] = "AI findings"
    manufacturer: Annotated[str, c.line_of_text(64)] = "blindread"
    device_serial_number: Annotated[str, c.line_of_text(64)] = "1"
    institution_name: Annotated[str | None, c.line_of_text(64)] = None
    code: Annotated[tuple[CodeSettings, ...], c.array(c.section(CodeSettings))] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientTlsSettings:
    """``[destination.tls]``: PS3.15 B.12, B.13 (BCP 195)."""

    authority: Annotated[Path, c.existing_file()]
    certificate: Annotated[Path | None, c.existing_file()] = None
    key: Annotated[Path | None, c.existing_file()] = None
    server_name: Annotated[str | None, c.host()] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class DestinationSettings:
    """``[[destination]]``: a PACS that gets the reports, by C-STORE."""

    name: Annotated[str, _short_name]
    host: Annotated[str, c.host()]
    port: Annotated[int, c.integer(1, 65535)] = 104
    ae_title: Annotated[str, c.ae_title()]
    calling_ae_title: Annotated[str, c.ae_title()] = "BLINDREAD"
    timeout_s: Annotated[float, c.number(0.1, 3600)] = 30.0
    tls: Annotated[ClientTlsSettings | None, c.section(ClientTlsSettings)] = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """A whole configuration."""

    node: Annotated[NodeSettings, c.section(NodeSettings)]
    listener: Annotated[tuple[ListenerSettings, ...], c.array(c.section(ListenerSettings), least=1)]
    peer: Annotated[tuple[PeerSettings, ...], c.array(c.section(PeerSettings))] = ()
    queue: Annotated[QueueSettings, c.section(QueueSettings)] = QueueSettings()
    selection: Annotated[SelectionSettings, c.section(SelectionSettings)] = SelectionSettings()
    inference: Annotated[InferenceSettings, c.section(InferenceSettings)]
    report: Annotated[ReportSettings, c.section(ReportSettings)] = ReportSettings()
    destination: Annotated[tuple[DestinationSettings, ...], c.array(c.section(DestinationSettings), least=1)]

    @property
    def database(self) -> Path:
        """The queue's SQLite file."""
        return self.node.spool / "queue.sqlite"

    def peer_named(self, ae_title: str) -> PeerSettings | None:
        """The peer with this AE title."""
        return next((peer for peer in self.peer if peer.ae_title == ae_title), None)


def section_keys(kind: type[object]) -> list[str]:
    """The keys that a settings class reads, in their order."""
    return [one.name for one in fields(kind)]  # type: ignore[arg-type]
