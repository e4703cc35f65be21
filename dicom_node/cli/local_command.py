"""``blindread local``: both parties on this machine."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.output import Commands, add_json, progress, show, size
from dicom_node.cli.pictures import add_files, answer, answers_text, load_images

if TYPE_CHECKING:
    from secure_infer.runtime.local import LocalRun


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "local",
        help="findings for image files, both parties as processes on this machine",
        description="Runs a bundle with both halves: two processes, TLS on loopback, keys made for this run. "
        "Or the same program in the clear, or the float model, to compare.",
    )
    add_files(parser)
    parser.add_argument("--bundle", type=Path, required=True, metavar="BUNDLE", help="with both halves")
    parser.add_argument(
        "--backend",
        choices=("secure", "reference", "float"),
        default="secure",
        help="the protocol, its program in the clear, or the model itself (%(default)s)",
    )
    parser.add_argument(
        "--model", type=Path, metavar="FOLDER", help="what the bundle was compiled from; for --backend float"
    )
    parser.add_argument(
        "--ot-engine",
        default="softspoken",
        help="softspoken, ferret, or auto for what the way between two processes suits (%(default)s)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="of each party, on cores of their own if there are enough (%(default)s)",
    )
    add_json(parser)
    parser.set_defaults(run=_local)


def _local(arguments: argparse.Namespace) -> int:
    from secure_infer.bundle import HospitalBundle
    from secure_infer.runtime.local import run_local

    bundle = HospitalBundle.open(arguments.bundle)
    images = load_images(arguments.files, bundle.preprocessing)
    with progress() as advance:
        run = run_local(
            arguments.bundle,
            images,
            backend=arguments.backend,
            model=arguments.model,
            threads=arguments.threads,
            ot_engine=arguments.ot_engine,
            progress=advance,
        )
    answers = [answer(path, one) for path, one in zip(arguments.files, run.answers, strict=True)]
    value = {
        "backend": arguments.backend,
        "digest": bundle.digest,
        "warnings": bundle.model_card.get("warnings", []),
        "results": answers,
        "setup": run.setup,
        "offline": run.offline,
        "online": run.online,
        "max_rss_mb": run.max_rss_mb,
        "link": run.link,
    }
    show(arguments, value, lambda: "\n".join([answers_text(answers, bundle.model_card), *_cost(run)]))
    return 0


def _cost(run: "LocalRun") -> list[str]:
    phases: dict[str, Any] = {"setup": run.setup, "offline": run.offline, "online": run.online}
    return [
        f"{name:8} {phase.seconds:.2f} s, {size(phase.bytes_to_developer)} to the developer, "
        f"{size(phase.bytes_to_hospital)} to the hospital, {phase.round_trips} round trips"
        for name, phase in phases.items()
        if phase is not None
    ]
