"""The whole way of an X-ray on one machine, checked at its end.

Keys, bundle, the developer's party, a small archive as PACS and the gateway are made and started with the
public commands, each a process of its own; a modality sends a real radiograph; the report is awaited in the
archive, and its probabilities are compared with the plaintext model's. With `kill`, party, gateway and
archive are killed with SIGKILL on the way, and it must end in the same one report.
"""

import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import pydicom
from pydicom import Dataset, FileDataset

from dicom_node import deliver
from dicom_node.config import DestinationSettings, Settings, load_settings
from dicom_node.demo import modality
from dicom_node.demo.crew import Crew, DemoFailed, free_port, listens
from dicom_node.queue import ENDED, Queue, State, StudyView
from dicom_node.report import print_content_tree

Plaintext = Callable[[Path, Path], Mapping[str, float]]
Say = Callable[[str], None]

_COMMAND: Final = (sys.executable, "-m", "dicom_node.cli")
_POLL_S: Final = 0.1
_COMPILE_S: Final = 1800.0
_SETTLE_S: Final = 3.0
_HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What the demonstration does.

    Attributes
    ----------
    model : Path
        A model's folder (``model.keras``, ``model_card.json``, ``calibration/``, ``examples/``).
    picture : Path or None
        The radiograph; None takes the first example of a sick child.
    folder : Path
        Where everything is kept. Keys and bundle of an earlier run are used again.
    kill : bool
        Whether processes are killed on the way.
    timeout_s : float
        For the way of the X-ray.
    tolerance : float
        Largest difference of a probability from the plaintext model's.
    """

    model: Path = Path("model_bundles/pneumonia_densenet121")
    picture: Path | None = None
    folder: Path = Path("build/demo")
    kill: bool = False
    timeout_s: float = 900.0
    tolerance: float = 0.01


@dataclass(frozen=True, slots=True)
class DemoResult:
    """What came out.

    Attributes
    ----------
    report : Path
        Where it lies in the archive.
    tree : str
        Its content, for people.
    probabilities, plaintext : mapping of str to float
        By finding, from the report and from the plaintext model.
    max_difference : float
    kills : sequence of str
        Which processes were killed, in order.
    seconds : mapping of str to float
        Of the demonstration's parts.
    """

    report: Path
    tree: str
    probabilities: Mapping[str, float]
    plaintext: Mapping[str, float]
    max_difference: float
    kills: Sequence[str] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def run(options: DemoOptions, plaintext: Plaintext, say: Say) -> DemoResult:
    """Run the demonstration.

    Parameters
    ----------
    options : DemoOptions
    plaintext : callable
        Model folder and picture to probabilities by finding, computed in the clear with the original model.
    say : callable
        Called with a line of text as things happen.

    Raises
    ------
    DemoFailed
        Something did not come to its end, or a check did not hold. The message says what, with the last lines
        of the process's log.
    """
    picture = options.picture or _example(options.model)
    folder = options.folder.resolve()
    # Of an earlier run only keys and bundle are used again.
    for name in ("archive", "spool", "logs"):
        shutil.rmtree(folder / name, ignore_errors=True)
    with Crew(folder / "logs") as crew:
        stage = _Stage(options, folder, crew, say)
        with stage.scene("keys and certificates for both parties"):
            stage.make_keys()
        with stage.scene("model to bundle"):
            stage.make_bundle()
        with stage.scene("the original model in the clear, for comparison"):
            expected = plaintext(options.model, picture)
        with stage.scene("developer's party, archive (PACS) and gateway"):
            stage.start_processes()
        with stage.scene("X-ray to report"):
            study = stage.send(picture)
            stage.follow(study)
        return stage.judge(study, expected)


def _example(model: Path) -> Path:
    pictures = sorted(p for p in (model / "examples").glob("*") if p.suffix in (".png", ".jpeg", ".jpg"))
    if not pictures:
        raise DemoFailed(str(model / "examples"), expected="a picture", got="none")
    return next((p for p in pictures if p.name.startswith("person")), pictures[0])


class _Stage:
    """The demonstration's scenes, in a folder."""

    def __init__(self, options: DemoOptions, folder: Path, crew: Crew, say: Say) -> None:
        self._options = options
        self._folder = folder
        self._crew = crew
        self._say = say
        self._keys = folder / "keys"
        self._bundle = folder / "model.bundle"
        self._archive = folder / "archive"
        self._config = folder / "gateway.toml"
        self._ports = {name: free_port() for name in ("party", "archive", "gateway")}
        self._kills: list[str] = []
        self._seconds: dict[str, float] = {}

    @contextmanager
    def scene(self, what: str) -> Iterator[None]:
        """Say what happens, and how long it took."""
        self._say(f"... {what}")
        start = time.monotonic()
        yield
        self._seconds[what] = round(time.monotonic() - start, 1)
        self._say(f"    {self._seconds[what]:.1f} s")

    def make_keys(self) -> None:
        """An authority, a certificate for each party, and the key that signs the bundle."""
        if (self._keys / "signing.key").exists():
            return
        shutil.rmtree(self._keys, ignore_errors=True)
        authority = ["--authority", str(self._keys)]
        for words in (
            ["authority", "--out", str(self._keys)],
            ["issue", "--role", "developer", "--name", "developer", "--host", _HOST, *authority],
            ["issue", "--role", "hospital", "--name", "hospital", *authority],
        ):
            more = [] if words[0] == "authority" else ["--out", str(self._keys)]
            self._crew.run("keys", [*_COMMAND, "keys", *words, *more], timeout_s=60)
        command = [*_COMMAND, "keys", "signing", "--out", str(self._keys / "signing.key")]
        self._crew.run("keys", command, timeout_s=60)

    def make_bundle(self) -> None:
        """Compile the model, unless this folder has its bundle."""
        note = self._folder / "model.sha256"
        digest = _digest(self._options.model)
        if self._bundle.is_dir() and note.is_file() and note.read_text() == digest:
            self._say("    the bundle of an earlier run is used again")
            return
        shutil.rmtree(self._bundle, ignore_errors=True)
        command = [*_COMMAND, "compile", str(self._options.model), "--out", str(self._bundle)]
        command += ["--signing-key", str(self._keys / "signing.key")]
        self._crew.run("compile", command, timeout_s=_COMPILE_S)
        note.write_text(digest)

    def start_processes(self) -> None:
        """Party, archive and gateway, each ready when it accepts connections."""
        self._config.write_text(self._configuration())
        party = [*_COMMAND, "party", "serve", "--bundle", str(self._bundle)]
        party += ["--listen", f"{_HOST}:{self._ports['party']}", "--authority", str(self._keys / "ca.pem")]
        party += ["--certificate", str(self._keys / "developer.pem")]
        party += ["--key", str(self._keys / "developer.key")]
        archive = [sys.executable, "-m", "dicom_node.demo.archive", str(self._archive)]
        archive += ["--port", str(self._ports["archive"])]
        gateway = [*_COMMAND, "node", "run", "--config", str(self._config)]
        for name, command in (("party", party), ("archive", archive), ("gateway", gateway)):
            self._crew.start(name, command, partial(listens, self._ports[name]), timeout_s=120)

    def _configuration(self) -> str:
        """The gateway's TOML file; JSON's strings are TOML's."""
        text = json.dumps
        inference = {
            "bundle": str(self._bundle / "hospital"),
            "trusted_key": str(self._keys / "signing.key.pub"),
            "host": _HOST,
            "authority": str(self._keys / "ca.pem"),
            "certificate": str(self._keys / "hospital.pem"),
            "key": str(self._keys / "hospital.key"),
        }
        lines = [
            f"[node]\nspool = {text(str(self._folder / 'spool'))}\nlow_space_mb = 0",
            f'[[listener]]\nae_title = "BLINDREAD"\nhost = "{_HOST}"\nport = {self._ports["gateway"]}',
            f'[[peer]]\nae_title = "MODALITY"\naddresses = ["{_HOST}"]\nquiet_period_s = 2',
            "[queue]\ntick_s = 0.5\nlease_s = 10\nretry_first_s = 1\nretry_longest_s = 3",
            "[inference]\n" + "\n".join(f"{key} = {text(value)}" for key, value in inference.items()),
            f"port = {self._ports['party']}",
            f'[[destination]]\nname = "archive"\nhost = "{_HOST}"\nport = {self._ports["archive"]}',
            'ae_title = "ARCHIVE"\n',
        ]
        return "\n".join(lines)

    def send(self, picture: Path) -> FileDataset:
        """As a modality would; returns what was sent."""
        image = modality.wrap(picture)
        self._say(f"    a modality sends {picture.name} as a DX image")
        modality.send([image], _HOST, self._ports["gateway"], called_ae="BLINDREAD")
        return image

    def follow(self, image: FileDataset) -> None:
        """Watch the study until it is delivered; kill what `_PLAN` says when it gets there."""
        plan = list(_PLAN) if self._options.kill else []
        end = time.monotonic() + self._options.timeout_s
        seen: State | None = None
        while True:
            study = self._study()
            if study is not None and study.state is not seen:
                seen = study.state
                self._say(f"    study: {seen.value}")
            if study is not None and study.state in ENDED:
                break
            if plan and study is not None and study.state in plan[0].states:
                self._strike(plan.pop(0))
            elif study is not None and any(study.state in blow.states for blow in plan):
                break  # Past the next blow: waiting on would be for nothing.
            self._crew.check()
            if time.monotonic() > end:
                got = f"{seen or 'no study'}\n{self._crew.tail('gateway')}"
                raise DemoFailed("study", expected=f"delivered in {self._options.timeout_s:g} s", got=got)
            time.sleep(_POLL_S)
        if study.state not in ENDED or (study.state is State.DELIVERED and plan):
            raise DemoFailed("kills", expected=plan[0].what, got=f"{study.state.value} already")
        if study.state is not State.DELIVERED:
            raise DemoFailed("study", expected="delivered", got=f"{study.state.value}: {study.reason}")
        if self._options.kill:
            self._send_again(image)

    def _strike(self, blow: "_Blow") -> None:
        time.sleep(blow.after_s)
        for name in blow.kill:
            self._say(f"    SIGKILL: {name} ({blow.what})")
            self._crew.kill(name)
            self._kills.append(name)
        for name in blow.release:
            self._crew.release(name)
        for name in blow.start:
            self._crew.again(name)
        for name in blow.hold:
            self._crew.hold(name)

    def _send_again(self, image: FileDataset) -> None:
        """The same image once more: neither a second inference nor a second report may come of it."""
        self._say("    the modality sends the same image again")
        modality.send([image], _HOST, self._ports["gateway"], called_ae="BLINDREAD")
        end = time.monotonic() + self._options.timeout_s
        time.sleep(_SETTLE_S)
        while (study := self._study()) is None or study.state is not State.DELIVERED:
            if time.monotonic() > end:
                raise DemoFailed("study sent again", expected="delivered", got="another state")
            time.sleep(_POLL_S)

    def _study(self) -> StudyView | None:
        settings: Settings = load_settings(self._config)
        if not settings.database.exists():
            return None
        with Queue(settings.database, settings.queue) as queue:
            studies = queue.studies(limit=2)
        if len(studies) > 1:
            raise DemoFailed("studies in the queue", expected=1, got="more")
        return studies[0] if studies else None

    def judge(self, image: FileDataset, expected: Mapping[str, float]) -> DemoResult:
        """Check what arrived.

        Raises
        ------
        DemoFailed
            Not exactly one report, not in the image's study, or other probabilities or decisions.
        """
        settings = load_settings(self._config)
        answer = deliver.echo(_archive(settings))
        if not answer.delivered:
            raise DemoFailed("archive", expected="an answer to C-ECHO", got=answer.status)
        reports = sorted(self._archive.glob("*/*/*.dcm"))
        if len(reports) != 1:
            raise DemoFailed("reports in the archive", expected="exactly 1", got=len(reports))
        report = pydicom.dcmread(reports[0])
        if report.StudyInstanceUID != image.StudyInstanceUID:
            raise DemoFailed("report", expected="in the image's study", got="in another")
        found = read_findings(report)
        if set(found) != set(expected):
            raise DemoFailed("findings", expected=sorted(expected), got=sorted(found))
        probabilities = {name: finding.probability for name, finding in found.items()}
        difference = max(abs(probabilities[name] - expected[name]) for name in expected)
        if not difference <= self._options.tolerance:
            raise DemoFailed(
                "largest difference from the plaintext model",
                expected=self._options.tolerance,
                got=difference,
            )
        for name, finding in found.items():
            if finding.present != (expected[name] >= finding.threshold):
                raise DemoFailed(f"decision on {name}", expected="the plaintext model's", got="the other one")
        tree = print_content_tree(report)
        return DemoResult(
            reports[0], tree, probabilities, dict(expected), difference, tuple(self._kills), self._seconds
        )


