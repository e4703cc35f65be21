"""``blindread bench``: what the protocol costs on this machine."""

import argparse
from collections.abc import Callable
from pathlib import Path

from dicom_node.cli.output import Commands, progress, to_json


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bench",
        help="measure both parties on a benchmark network",
        description="Two processes, one core each (--threads), TLS between them, against TensorFlow on one "
        "core in the same run. The networks have random weights and are never diagnostic. A bundle that was "
        "made once is kept in a cache. Set-up, offline (empty ticket pool to one ready ticket) and online "
        "(pixels in the hospital's hands to its logits) are reported apart, as medians over the images.",
        epilog="--network lan is 1 Gbit/s with 1 ms there and back, wan 100 Mbit/s with 20 ms: two network "
        "namespaces, joined by netem where the kernel has it, else by TUN devices and a small process that "
        "queues and delays packets; what the link really gives is measured first and reported. Needs root, "
        "iproute2 and util-linux; leaves nothing behind.",
    )
    parser.add_argument(
        "--model",
        default="densenet121-320",
        metavar="NAME-SIZE",
        help="densenet121, resnet50, vgg16, xception or mobilenetv2, and the input's side (%(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1, help="cores of each party (%(default)s)")
    parser.add_argument(
        "--ot-engine",
        default="softspoken",
        help="softspoken, ferret, or auto for what the measured network suits; fixed unlike elsewhere, so "
        "that figures can be compared (%(default)s)",
    )
    parser.add_argument("--images", type=int, default=5, help="how many, one after the other (%(default)s)")
    parser.add_argument("--network", default="loopback", help="loopback, lan or wan (%(default)s)")
    parser.add_argument(
        "--throughput",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="X-rays per hour, from a filled ticket pool and then from the drained one; needs more images "
        "than tickets (default: with 10 images or more)",
    )
    parser.add_argument(
        "--pool",
        type=int,
        metavar="TICKETS",
        help="made before the first image; one of DenseNet-121 at 320 takes some 0.7 GB on each side "
        "(default: 3 for throughput, else 1)",
    )
    parser.add_argument(
        "--calibrate",
        action="store_true",
        help="fit the cost model of `inspect --explain` to this machine instead, with small networks: about "
        "a minute, kept in the user's cache",
    )
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

    if arguments.calibrate:
        return _calibrate(arguments)
    with progress() as advance:
        bench = run_bench(
            arguments.model,
            threads=arguments.threads,
            ot_engine=arguments.ot_engine,
            images=arguments.images,
            pool=arguments.pool,
            throughput=arguments.throughput,
            network=arguments.network,
            cache=arguments.cache,
            progress=advance,
        )
    _report(arguments, to_json(bench.to_json()), lambda: to_text(bench))
    return 0


def _calibrate(arguments: argparse.Namespace) -> int:
    from secure_infer.bench.calibrate import calibrate, calibration_file, to_text

    with progress() as advance:
        fitted = calibrate(arguments.cache, progress=advance)
    path = calibration_file(arguments.cache)
    _report(arguments, to_json(fitted.to_json()), lambda: f"{to_text(fitted)}\n\nwritten to {path}")
    return 0


def _report(arguments: argparse.Namespace, value: str, text: Callable[[], str]) -> None:
    """JSON to standard output instead of the text, or to a file beside it."""
    if arguments.json == Path("-"):
        print(value)
        return
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(value + "\n")
    print(text())
