"""From a TOML file to `Settings`: the checks that concern more than one value are here."""

import tomllib
from pathlib import Path

from dicom_node.config.checks import Where, read_section, show, unique
from dicom_node.config.lines import find_lines
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigError

_LARGEST_FILE = 1 << 20

#: Verhoeff's dihedral multiplication and permutation (SNOMED CT's check digit).
_MULTIPLY = (
    "0123456789", "1234067895", "2340178956", "3401289567", "4012395678",
    "5987604321", "6598710432", "7659821043", "8765932104", "9876543210",
)  # fmt: skip
_PERMUTE = (
    "0123456789", "1576283094", "5803796142", "8916043527",
    "9453126870", "4286573901", "2793806415", "7046913258",
)  # fmt: skip


def load_settings(file: Path) -> Settings:
    """Reads a configuration file.

    Parameters
    ----------
    file : Path
        A TOML file; relative paths in it start at its folder.

    Raises
    ------
    ConfigError
        The file can't be read, isn't TOML, or says something that isn't allowed: the message names the file,
        the line, the key, what was expected and what was found.
    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(_LARGEST_FILE + 1)
        content = raw.decode("utf-8")
    except OSError as error:
        raise ConfigError(str(file), expected="a file that can be read", got=error.strerror) from None
    except UnicodeDecodeError as error:
        raise ConfigError(str(file), expected="UTF-8", got=f"byte {error.start} that is not") from None
    if len(raw) > _LARGEST_FILE:
        raise ConfigError(str(file), expected=f"at most {_LARGEST_FILE} bytes", got="more")
    return parse_settings(content, file=str(file), folder=file.absolute().parent)


def parse_settings(content: str, *, file: str, folder: Path) -> Settings:
    """Reads a configuration's text; see `load_settings`."""
    try:
        document = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file, expected="TOML", got=str(error)) from None
    where = Where(file=file, folder=folder, lines=find_lines(content))
    settings = read_section(Settings, document, where)
    _check_together(settings, where)
    return settings


def _check_together(settings: Settings, where: Where) -> None:
    unique((peer.ae_title for peer in settings.peer), where.at("peer"), "an AE title")
    unique((one.name for one in settings.destination), where.at("destination"), "a name")
    ports = [(one.host, one.port) if one.port else object() for one in settings.listener]
    unique(ports, where.at("listener"), "a host and port")
    for index, listener in enumerate(settings.listener):
        at = where.at("listener").at(index)
        if not settings.peer and not listener.any_caller:
            raise at.at("any_caller").error(
                "true, or at least one [[peer]] that may send", "false without peers"
            )
        tls = listener.tls
        if tls and tls.clients != "none" and tls.authority is None:
            raise (
                at.at("tls")
                .at("authority")
                .error("a file, because clients is " + show(tls.clients), "nothing")
            )
    for index, destination in enumerate(settings.destination):
        at = where.at("destination").at(index)
        own = any(
            destination.port == one.port and destination.ae_title == one.ae_title
            and (destination.host in ("localhost", "127.0.0.1", "::1", one.host))
            for one in settings.listener
        )  # fmt: skip
        if own:
            raise at.error("another application entity", "this gateway's own listener (an export loop)")
        if destination.tls and (destination.tls.certificate is None) != (destination.tls.key is None):
            raise at.at("tls").error("certificate and key, or neither", "one of them")
    _check_ranges(settings, where)


def _check_ranges(settings: Settings, where: Where) -> None:
    queue = settings.queue
    if queue.retry_longest_s < queue.retry_first_s:
        expected = f"at least retry_first_s ({queue.retry_first_s:g})"
        raise where.at("queue").at("retry_longest_s").error(expected, f"{queue.retry_longest_s:g}")
    rules = settings.selection
    low, high = rules.minimum_age_years, rules.maximum_age_years
    if low is not None and high is not None and high < low:
        raise (
            where.at("selection")
            .at("maximum_age_years")
            .error(f"at least minimum_age_years ({low:g})", f"{high:g}")
        )
    codes = where.at("report").at("code")
    unique((code.finding for code in settings.report.code), codes, "a finding")
    for index, code in enumerate(settings.report.code):
        if code.scheme == "SCT" and not valid_sctid(code.value):
            raise (
                codes.at(index)
                .at("value")
                .error("a SNOMED CT identifier whose check digit holds", show(code.value))
            )


def valid_sctid(value: str) -> bool:
    """Whether a SNOMED CT identifier has its form: 6 to 18 digits, the last one Verhoeff's check digit."""
    if not (value.isascii() and value.isdigit() and 6 <= len(value) <= 18) or value.startswith("0"):
        return False
    check = 0
    for position, digit in enumerate(reversed(value)):
        check = int(_MULTIPLY[check][int(_PERMUTE[position % 8][int(digit)])])
    return check == 0