@dataclass(frozen=True, slots=True)
class _Blow:
    """What happens when the study is in one of `states`.

    Processes are killed, others go on, are started again and are held, in this order. A party that is held
    keeps the inference from ending before the next blow, however fast the machine is.
    """

    what: str
    states: tuple[State, ...]
    kill: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    start: tuple[str, ...] = ()
    hold: tuple[str, ...] = ()
    after_s: float = 0.0


_PLAN: Final = (
    _Blow(
        "before the study is complete",
        (State.RECEIVING, State.READY),
        kill=("gateway",),
        start=("gateway",),
        hold=("party",),
    ),
    _Blow(
        "during the inference",
        (State.INFERRING,),
        kill=("party", "archive"),
        start=("party",),
        hold=("party",),
        after_s=0.7,
    ),
    _Blow(
        "during the inference, once more",
        (State.INFERRING,),
        kill=("gateway",),
        release=("party",),
        start=("gateway",),
        after_s=0.7,
    ),
    _Blow(
        "while the archive is down",
        (State.DELIVERING,),
        kill=("gateway",),
        start=("gateway",),
        after_s=0.5,
    ),
    _Blow("the archive comes back", (State.DELIVERING,), start=("archive",)),
)


@dataclass(frozen=True, slots=True)
class ReportedFinding:
    """A finding as a report says it.

    Attributes
    ----------
    probability, threshold : float
        0 to 1.
    """

    probability: float
    threshold: float
    present: bool


