"""The comparison of kernels between two commits: its arithmetic, on results as Criterion keeps them."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "secure_infer/native/compare_kernels.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_kernels", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def keep(folder: Path, name: str, run: str, median: float, low: float, high: float) -> None:
    """Files of Criterion, in its nanoseconds."""
    place = folder / name / run
    place.mkdir(parents=True)
    interval = {"confidence_level": 0.95, "lower_bound": low, "upper_bound": high}
    median_of = {"confidence_interval": interval, "point_estimate": median, "standard_error": 1.0}
    (place / "estimates.json").write_text(json.dumps({"median": median_of, "mean": {}}))
    about = {"full_id": name, "throughput": {"Elements": 2000}}
    (place / "benchmark.json").write_text(json.dumps(about))


def test_estimates_of_one_baseline_are_read_by_full_name(script: ModuleType, tmp_path: Path) -> None:
    keep(tmp_path, "ot/AES, TMMO", "run0", 1000.0, 900.0, 1100.0)
    keep(tmp_path, "ot/AES, TMMO", "new", 5.0, 5.0, 5.0)
    found = script.estimates(tmp_path, "run0")
    assert list(found) == ["ot/AES, TMMO"]
    estimate = found["ot/AES, TMMO"]
    assert (estimate.seconds, estimate.low, estimate.high) == pytest.approx((1e-6, 0.9e-6, 1.1e-6))
    assert estimate.rate == "2 G/s"
    assert script.time_of(estimate) == "1 us"
    assert script.estimates(tmp_path, "run1") == {}


def test_runs_are_merged_into_mean_and_widest_interval(script: ModuleType) -> None:
    runs = [script.Estimate(2.0, 1.0, 3.0, 8.0, "B"), script.Estimate(4.0, 3.5, 4.5, 8.0, "B")]
    assert script.merged(runs) == script.Estimate(3.0, 1.0, 4.5, 8.0, "B")


@pytest.mark.parametrize(
    ("base", "now", "said"),
    [
        ((1.0, 0.9, 1.1), (1.2, 1.15, 1.3), "slower"),
        ((1.2, 1.15, 1.3), (1.0, 0.9, 1.1), "faster"),
        ((1.0, 0.9, 1.1), (1.2, 1.05, 1.3), ""),  # within the noise
        ((1.0, 0.99, 1.01), (1.09, 1.08, 1.1), ""),  # below the threshold
        ((1.09, 1.08, 1.1), (1.0, 0.99, 1.01), ""),
        (None, (1.0, 0.9, 1.1), "new"),
        ((1.0, 0.9, 1.1), None, "gone"),
    ],
)
def test_verdict_asks_for_threshold_and_distance_from_noise(
    script: ModuleType, base: tuple[float, ...] | None, now: tuple[float, ...] | None, said: str
) -> None:
    sides = [side and script.Estimate(*side) for side in (base, now)]
    assert script.verdict(*sides, 0.1) == said


def test_table_has_kernels_of_both_sides_first(script: ModuleType) -> None:
    one, two = script.Estimate(1e-3, 0.9e-3, 1.1e-3), script.Estimate(2e-3, 1.9e-3, 2.1e-3)
    lines = list(script.table({"b": one, "a, gone": one}, {"b": two, "a, new": two}, 0.1))
    assert [line.split() for line in lines] == [
        ["kernel", "base", "now", "ratio"],
        ["b", "1", "ms", "2", "ms", "2.000", "slower"],
        ["a,", "gone", "1", "ms", "-", "-", "gone"],
        ["a,", "new", "-", "2", "ms", "-", "new"],
    ]


def test_tree_without_benchmarks_is_said_so(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "ring/src").mkdir(parents=True)
    with pytest.raises(script.NoBenchmarks):
        script.build(tmp_path, tmp_path / "target")
