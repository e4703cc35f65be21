"""``blindread party``: the developer's side of the protocol."""

import argparse
import logging
import signal
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dicom_node.cli.output import Commands, add_json, show

_GRACE_S = 30.0


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("party", help="the developer's party")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    one = actions.add_parser(
        "serve",
        help="answer hospitals with a bundle's developer half",
        description="Serves until SIGTERM or Ctrl-C. Says where it listens on standard output, and logs "
        "every session to standard error. It learns nothing of the images; hospitals learn only findings.",
    )
    one.add_argument("--bundle", type=Path, required=True, metavar="BUNDLE", help="with its developer half")
    one.add_argument("--listen", default="0.0.0.0:7443", metavar="HOST:PORT", help="(%(default)s)")
    one.add_argument(
        "--authority", type=Path, required=True, metavar="FILE", help="that signs hospitals: ca.pem"
    )
    one.add_argument("--certificate", type=Path, required=True, metavar="FILE", help="developer.pem")
    one.add_argument("--key", type=Path, required=True, metavar="FILE", help="developer.key")
    one.add_argument(
        "--pin",
        action="append",
        default=[],
        metavar="FINGERPRINT",
        help="only this hospital's certificate (see `keys show`); may be repeated",
    )
    one.add_argument("--hospitals", type=int, default=4, help="served at once (%(default)s)")
    one.add_argument("--tickets", type=int, default=4, help="unspent ones per hospital (%(default)s)")
    one.add_argument("--images-per-hospital", type=int, metavar="N", help="budget per certificate (no limit)")
    one.add_argument("--budget-file", type=Path, metavar="FILE", help="keeps the count across restarts")
    one.add_argument(
        "--noise", type=float, metavar="LOGITS", help="standard deviation of the noise on each logit (2^-8)"
    )
    one.add_argument("--timeout", type=float, default=120.0, metavar="S", help="for every wait (%(default)s)")
    one.add_argument(
        "--ot-engine",
        default="auto",
        help="softspoken, ferret, or auto for what a hospital names, else the network suits (%(default)s)",
    )
    one.add_argument(
        "--threads", type=int, default=1, help="that compute for each hospital being served (%(default)s)"
    )
    one.add_argument("--log-format", choices=("text", "json"), default="text")
    add_json(one)
    one.set_defaults(run=_serve)


def _serve(arguments: argparse.Namespace) -> int:
    from dicom_node.logs import configure_logging
    from secure_infer.bundle import DeveloperBundle
    from secure_infer.keys import check_certificate, load_certificate
    from secure_infer.runtime.developer import LOGIT_NOISE, DeveloperServer, Limits, output_noise
    from secure_infer.runtime.endpoint import Credentials

    configure_logging(form=arguments.log_format, level="info")
    check_certificate(
        load_certificate(arguments.certificate), load_certificate(arguments.authority), "developer"
    )
    bundle = DeveloperBundle.open(arguments.bundle)
    credentials = Credentials(
        authority=arguments.authority,
        certificate=arguments.certificate,
        key=arguments.key,
        fingerprints=tuple(arguments.pin),
    )
    limits = Limits(
        hospitals=arguments.hospitals,
        tickets=arguments.tickets,
        images_per_hospital=arguments.images_per_hospital,
        budget_file=arguments.budget_file,
        output_noise=output_noise(
            bundle.findings, LOGIT_NOISE if arguments.noise is None else arguments.noise
        ),
        timeout_s=arguments.timeout,
        ot_engine=arguments.ot_engine,
        threads=arguments.threads,
    )
    server = DeveloperServer(bundle, arguments.listen, credentials, limits)
    where = {"port": server.port, "digest": bundle.digest}
    show(arguments, where, lambda: f"listening on port {server.port} with bundle {bundle.digest}")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        server.serve_forever()
    except (KeyboardInterrupt, _Terminated):
        logging.getLogger(__name__).info("ending")
        server.shutdown(grace_s=_GRACE_S)
    return 0


class _Terminated(BaseException):
    """SIGTERM arrived."""


def _terminate(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _Terminated