def read_findings(report: Dataset) -> dict[str, ReportedFinding]:
    """The measurement groups of a TID 1500 report, by tracking identifier."""
    found = {}
    for container in report.ContentSequence:
        for group in container.get("ContentSequence") or ():
            said = {_name(item): item for item in group.get("ContentSequence") or ()}
            if "Certainty of Finding" not in said:
                continue
            percent = float(said["Certainty of Finding"].MeasuredValueSequence[0].NumericValue)
            thresholds = [
                float(item.TextValue.split()[2])
                for item in group.ContentSequence
                if _name(item) == "Algorithm Parameters" and item.TextValue.startswith("Operating threshold")
            ]
            found[str(said["Tracking Identifier"].TextValue)] = ReportedFinding(
                percent / 100,
                thresholds[0] / 100,
                said["Presence"].ConceptCodeSequence[0].CodeMeaning == "Present",
            )
    return found


def _name(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeMeaning) if "ConceptNameCodeSequence" in item else ""


def _archive(settings: Settings) -> DestinationSettings:
    return settings.destination[0]


def _digest(model: Path) -> str:
    """Of all that makes a bundle: the model's folder and the compiler's code."""
    spec = find_spec("secure_infer")
    code = Path(spec.origin).parent if spec and spec.origin else model
    files = [path for path in model.rglob("*") if path.is_file()]
    for pattern in ("compiler/**/*.py", "bundle/*.py", "runtime/*.py", "_native*.so"):
        files += code.glob(pattern)
    state = hashlib.sha256()
    for path in sorted(files):
        state.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return state.hexdigest()
