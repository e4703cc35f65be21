"""Both parties on this machine, as two processes with TLS between them; or the plain function to compare.

The certificates are made for one run and thrown away; images go to the hospital's process through a folder
that only this user can read.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from secure_infer import keys
from secure_infer.bundle import DeveloperBundle, HospitalBundle
from secure_infer.errors import PeerUnreachable, RuntimeFailure, SecureInferError
from secure_infer.runtime.backends.reference import ReferenceBackend
from secure_infer.runtime.coding import Inference, encode_image, interpret, to_probabilities
from secure_infer.runtime.developer import LOGIT_NOISE, output_noise
from secure_infer.runtime.hospital import Link

Backend = Literal["secure", "reference", "float"]
Image = NDArray[np.float32]
Progress = Callable[[str, int, int], None]

#: For a party on this machine to stop by itself before it is killed.
_FAREWELL_S: Final = 10.0


@dataclass(frozen=True)
class Host:
    """Where a party's process runs.

    Attributes
    ----------
    address : str
        Under which the other party reaches it.
    enter : tuple of str
        The beginning of a command that starts a program there; empty for the network of this process.
    """

    address: str = "127.0.0.1"
    enter: tuple[str, ...] = ()


_HERE: Final = Host()


@dataclass(frozen=True)
class Phase:
    """What one phase cost, as the hospital saw it.

    Attributes
    ----------
    seconds : float
        Wall-clock time.
    bytes_to_developer, bytes_to_hospital : int
        Of messages; without TLS.
    round_trips : int
    """

    seconds: float
    bytes_to_developer: int
    bytes_to_hospital: int
    round_trips: int


@dataclass(frozen=True)
class ImageCost:
    """What one image cost; its ticket may have been made long before.

    Attributes
    ----------
    offline, online : Phase
        Making the ticket; from the pixels in the hospital's hands to its logits.
    offline_steps, online_steps : tuple of dict
        The same by step of the program, see `HospitalClient.stats`.
    begin, end : float
        When the image's online phase began and ended, in seconds since the parties were connected.
    """

    offline: Phase
    online: Phase
    offline_steps: tuple[dict[str, Any], ...]
    online_steps: tuple[dict[str, Any], ...]
    begin: float
    end: float


@dataclass(frozen=True, eq=False)
class LocalRun:
    """The answers, and what they cost where two parties ran.

    Attributes
    ----------
    answers : tuple of Inference
        One per image.
    load_seconds : float or None
        For the hospital to check its half of the bundle and to read the hints.
    setup, offline, online : Phase or None
        Over all images; None for the plain backends.
    images : tuple of ImageCost
        One per image; none for the plain backends.
    max_rss_mb : dict
        Peak memory of the ``hospital`` and the ``developer``.
    link : Link or None
        Between the parties; None for the plain backends.
    stats : dict
        Of the hospital over all images, by phase and step, see `HospitalClient.stats`.
    developer_stats : dict
        The same of the developer.
    """

    answers: tuple[Inference, ...]
    load_seconds: float | None = None
    setup: Phase | None = None
    offline: Phase | None = None
    online: Phase | None = None
    images: tuple[ImageCost, ...] = ()
    max_rss_mb: dict[str, float] = field(default_factory=dict)
    link: Link | None = None
    stats: dict[str, Any] = field(default_factory=dict)
    developer_stats: dict[str, Any] = field(default_factory=dict)


def run_local(
    bundle: Path | str,
    images: Sequence[Image],
    *,
    backend: Backend = "secure",
    model: Path | None = None,
    threads: int = 1,
    ot_engine: str = "softspoken",
    logit_noise: float = LOGIT_NOISE,
    timeout_s: float = 600.0,
    pool: int = 1,
    developer_host: Host = _HERE,
    hospital_host: Host = _HERE,
    progress: Progress | None = None,
) -> LocalRun:
    """Run a bundle with both halves on images, here.

    Parameters
    ----------
    bundle : Path or str
        The folder with ``hospital`` and ``developer`` in it.
    images : arrays [H, W] or [H, W, C]
        In the model's own input units.
    backend : str
        ``secure``: two processes and the real protocol. ``reference``: the program in the clear, without the
        protocol's roundings. ``float``: the model itself; needs `model` and the developer's extra.
    model : Path, optional
        The folder that the bundle was compiled from; for ``float`` only.
    threads : int
        That compute for each party; where there are cores enough, each party gets as many of its own. For
        ``secure`` only.
    ot_engine : str
        One of `secure_infer.runtime.endpoint.OT_OPTIONS`; for ``secure`` only.
    logit_noise : float
        Standard deviation of the developer's noise on each logit; for ``secure`` only.
    timeout_s : float
        For each wait on the other party.
    pool : int
        Tickets that are made before the first image; once they are spent, each image waits for its own.
        For ``secure`` only, as are the hosts.
    developer_host, hospital_host : Host
        Where the parties run; this process must be able to end what `Host.enter` starts.
    progress : callable, optional
        Called with what is being done, how much is done, and how much there is to do.

    Raises
    ------
    SecureInferError
        What either party raised.
    """
    halves = HospitalBundle.open(bundle), DeveloperBundle.open(bundle)
    halves[1].check_counterpart(halves[0])
    tell = progress or (lambda _what, _done, _total: None)
    if backend == "reference":
        return LocalRun(tuple(_counted(tell, "reference", images, _reference(*halves))))
    if backend == "float":
        if model is None:
            raise RuntimeFailure("backend float", expected="the model's folder", got="none")
        return LocalRun(tuple(_counted(tell, "float", images, _float(halves[0], model))))
    coded = [encode_image(image, halves[0]) for image in images]  # what isn't acceptable is found now
    del coded
    noise = output_noise(halves[0].findings, logit_noise)
    options = {
        "ot_engine": ot_engine,
        "threads": threads,
        "output_noise": noise,
        "timeout_s": timeout_s,
        "pool": max(pool, 1),
    }
    hosts = {"developer": developer_host, "hospital": hospital_host}
    with _running(Path(bundle), images, threads, options, hosts) as (developer, hospital):
        return _follow(developer, hospital, halves[0], len(images), max(pool, 1), tell)


def _counted(
    tell: Progress, what: str, images: Sequence[Image], answer: Callable[[Image], Inference]
) -> Iterator[Inference]:
    for done, image in enumerate(images):
        tell(what, done, len(images))
        yield answer(image)
    tell(what, len(images), len(images))


def _reference(hospital: HospitalBundle, developer: DeveloperBundle) -> Callable[[Image], Inference]:
    backend = ReferenceBackend(developer.program, developer.parameters)

    def answer(image: Image) -> Inference:
        return interpret(list(backend.run(encode_image(image, hospital)).values()), hospital.findings)

    return answer


def _float(hospital: HospitalBundle, folder: Path) -> Callable[[Image], Inference]:
    # Imported here: the compiler comes with the developer's extra.
    from secure_infer.compiler.folder import open_folder
    from secure_infer.compiler.frontends import read_model
    from secure_infer.compiler.graph import outputs_of
    from secure_infer.compiler.options import with_input

    opened = open_folder(folder)
    graph = with_input(read_model(opened.model).graph, opened.options.input)

    def answer(image: Image) -> Inference:
        pixels = np.asarray(image, np.float32)
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        logits = np.asarray(outputs_of(graph, pixels)[0].ravel(), np.float64)
        return Inference(logits, to_probabilities(logits, hospital.findings), hospital.findings)

    return answer


class Party:
    """A party's process; a context manager that ends it."""

    def __init__(self, settings: Path, host: Host = _HERE) -> None:
        self._role = json.loads(settings.read_text())["role"]
        self._process = subprocess.Popen(
            [*host.enter, sys.executable, "-m", "secure_infer.runtime.party_process", str(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe(self._process.stdin).close()
        try:
            self._process.wait(_FAREWELL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._pipe(self._process.stdout).close()

    def expect(self, event: str) -> dict[str, Any]:
        """The next line, which must be this event; a failure is raised as what it was there."""
        line = self._pipe(self._process.stdout).readline()
        if not line:
            raise PeerUnreachable(f"{self._role}'s process", expected=event, got="its end")
        said: dict[str, Any] = json.loads(line)
        if said["event"] == "failed":
            raise _error_of(said["code"])(said["message"])
        if said["event"] != event:
            raise RuntimeFailure(f"{self._role}'s process", expected=event, got=said["event"])
        return said

    def finish(self) -> dict[str, Any]:
        """Ask it to stop and wait for its last word."""
        self._pipe(self._process.stdin).close()
        return self.expect("end")

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def _error_of(code: str) -> type[SecureInferError]:
    kinds = [SecureInferError]
    for kind in kinds:
        if kind.code == code:
            return kind
        kinds.extend(kind.__subclasses__())
    return SecureInferError


@contextmanager
def _running(
    bundle: Path,
    images: Sequence[Image],
    threads: int,
    options: Mapping[str, Any],
    hosts: Mapping[str, Host],
) -> Iterator[tuple[Party, Party]]:
    """Both processes, connected settings between them, and a folder that is gone afterwards."""
    cores = _cores(threads)
    address = hosts["developer"].address
    with tempfile.TemporaryDirectory(prefix="blindread-") as name, ExitStack() as stack:
        folder = Path(name)
        keys.create_authority(folder / "authority", "one run on one machine")
        common = {"bundle": str(bundle.resolve()), "address": address, **options}
        settings = {}
        for role, own in zip(("developer", "hospital"), cores, strict=True):
            pair = keys.issue(folder / "authority", folder / role, _role(role), role, [address])
            files = {
                "authority": str(folder / "authority" / "ca.pem"),
                "certificate": str(pair.public),
                "key": str(pair.private),
            }
            settings[role] = {**common, **files, "role": role, "cores": own}
        path = _write(folder / "developer.json", settings["developer"])
        developer = stack.enter_context(Party(path, hosts["developer"]))
        port = developer.expect("ready")["port"]
        paths = [str(folder / f"image{index}.npy") for index in range(len(images))]
        for picture, image in zip(paths, images, strict=True):
            np.save(picture, np.asarray(image, np.float32), allow_pickle=False)
        wanted = {**settings["hospital"], "port": port, "images": paths}
        path = _write(folder / "hospital.json", wanted)
        yield developer, stack.enter_context(Party(path, hosts["hospital"]))


def _follow(
    developer: Party, hospital: Party, half: HospitalBundle, count: int, pool: int, tell: Progress
) -> LocalRun:
    """Listen to the parties until they are done."""
    answers: list[Inference] = []
    made: list[dict[str, Any]] = []
    spent: list[dict[str, Any]] = []
    tell("load", 0, 1)
    load_s = hospital.expect("ready")["seconds"]
    connected = hospital.expect("connected")
    for done in range(count):
        # The pool is filled first; then each image waits for a ticket of its own.
        while len(made) < min(max(pool, done + 1), count):
            tell("offline", len(made), count)
            made.append(hospital.expect("prepared"))
        tell("online", done, count)
        spent.append(hospital.expect("answered"))
        logits = np.array(spent[-1]["logits"])
        answers.append(Inference(logits, to_probabilities(logits, half.findings), half.findings))
    tell("online", count, count)
    end = hospital.expect("end")
    other = developer.finish()
    memory = {"hospital": end["max_rss_mb"], "developer": other["max_rss_mb"]}
    stats = end["stats"]
    seconds = {
        "setup": connected["seconds"],
        "offline": sum(event["seconds"] for event in made),
        "online": sum(event["seconds"] for event in spent),
    }
    phases = {name: _phase(seconds[name], stats[name]) for name in seconds}
    images = tuple(_image(*pair) for pair in zip(_apart(made), _apart(spent), strict=True))
    return LocalRun(
        tuple(answers),
        load_seconds=load_s,
        **phases,
        images=images,
        max_rss_mb=memory,
        link=Link(**connected["link"]),
        stats=stats,
        developer_stats=other["stats"],
    )


def _image(made: dict[str, Any], spent: dict[str, Any]) -> ImageCost:
    return ImageCost(
        _phase(made["seconds"], made["stats"]),
        _phase(spent["seconds"], spent["stats"]),
        tuple(made["stats"]["steps"]),
        tuple(spent["stats"]["steps"]),
        begin=spent["begin"],
        end=spent["begin"] + spent["seconds"],
    )


def _apart(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each event added to the statistics, which come as sums since the connection was made."""
    apart = []
    before: dict[str, Any] = {"steps": [{}] * len(events[0]["stats"]["steps"])} if events else {}
    for event in events:
        now = event["stats"]
        steps = [_less(step, old) for step, old in zip(now["steps"], before["steps"], strict=True)]
        apart.append({**event, "stats": {**_less(now, before), "steps": steps}})
        before = now
    return apart


def _less(now: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value - before.get(key, 0) if isinstance(value, int | float) else value
        for key, value in now.items()
    }


def _phase(seconds: float, stats: dict[str, Any]) -> Phase:
    return Phase(seconds, stats["bytes_sent"], stats["bytes_received"], stats["round_trips"])


def _cores(threads: int) -> tuple[list[int], list[int]]:
    """Cores for the developer and the hospital, one per thread; if there are too few, both may use all."""
    available = sorted(os.sched_getaffinity(0))
    if threads < 1 or 2 * threads > len(available):
        return [], []
    return available[:threads], available[threads : 2 * threads]


def _role(role: str) -> keys.Role:
    return "developer" if role == "developer" else "hospital"


def _write(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(json.dumps(settings))
    return path
