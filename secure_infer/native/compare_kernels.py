"""Run the kernels' benchmarks, and compare them with those of another commit: ``make bench-kernels``.

The benchmarks are those of `Criterion <https://criterion-rs.github.io/book>`_ in the crates. The other
commit is built in a temporary worktree. Its programs and this tree's take turns, so that whatever else the
machine does meets both; a kernel is called slower or faster only if the medians differ by more than the
threshold and the intervals of all runs of one side lie beyond those of the other.
"""

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

NATIVE: Final = Path(__file__).resolve().parent
ROOT: Final = NATIVE.parents[1]
BUILD: Final = ROOT / "build"
#: For a first look: half a second and 20 samples a kernel. Otherwise what Criterion does by itself.
QUICK: Final = (
    "--warm-up-time",
    "0.1",
    "--measurement-time",
    "0.25",
    "--sample-size",
    "20",
    "--nresamples",
    "5000",
)
#: How often both sides run, alternately.
ROUNDS: Final = 2


@dataclass(frozen=True)
class Estimate:
    """The time of one kernel in one or more runs.

    Attributes
    ----------
    seconds : float
        Median time of one call.
    low, high : float
        Confidence interval of the median; over several runs, from the lowest to the highest.
    units, unit : float, str
        What one call does: elements or bytes.
    """

    seconds: float
    low: float
    high: float
    units: float = 0.0
    unit: str = ""

    @property
    def rate(self) -> str:
        """Units per second, with a prefix."""
        if not self.units:
            return "-"
        rate = self.units / self.seconds
        power = min(max(int(math.log10(rate)) // 3, 0), 4)
        return f"{rate / 1000**power:.3g} {' kMGT'[power].strip()}{self.unit}/s"


class NoBenchmarks(Exception):
    """A tree has no benchmarks of its kernels."""


def merged(runs: Sequence[Estimate]) -> Estimate:
    """Several runs of one kernel as one: the mean of their medians, an interval that covers all of theirs."""
    return Estimate(
        seconds=sum(run.seconds for run in runs) / len(runs),
        low=min(run.low for run in runs),
        high=max(run.high for run in runs),
        units=runs[-1].units,
        unit=runs[-1].unit,
    )


def verdict(base: Estimate | None, now: Estimate | None, threshold: float) -> str:
    """``slower``, ``faster``, ``new``, ``gone`` or nothing."""
    if base is None or now is None:
        return "new" if base is None else "gone"
    if now.seconds > base.seconds * (1 + threshold) and now.low > base.high:
        return "slower"
    if base.seconds > now.seconds * (1 + threshold) and base.low > now.high:
        return "faster"
    return ""


def table(base: Mapping[str, Estimate], now: Mapping[str, Estimate], threshold: float) -> Iterator[str]:
    """Lines of kernel, time before, time now, ratio, verdict; kernels of one side only come last."""
    names = sorted(base.keys() | now.keys(), key=lambda name: ((name in base) != (name in now), name))
    width = max(map(len, names), default=6)
    yield f"{'kernel':{width}}  {'base':>9}  {'now':>9}  {'ratio':>6}"
    for name in names:
        before, after = base.get(name), now.get(name)
        ratio = f"{after.seconds / before.seconds:.3f}" if before and after else "-"
        line = f"{name:{width}}  {time_of(before):>9}  {time_of(after):>9}  {ratio:>6}"
        yield f"{line}  {verdict(before, after, threshold)}".rstrip()


def time_of(estimate: Estimate | None) -> str:
    """A time in its best unit, three digits; ``-`` for none."""
    if estimate is None:
        return "-"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if estimate.seconds * factor >= 1:
            return f"{estimate.seconds * factor:.3g} {unit}"
    return f"{estimate.seconds * 1e9:.3g} ns"


def estimates(folder: Path, baseline: str) -> dict[str, Estimate]:
    """What Criterion has kept under this name, by the kernels' full names."""
    found = {}
    for path in sorted(folder.glob(f"**/{baseline}/estimates.json")):
        about = json.loads(path.with_name("benchmark.json").read_text())
        median = json.loads(path.read_text())["median"]
        interval = median["confidence_interval"]
        found[about["full_id"]] = Estimate(
            seconds=median["point_estimate"] / 1e9,
            low=interval["lower_bound"] / 1e9,
            high=interval["upper_bound"] / 1e9,
            **_throughput(about["throughput"]),
        )
    return found


def _throughput(throughput: Mapping[str, float] | None) -> dict[str, Any]:
    for kind, units in (throughput or {}).items():
        return {"units": float(units), "unit": "B" if kind.startswith("Bytes") else ""}
    return {}


def build(native: Path, target: Path) -> list[Path]:
    """The benchmark programs of a tree.

    Raises
    ------
    NoBenchmarks
        If it has none.
    subprocess.CalledProcessError
        If they can't be built; the compiler has said why.
    """
    if not any(native.glob("*/benches/*.rs")):
        raise NoBenchmarks
    command = [
        "cargo",
        "bench",
        "--locked",
        "--quiet",
        "--no-run",
        "--bench",
        "*",
        "--message-format",
        "json-render-diagnostics",
    ]
    environment = {**os.environ, "CARGO_TARGET_DIR": str(target)}
    text = subprocess.run(
        command, cwd=native, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    messages = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    made = [Path(message["executable"]) for message in messages if message.get("executable")]
    return sorted(made, key=lambda path: path.name)


def run(programs: Iterable[Path], folder: Path, baseline: str, options: Sequence[str]) -> None:
    """Run the programs; Criterion keeps their results in `folder` under this name."""
    environment = {**os.environ, "CRITERION_HOME": str(folder)}
    for program in programs:
        print(f"  {baseline}: {program.name.rpartition('-')[0]}", file=sys.stderr, flush=True)
        command = [str(program), "--bench", "--noplot", "--quiet", "--save-baseline", baseline, *options]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)


@contextmanager
def worktree(commit: str) -> Iterator[Path]:
    """The files of a commit in a folder of their own, removed afterwards."""
    BUILD.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="kernels-", dir=BUILD))
    git = ["git", "-C", str(ROOT), "worktree"]
    try:
        subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([*git, "prune"], check=True)


