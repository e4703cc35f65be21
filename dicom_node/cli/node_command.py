"""``blindread node``: the hospital's gateway."""

import argparse
from pathlib import Path

from dicom_node.cli.output import Commands, add_json, show


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser("node", help="the hospital's gateway")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    one = actions.add_parser(
        "run",
        help="receive studies, infer, report",
        description="Runs the gateway until SIGTERM or Ctrl-C. The log goes to standard error. A restart at "
        "any moment loses nothing and reports nothing twice.",
    )
    one.add_argument(
        "--config", type=Path, required=True, metavar="FILE", help="TOML, see config/gateway.example.toml"
    )
    one.set_defaults(run=_run)
    one = actions.add_parser("check", help="check the configuration and exit")
    one.add_argument("--config", type=Path, required=True, metavar="FILE")
    add_json(one)
    one.set_defaults(run=_check)


def _run(arguments: argparse.Namespace) -> int:
    from dicom_node.config import load_settings
    from dicom_node.node import Node

    return Node(load_settings(arguments.config)).run()


def _check(arguments: argparse.Namespace) -> int:
    from dicom_node.config import load_settings
    from secure_infer.bundle import HospitalBundle
    from secure_infer.keys import check_certificate, load_certificate, load_public_key

    inference = load_settings(arguments.config).inference
    trusted = load_public_key(inference.trusted_key) if inference.trusted_key else None
    bundle = HospitalBundle.open(inference.bundle, trusted)
    authority = load_certificate(inference.authority)
    info = check_certificate(load_certificate(inference.certificate), authority, "hospital")
    facts = {
        "model": bundle.model_card["name"],
        "bundle_digest": bundle.digest,
        "certificate_valid_until": info.not_after,
    }

    def text() -> str:
        until = f"{info.not_after:%Y-%m-%d}"
        return f"configuration is good: model {facts['model']}, certificate valid until {until}"

    show(arguments, facts, text)
    return 0
