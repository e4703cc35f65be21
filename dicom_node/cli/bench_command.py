"""``blindread bench``: what the protocol costs on this machine."""

import argparse
from pathlib import Path

from dicom_node.cli.output import Commands, progress, to_json


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bench",
        help="measure both parties on a benchmark network",
        description="Two processes, one core each (--threads), TLS on loopback, against TensorFlow on one "
        "core in the same run. The networks have random weights and are never diagnostic. A bundle that was "
        "made once is kept in a cache. Set-up, offline and online are reported apart.",
    )
    parser.add_argument(
        "--model",
        default="densenet121-320",
        metavar="NAME-SIZE",
        help="densenet121, resnet50, vgg16, xception or mobilenetv2, and the input's side (%(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1, help="cores of each party (%(default)s)")
    parser.add_argument("--ot-engine", default="softspoken", help="softspoken or ferret (%(default)s)")
    parser.add_argument("--images", type=int, default=1, help="how many, one after the other (%(default)s)")
    parser.add_argument("--cache", type=Path, metavar="FOLDER", help="where bundles are kept")
    parser.add_argument(
        "--json",
        nargs="?",
        const=Path("-"),
        type=Path,
        metavar="FILE",
        help="write the result as JSON to FILE, or instead of the text to standard output",
    )
    parser.set_defaults(run=_bench)


def _bench(arguments: argparse.Namespace) -> int:
    from secure_infer.bench import run_bench, to_text

    with progress() as advance:
        bench = run_bench(
            arguments.model,
            threads=arguments.threads,
            ot_engine=arguments.ot_engine,
            images=arguments.images,
            cache=arguments.cache,
            progress=advance,
        )
    value = to_json(bench.to_json())
    if arguments.json == Path("-"):
        print(value)
        return 0
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(value + "\n")
    print(to_text(bench))
    return 0
