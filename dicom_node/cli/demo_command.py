"""``blindread demo``: the whole way of an X-ray on this machine, checked at its end."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from dicom_node.cli.output import Commands, add_json, show


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="the whole way of an X-ray on this machine, checked",
        description="Makes keys, compiles the shipped model, starts the developer's party, a small archive "
        "as PACS and the gateway, sends a real X-ray as a modality would, waits for the report, prints its "
        "content tree and where it lies, and compares the probabilities with the model's in the clear. Ends "
        "with 0 only if all of that holds.",
    )
    parser.add_argument(
        "--model",
        type=Path,
        default=Path("model_bundles/pneumonia_densenet121"),
        metavar="FOLDER",
        help="a model folder (%(default)s)",
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="the X-ray (one of the model's examples)"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("build/demo"), help="where everything is kept (%(default)s)"
    )
    parser.add_argument(
        "--kill", action="store_true", help="kill every process on the way and start it again"
    )
    parser.add_argument("--timeout", type=float, default=900.0, metavar="S", help="for the way (%(default)s)")
    add_json(parser)
    parser.set_defaults(run=_demo)


def _demo(arguments: argparse.Namespace) -> int:
    from dicom_node.demo.demo import DemoOptions, run

    options = DemoOptions(
        model=arguments.model,
        picture=arguments.picture,
        folder=arguments.folder,
        kill=arguments.kill,
        timeout_s=arguments.timeout,
    )

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    result = run(options, _plaintext, say)

    def text() -> str:
        lines = [result.tree, "", f"report  {result.report}", ""]
        lines += [
            f"{name}: private {probability:.4f}, in the clear {result.plaintext[name]:.4f}"
            for name, probability in result.probabilities.items()
        ]
        return "\n".join([*lines, f"largest difference {result.max_difference:.4f}"])

    show(arguments, result, text)
    return 0


def _plaintext(model: Path, picture: Path) -> Mapping[str, float]:
    from secure_infer.compiler.folder import plain_probabilities

    return plain_probabilities(model, [picture])[0]
