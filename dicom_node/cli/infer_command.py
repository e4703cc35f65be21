"""``blindread infer``: files against a remote developer's party."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.output import Commands, add_json, progress, show
from dicom_node.cli.pictures import add_files, answer, answers_text, load_images
from dicom_node.errors import ConfigError

if TYPE_CHECKING:
    from secure_infer.bundle import HospitalBundle
    from secure_infer.runtime import Endpoint

_FLAGS = ("bundle", "host", "authority", "certificate", "key")


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "infer",
        help="findings for image files, from a remote developer's party",
        description="The images stay here: the developer's party sees random numbers. Bundle, address and "
        "keys come from a gateway's configuration or from the flags.",
    )
    add_files(parser)
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="the gateway's TOML file: its [inference]"
    )
    parser.add_argument("--bundle", type=Path, metavar="BUNDLE", help="with its hospital half")
    parser.add_argument(
        "--trusted-key", type=Path, metavar="FILE", help="public key that must have signed it"
    )
    parser.add_argument("--host", help="the developer's server")
    parser.add_argument("--port", type=int, default=7443, help="(%(default)s)")
    parser.add_argument("--server-name", metavar="NAME", help="in its certificate, if not the host")
    parser.add_argument("--authority", type=Path, metavar="FILE", help="that signs the developer: ca.pem")
    parser.add_argument("--certificate", type=Path, metavar="FILE", help="hospital.pem")
    parser.add_argument("--key", type=Path, metavar="FILE", help="hospital.key")
    parser.add_argument(
        "--pin", metavar="FINGERPRINT", help="only this developer's certificate (`keys show`)"
    )
    parser.add_argument(
        "--timeout", type=float, default=120.0, metavar="S", help="for every wait (%(default)s)"
    )
    parser.add_argument(
        "--ot-engine",
        default="auto",
        help="softspoken, ferret, or auto for what the developer names, else the network suits (%(default)s)",
    )
    parser.add_argument("--threads", type=int, default=1, help="that compute here (%(default)s)")
    add_json(parser)
    parser.set_defaults(run=_infer)


def _infer(arguments: argparse.Namespace) -> int:
    from secure_infer.runtime import HospitalClient

    bundle, endpoint = _from_config(arguments) if arguments.config else _from_flags(arguments)
    images = load_images(arguments.files, bundle.preprocessing)
    answers: list[dict[str, Any]] = []
    with progress() as advance, HospitalClient(bundle, endpoint) as client:
        for path, image in zip(arguments.files, images, strict=True):
            advance("private inference", len(answers), len(images))
            answers.append(answer(path, client.infer(image)))
        link = client.link
    show(
        arguments,
        {
            "digest": bundle.digest,
            "link": asdict(link) if link else None,
            "warnings": bundle.model_card.get("warnings", []),
            "results": answers,
        },
        lambda: answers_text(answers, bundle.model_card),
    )
    return 0


def _from_flags(arguments: argparse.Namespace) -> "tuple[HospitalBundle, Endpoint]":
    from secure_infer.bundle import HospitalBundle
    from secure_infer.keys import load_public_key
    from secure_infer.runtime import Endpoint

    missing = [f"--{name}" for name in _FLAGS if getattr(arguments, name) is None]
    if missing:
        raise ConfigError("infer", expected="--config or all of the flags", got=f"no {', '.join(missing)}")
    trusted = load_public_key(arguments.trusted_key) if arguments.trusted_key else None
    endpoint = Endpoint(
        host=arguments.host,
        port=arguments.port,
        server_name=arguments.server_name,
        authority=arguments.authority,
        certificate=arguments.certificate,
        key=arguments.key,
        fingerprint=arguments.pin,
        timeout_s=arguments.timeout,
        ot_engine=arguments.ot_engine,
        threads=arguments.threads,
    )
    return HospitalBundle.open(arguments.bundle, trusted), endpoint


def _from_config(arguments: argparse.Namespace) -> "tuple[HospitalBundle, Endpoint]":
    from dicom_node.config import load_settings
    from secure_infer.bundle import HospitalBundle
    from secure_infer.keys import load_public_key
    from secure_infer.runtime import Endpoint

    settings = load_settings(arguments.config).inference
    trusted = load_public_key(settings.trusted_key) if settings.trusted_key else None
    endpoint = Endpoint(
        host=settings.host,
        port=settings.port,
        server_name=settings.server_name,
        authority=settings.authority,
        certificate=settings.certificate,
        key=settings.key,
        timeout_s=settings.timeout_s,
        ot_engine=settings.ot_engine,
        threads=settings.threads,
    )
    return HospitalBundle.open(settings.bundle, trusted), endpoint
