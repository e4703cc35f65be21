"""The benchmark's own parts, and one whole run on a network small enough for a test."""

import json
import platform
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np
import pytest

import secure_infer
from secure_infer import _native
from secure_infer.bench import Bench, run_bench, to_text
from secure_infer.bench.cache import _USERS, cache_root, cached, key, makers
from secure_infer.bench.phantoms import phantoms
from secure_infer.bench.result import (
    BundleCost,
    LayerCost,
    LinkQuality,
    LogitError,
    Machine,
    Network,
    PhaseCost,
    Rate,
    Throughput,
)
from secure_infer.bench.run import _layers, _median
from secure_infer.bench.throughput import throughput_of
from secure_infer.errors import CompileError, OptionError
from secure_infer.runtime.endpoint import OT_ENGINES
from secure_infer.runtime.local import ImageCost, Phase, run_local
from tests.tiny import Made

PHASE = {"seconds", "bytes_to_developer", "bytes_to_hospital", "round_trips", "samples"}
PHASES = Phase(1.0, 1, 1, 1)


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


def test_cache_key_follows_the_hints_and_not_the_rest_of_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    now = key("a-32")
    monkeypatch.setattr(_native, "PROTOCOL_VERSION", _native.PROTOCOL_VERSION + 1)
    assert key("a-32") == now
    monkeypatch.setattr(_native, "HINT_FORMAT", _native.HINT_FORMAT + 1)
    assert key("a-32") != now


