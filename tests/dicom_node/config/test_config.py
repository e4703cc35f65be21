"""Configuration: what is read, and the exact words for what isn't."""

import dataclasses
import multiprocessing
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.config import Settings, load_settings, parse_settings
from dicom_node.config import settings as settings_module
from dicom_node.config.lines import find_lines
from dicom_node.config.load import valid_sctid
from dicom_node.errors import ConfigError

EXAMPLE = Path(__file__).parents[3] / "config" / "gateway.example.toml"

MINIMAL = """\
[node]
spool = "spool"

[[listener]]
ae_title = "GATEWAY"
any_caller = true

[inference]
bundle = "bundle"
host = "party"
port = 7443
authority = "ca.crt"
certificate = "own.crt"
key = "own.key"

[[destination]]
name = "pacs"
host = "pacs"
ae_title = "PACS"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "bundle").mkdir()
    for name in ("ca.crt", "own.crt", "own.key"):
        (tmp_path / name).write_text("x")
    return tmp_path


def read(text: str, folder: Path) -> Settings:
    return parse_settings(text, file="gateway.toml", folder=folder)


def refusal(text: str, folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text, folder)
    assert caught.value.code == "config"
    return str(caught.value)


def test_minimal_configuration_takes_the_defaults(folder: Path) -> None:
    settings = read(MINIMAL, folder)
    assert settings.node.spool == folder / "spool"
    assert settings.database == folder / "spool" / "queue.sqlite"
    assert settings.listener[0].port == 11112
    assert settings.listener[0].accept == ("cr", "dx")
    assert settings.queue.quiet_period_s == 30.0
    assert settings.destination[0].port == 104


def test_settings_survive_the_way_to_another_process(folder: Path) -> None:
    settings = read(MINIMAL, folder)
    here, there = multiprocessing.Pipe()
    here.send(settings)
    assert there.recv() == settings


def test_settings_are_frozen(folder: Path) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        read(MINIMAL, folder).node.name = "other"  # type: ignore[misc]


def example_with_files(folder: Path) -> str:
    (folder / "files").mkdir()
    text = EXAMPLE.read_text(encoding="utf-8")
    for path in set(re.findall(r'"(/etc/blindread/[^"]*)"', text)):
        target = folder / "files" / Path(path).name
        if Path(path).name == "hospital":
            target.mkdir()
        else:
            target.write_text("x")
        text = text.replace(f'"{path}"', f'"{target}"')
    return text


def test_example_is_valid(folder: Path) -> None:
    settings = read(example_with_files(folder), folder)
    assert settings.peer[0].addresses == ("10.1.2.3/32", "10.1.4.0/24")
    assert settings.report.code[0].finding == "Pneumonia"


def test_example_with_all_comments_removed_is_valid_and_shows_the_defaults(folder: Path) -> None:
    bare = example_with_files(folder)
    uncommented = re.sub(r"(?m)^# (?=[a-z_]+ = )", "", bare)
    assert read(uncommented, folder) == read(bare, folder)


def test_example_names_every_key_of_every_table(folder: Path) -> None:
    document = tomllib.loads(re.sub(r"(?m)^# (?=[a-z_]+ = )", "", example_with_files(folder)))
    tables = {
        "NodeSettings": document["node"],
        "ListenerSettings": document["listener"][0],
        "ServerTlsSettings": document["listener"][0]["tls"],
        "PeerSettings": document["peer"][0],
        "QueueSettings": document["queue"],
        "SelectionSettings": document["selection"],
        "InferenceSettings": document["inference"],
        "ReportSettings": document["report"],
        "CodeSettings": document["report"]["code"][0],
        "DestinationSettings": document["destination"][0],
        "ClientTlsSettings": document["destination"][0]["tls"],
        "Settings": document,
    }
    classes = {name for name, one in vars(settings_module).items() if dataclasses.is_dataclass(one)}
    assert set(tables) == classes
    for name, table in tables.items():
        assert set(table) == {one.name for one in dataclasses.fields(getattr(settings_module, name))}, name


CASES = tomllib.loads((Path(__file__).parent / "refusals.toml").read_text(encoding="utf-8"))["case"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["message"].split(": expected")[0])
def test_wrong_configuration_is_refused_with_file_line_key_and_what_is_allowed(
    case: dict[str, str], folder: Path
) -> None:
    text = MINIMAL + case["added"] if "added" in case else MINIMAL.replace(case["old"], case["new"], 1)
    assert refusal(text, folder) == case["message"].replace("{folder}", str(folder.resolve()))


def test_text_that_is_no_toml_is_refused_with_its_line(folder: Path) -> None:
    message = refusal("[node\n", folder)
    assert message.startswith("gateway.toml: expected TOML, got ")
    assert "line 1" in message


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a file that can be read, got No such file or directory"):
        load_settings(tmp_path / "gateway.toml")


def test_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_bytes(b'[node]\nspool = "\xff"\n')
    with pytest.raises(ConfigError, match="expected UTF-8, got byte 16 that is not"):
        load_settings(tmp_path / "gateway.toml")


def test_relative_paths_start_at_the_files_folder(folder: Path) -> None:
    (folder / "gateway.toml").write_text(MINIMAL)
    assert load_settings(folder / "gateway.toml").inference.bundle == folder / "bundle"


def test_lines_are_found_behind_multi_line_values_and_comments() -> None:
    text = '# x = 1\na = """\nb = 2\n"""\nc = [\n  1, # ]\n  "[",\n]\n'
    text += '[t."u v"]\nd.e = 1\n[[x]]\n[[x]]\ny = 1\n[x.z]\n'
    assert find_lines(text) == {
        (): 1,
        ("a",): 2,
        ("c",): 5,
        ("t", "u v"): 9,
        ("t", "u v", "d"): 10,
        ("t", "u v", "d", "e"): 10,
        ("x", 0): 11,
        ("x", 1): 12,
        ("x", 1, "y"): 13,
        ("x", 1, "z"): 14,
    }


@given(st.text(max_size=200))
def test_finding_lines_never_raises(text: str) -> None:
    assert find_lines(text)[()] == 1


@pytest.mark.parametrize("code", ["36118008", "233604007", "8186001", "363679005"])
def test_snomed_code_with_its_check_digit_is_valid(code: str) -> None:
    assert valid_sctid(code)


@given(st.sampled_from(["36118008", "233604007", "95436008"]), st.integers(0, 7), st.integers(1, 9))
def test_snomed_code_with_one_wrong_digit_is_not_valid(code: str, position: int, step: int) -> None:
    wrong = str((int(code[position]) + step) % 10)
    assert not valid_sctid(code[:position] + wrong + code[position + 1 :])