def measure(sides: Mapping[str, Sequence[Path]], options: Sequence[str]) -> dict[str, dict[str, Estimate]]:
    """The kernels' times of each side, by its name; the sides take turns."""
    with tempfile.TemporaryDirectory(prefix="kernels-") as name:
        folder = Path(name)
        for turn in range(ROUNDS):
            for side, programs in sides.items():
                run(programs, folder / side, f"run{turn}", options)
        found = {}
        for side in sides:
            runs = [estimates(folder / side, f"run{turn}") for turn in range(ROUNDS)]
            found[side] = {name: merged([run[name] for run in runs]) for name in runs[0]}
    return found


def main() -> int:
    """Measure, print, and say with the exit status whether a kernel got slower, if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--base", help="a commit to compare with")
    parser.add_argument(
        "--filter", default="", help="kernels whose name contains this (a regular expression)"
    )
    parser.add_argument(
        "--threshold", type=float, default=0.1, help="a smaller difference is none (%(default)s)"
    )
    parser.add_argument("--full", action="store_true", help="as long as Criterion takes by itself")
    parser.add_argument("--fail", action="store_true", help="exit with 1 if a kernel is slower")
    arguments = parser.parse_args()
    options = [*(() if arguments.full else QUICK), *([arguments.filter] if arguments.filter else [])]
    target = Path(os.environ.get("CARGO_TARGET_DIR") or NATIVE / "target").absolute()
    own = build(NATIVE, target)
    if not arguments.base:
        found = measure({"now": own}, options)["now"]
        for name, estimate in found.items():
            print(f"{name:60} {time_of(estimate):>9}  {estimate.rate}")
        return 0
    with worktree(arguments.base) as tree:
        try:
            # Cargo names what it builds by paths within a workspace: both sides in one folder would mix.
            theirs = build(tree / NATIVE.relative_to(ROOT), target / "kernels-base")
        except NoBenchmarks:
            print(
                f"{arguments.base}: expected benchmarks in {NATIVE.name}/*/benches, got none", file=sys.stderr
            )
            return 2
        sides = measure({"base": theirs, "now": own}, options)
    base, now = sides["base"], sides["now"]
    for line in table(base, now, arguments.threshold):
        print(line)
    slower = any(verdict(base.get(name), now[name], arguments.threshold) == "slower" for name in now)
    return 1 if slower and arguments.fail else 0


if __name__ == "__main__":
    sys.exit(main())
