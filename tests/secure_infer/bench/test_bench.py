"""The benchmark's own parts, and one whole run on a network small enough for a test."""

import json
from pathlib import Path

import numpy as np
import pytest

from secure_infer.bench import Bench, run_bench, to_text
from secure_infer.bench.cache import cache_root, cached, key
from secure_infer.bench.phantoms import phantoms
from secure_infer.bench.run import LogitError, PhaseCost
from secure_infer.errors import CompileError, OptionError
from secure_infer.runtime.endpoint import OT_ENGINES

PHASE = {"seconds", "bytes_to_developer", "bytes_to_hospital"}


def test_phantoms_are_grey_pictures_and_the_same_every_time() -> None:
    first, again, other = phantoms(2, 48), phantoms(2, 48), phantoms(2, 48, seed=1)
    for picture in first:
        assert (picture.shape, picture.dtype) == ((48, 48), np.float32)
        assert picture.min() >= 0
        assert picture.max() <= 255
        assert picture.std() > 20
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0], other[0])
    assert not np.array_equal(first[0], first[1])


def test_cache_makes_a_network_once_and_keeps_nothing_of_a_failure(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "content").write_text("x")

    def fail(folder: Path) -> None:
        make(folder)
        raise CompileError("network")

    with pytest.raises(CompileError):
        cached("net-32", fail, tmp_path)
    place = cached("net-32", make, tmp_path)
    assert cached("net-32", make, tmp_path) == place
    assert len(made) == 2
    assert [entry.name for entry in (tmp_path / "bench").iterdir()] == [place.name]
    assert cached("net-33", make, tmp_path) != place


def test_cache_key_follows_the_name_and_stays_for_equal_code() -> None:
    assert key("a-32") == key("a-32")
    assert key("a-32") != key("a-33")


def test_cache_lies_where_the_xdg_specification_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "blindread"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home" / ".cache" / "blindread"


def test_options_that_can_not_be_measured_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="softspoken"):
        run_bench("mobilenetv2-32", ot_engine="telepathy", cache=tmp_path)
    for wrong in ({"threads": 0}, {"images": 0}):
        with pytest.raises(OptionError, match="at least 1"):
            run_bench("mobilenetv2-32", cache=tmp_path, **wrong)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_bench_reports_exactly_the_agreed_keys(tmp_path: Path) -> None:
    bench = run_bench("mobilenetv2-32", images=2, cache=tmp_path)
    value = json.loads(json.dumps(bench.to_json()))
    assert set(value) == {
        "model", "input_shape", "threads", "ot_engine", "relus", "setup", "offline", "online",
        "total_seconds", "max_rss_mb", "logit_error", "plaintext_seconds", "per_layer",
    }  # fmt: skip
    for phase in ("setup", "offline", "online"):
        assert set(value[phase]) == PHASE
        assert all(number > 0 for number in value[phase].values())
    assert value["total_seconds"] == pytest.approx(value["offline"]["seconds"] + value["online"]["seconds"])
    assert set(value["max_rss_mb"]) == {"hospital", "developer"}
    assert set(value["logit_error"]) == {"max_abs", "rms"}
    assert value["logit_error"]["max_abs"] >= value["logit_error"]["rms"] > 0
    assert (value["model"], value["input_shape"], value["threads"]) == ("mobilenetv2-32", [1, 32, 32], 1)
    assert value["relus"] > 100_000
    assert value["plaintext_seconds"] > 0
    online = sum(layer["online_bytes"] for layer in value["per_layer"])
    whole = value["online"]["bytes_to_developer"] + value["online"]["bytes_to_hospital"]
    assert 0.99 * whole < online <= whole
    assert len({layer["name"] for layer in value["per_layer"]}) == len(value["per_layer"])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_bench_ferret_sends_a_fraction_of_the_offline_bytes(tmp_path: Path) -> None:
    benches = [run_bench("mobilenetv2-32", ot_engine=engine, cache=tmp_path) for engine in OT_ENGINES]
    softspoken, ferret = (b.offline.bytes_to_developer + b.offline.bytes_to_hospital for b in benches)
    assert [bench.ot_engine for bench in benches] == list(OT_ENGINES)
    assert 5 * ferret < softspoken
    assert benches[1].logit_error.rms == pytest.approx(benches[0].logit_error.rms, rel=2)


def test_text_shows_every_phase_and_the_slowest_step() -> None:
    phase = PhaseCost(1.5, 2_000_000, 3_000_000)
    bench = Bench(
        model="net-32", input_shape=(1, 32, 32), threads=1, ot_engine="softspoken", relus=1_230_000,
        setup=phase, offline=phase, online=phase, total_seconds=3.0,
        max_rss_mb={"hospital": 100.0, "developer": 200.0}, logit_error=LogitError(0.5, 0.25),
        plaintext_seconds=0.125, per_layer=(),
    )  # fmt: skip
    text = to_text(bench)
    for wanted in ("net-32, input 1x32x32, 1.23 M comparisons", "setup", "offline", "online", "3.00", "0.12"):
        assert wanted in text