def test_cache_key_covers_every_module_that_compiling_imports() -> None:
    code = (
        "import sys\n"
        "import secure_infer.bench.child, secure_infer.compiler, secure_infer.bundle\n"
        "from secure_infer.compiler.frontends import benchmark_models\n"
        "from secure_infer.runtime import cost\n"
        "print(*[m.__file__ for n, m in sys.modules.items() if n.startswith('secure_infer.')])\n"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    package = Path(secure_infer.__file__).parent
    assert all(maker.is_file() for maker in makers())
    assert all((package / user).is_file() for user in _USERS)
    left = {Path(name) for name in loaded.split()} - {*makers(), *(package / user for user in _USERS)}
    names = {path.relative_to(package).as_posix() for path in left}
    # The core, what writes files and keys, and the benchmark around the compiler.
    assert {name for name in names if not name.startswith(("bench/", "_native"))} == {
        "errors.py",
        "files.py",
        "keys.py",
    }


def test_cache_lies_where_the_xdg_specification_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "blindread"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home" / ".cache" / "blindread"


def test_options_that_can_not_be_measured_are_refused(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="softspoken"):
        run_bench("mobilenetv2-32", ot_engine="telepathy", cache=tmp_path)
    for wrong in ({"threads": 0}, {"images": 0}, {"pool": 0}):
        with pytest.raises(OptionError, match="at least 1"):
            run_bench("mobilenetv2-32", cache=tmp_path, **wrong)
    with pytest.raises(OptionError, match="loopback or lan or wan"):
        run_bench("mobilenetv2-32", network="carrier pigeon", cache=tmp_path)
    with pytest.raises(OptionError, match="more than the pool's 3"):
        run_bench("mobilenetv2-32", images=3, throughput=True, cache=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that several benchmarks share."""
    return tmp_path_factory.mktemp("bundles")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_bench_reports_exactly_the_agreed_keys(bundles: Path) -> None:
    bench = run_bench("mobilenetv2-32", images=3, pool=2, throughput=True, cache=bundles)
    value = json.loads(json.dumps(bench.to_json()))
    assert set(value) == {
        "model", "input_shape", "threads", "ot_engine", "images", "pool", "relus", "machine", "network",
        "bundle", "setup", "offline", "online", "total_seconds", "max_rss_mb", "logit_error",
        "plaintext_seconds", "throughput", "per_layer", "roofline", "link",
    }  # fmt: skip
    for phase, samples in (("setup", 1), ("offline", 3), ("online", 3)):
        assert set(value[phase]) == PHASE
        assert len(value[phase]["samples"]) == samples
        assert all(number > 0 for key, number in value[phase].items() if key != "samples")
        assert value[phase]["seconds"] == median(value[phase]["samples"])
    both = zip(value["offline"]["samples"], value["online"]["samples"], strict=True)
    assert value["total_seconds"] == pytest.approx(median(map(sum, both)))
    assert set(value["max_rss_mb"]) == {"hospital", "developer"}
    assert set(value["logit_error"]) == {"max_abs", "rms"}
    assert value["logit_error"]["max_abs"] >= value["logit_error"]["rms"] > 0
    assert (value["model"], value["input_shape"], value["threads"]) == ("mobilenetv2-32", [1, 32, 32], 1)
    assert (value["images"], value["pool"]) == (3, 2)
    # A benchmark names its engine unless it is told otherwise: the link isn't measured.
    assert (value["ot_engine"], value["link"]["bytes_per_second"]) == ("softspoken", None)
    assert value["relus"] > 100_000
    assert value["plaintext_seconds"] > 0
    assert value["network"]["name"] == "loopback"
    hints = next((bundles / "bench").glob("*/model.bundle/hospital/hints.bin"))
    assert value["bundle"]["hints_bytes"] == hints.stat().st_size
    assert value["bundle"]["load_seconds"] > 0
    assert value["machine"]["cores"] >= 1
    assert platform.node() not in json.dumps(value["machine"])
    rates = value["throughput"]
    assert (rates["filled"]["images"], rates["drained"]["images"]) == (2, 1)
    online = sum(layer["online_bytes"] for layer in value["per_layer"])
    whole = value["online"]["bytes_to_developer"] + value["online"]["bytes_to_hospital"]
    assert 0.99 * whole < online <= whole
    assert len({layer["name"] for layer in value["per_layer"]}) == len(value["per_layer"])
    assert "X-rays/hour" in to_text(bench)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_bench_ferret_sends_a_fraction_of_the_offline_bytes(bundles: Path) -> None:
    benches = [
        run_bench("mobilenetv2-32", ot_engine=engine, images=1, cache=bundles) for engine in OT_ENGINES
    ]
    softspoken, ferret = (b.offline.bytes_to_developer + b.offline.bytes_to_hospital for b in benches)
    assert [bench.ot_engine for bench in benches] == list(OT_ENGINES)
    assert 5 * ferret < softspoken
    assert benches[1].logit_error.rms == pytest.approx(benches[0].logit_error.rms, rel=2)


def test_medians_are_taken_over_the_images_and_their_order_is_kept() -> None:
    cost = _median([Phase(seconds, 10, 20, 3) for seconds in (9.0, 1.0, 2.0)])
    assert cost == PhaseCost(2.0, 10, 20, 3, samples=(9.0, 1.0, 2.0))


def test_layers_are_medians_and_a_step_without_an_offline_part_has_none() -> None:
    def image(seconds: float) -> ImageCost:
        step = {"seconds": seconds, "bytes_sent": 3, "bytes_received": 4, "round_trips": 1, "op": "relu"}
        online = ({**step, "name": "a"}, {**step, "name": "b"})
        return ImageCost(PHASES, PHASES, ({**step, "name": "a"},), online, begin=0.0, end=1.0)

    first, second = _layers([image(seconds) for seconds in (1.0, 5.0, 2.0)])
    assert first == LayerCost("a", "relu", 2.0, 2.0, 7, 7, 1)
    assert second == LayerCost("b", "relu", 0.0, 2.0, 0, 7, 1)


def test_rates_are_from_the_first_beginning_to_the_last_end() -> None:
    times = [(10, 11), (12, 13), (14, 15), (23, 24), (33, 35)]
    images = [ImageCost(PHASES, PHASES, (), (), begin=begin, end=end) for begin, end in times]
    rates = throughput_of(images, 3)
    assert rates.filled == Rate(3, 5.0, 2160.0)
    assert rates.drained == Rate(2, 20.0, 360.0)


def test_throughput_of_a_real_connection_counts_the_pool_and_then_waits(tiny_bundle: Made) -> None:
    told: list[str] = []
    pictures = [np.full((8, 8), value, np.float32) for value in range(8)]
    run = run_local(tiny_bundle.path, pictures, pool=6, progress=lambda what, _done, _all: told.append(what))
    assert told == ["load", *["offline"] * 6, *["online"] * 6, *["offline", "online"] * 2, "online"]
    assert len(run.images) == 8
    for before, after in pairwise(run.images):
        assert before.begin < before.end <= after.begin
    assert run.offline is not None
    assert sum(image.offline.bytes_to_hospital for image in run.images) == run.offline.bytes_to_hospital
    rates = throughput_of(run.images, 6)
    assert (rates.filled.images, rates.drained.images) == (6, 2)
    waited = sum(image.offline.seconds + image.online.seconds for image in run.images[6:])
    assert rates.drained.seconds >= waited
    assert rates.drained.images_per_hour == pytest.approx(3600 * 2 / rates.drained.seconds)


def test_text_shows_every_phase_and_only_the_sections_with_something_to_say() -> None:
    phase = PhaseCost(1.5, 2_000_000, 3_000_000, 7, samples=(1.25, 1.5, 1.75))
    bench = Bench(
        model="net-32", input_shape=(1, 32, 32), threads=1, ot_engine="softspoken", images=3, pool=1,
        relus=1_230_000, machine=Machine("A processor", 2, ("aes",), 0.5), network=Network("loopback"),
        bundle=BundleCost(128_000_000, 0.25), setup=phase, offline=phase, online=phase, total_seconds=3.0,
        max_rss_mb={"hospital": 100.0, "developer": 200.0}, logit_error=LogitError(0.5, 0.25),
        plaintext_seconds=0.125, throughput=None, per_layer=(),
    )  # fmt: skip
    text = to_text(bench)
    for wanted in (
        "net-32, input 1x32x32, 1.23 M comparisons", "A processor, 2 cores", "medians of 3", "loopback",
        "setup", "offline", "online", "1.25", "1.75", "3.00", "0.12", "128 MB of hints",
    ):  # fmt: skip
        assert wanted in text
    assert "X-rays/hour" not in text
    quality = LinkQuality(1.2, 950.0, 940.0)
    link = Network("lan", "user-space", 1000, 1, "reno", quality, link_cpu_seconds=0.5, dropped_packets=3)
    rates = Throughput(Rate(3, 5.0, 2160.0), Rate(2, 20.0, 360.0))
    text = to_text(replace(bench, network=link, throughput=rates))
    for wanted in (
        "1000 Mbit/s",
        "user-space",
        "950",
        "940",
        "1.20 ms",
        "reno",
        "0.5 s",
        "3 packets",
        "2160",
    ):
        assert wanted in text
    assert to_text(bench, [lambda _: ["one"], lambda _: [], lambda _: ["two"]]) == "one\n\ntwo"
