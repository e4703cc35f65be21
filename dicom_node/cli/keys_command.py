"""``blindread keys``: authority, certificates, signing keys."""

import argparse
from pathlib import Path

from dicom_node.cli.output import Commands, add_json, show
from secure_infer import keys


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "keys",
        help="make and show keys and certificates",
        description="Keys for both parties. Private keys are written with mode 0600; nothing is overwritten.",
        epilog="On one machine: `keys authority`, `keys issue --role developer --host NAME`, `keys issue "
        "--role hospital`. Between institutions: each side runs `keys request` and sends the .csr, never the "
        ".key, to whoever keeps the authority, who runs `keys sign`.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)

    one = actions.add_parser("authority", help="make a certificate authority: ca.key and ca.pem")
    one.add_argument("--out", type=Path, required=True, metavar="FOLDER")
    one.add_argument("--name", default="blindread authority", help="its name in certificates")
    one.add_argument("--days", type=int, default=keys.AUTHORITY_DAYS, help="validity (%(default)s)")
    _finish(one, _authority)

    one = actions.add_parser("issue", help="make a key and its certificate: ROLE.key and ROLE.pem")
    _add_party(one)
    one.add_argument("--authority", type=Path, required=True, metavar="FOLDER", help="with ca.key and ca.pem")
    one.add_argument("--days", type=int, default=keys.CERTIFICATE_DAYS, help="validity (%(default)s)")
    _finish(one, _issue)

    one = actions.add_parser("request", help="make a key and a signing request: ROLE.key and ROLE.csr")
    _add_party(one)
    _finish(one, _request)

    one = actions.add_parser("sign", help="make a certificate from a signing request")
    one.add_argument("request", type=Path, metavar="REQUEST", help="the .csr file")
    one.add_argument("--authority", type=Path, required=True, metavar="FOLDER", help="with ca.key and ca.pem")
    one.add_argument("--role", choices=("developer", "hospital"), required=True)
    one.add_argument("--out", type=Path, required=True, metavar="FILE", help="the certificate")
    one.add_argument("--days", type=int, default=keys.CERTIFICATE_DAYS, help="validity (%(default)s)")
    _finish(one, _sign)

    one = actions.add_parser("signing", help="make an Ed25519 key that signs bundles: FILE and FILE.pub")
    one.add_argument("--out", type=Path, required=True, metavar="FILE")
    _finish(one, _signing)

    one = actions.add_parser("show", help="what a certificate says, with the fingerprint to pin")
    one.add_argument("certificate", type=Path, metavar="CERTIFICATE")
    one.add_argument(
        "--authority", type=Path, metavar="FILE", help="also check it against this ca.pem, and its dates"
    )
    _finish(one, _show)


def _add_party(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--role", choices=("developer", "hospital"), required=True, help="which side it is for"
    )
    parser.add_argument("--name", required=True, help="common name, shown in the other side's log")
    parser.add_argument(
        "--host",
        action="append",
        default=[],
        help="name or address of the developer's server; may be repeated",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER")


def _finish(parser: argparse.ArgumentParser, run: object) -> None:
    add_json(parser)
    parser.set_defaults(run=run)


def _authority(arguments: argparse.Namespace) -> int:
    return _written(arguments, keys.create_authority(arguments.out, arguments.name, days=arguments.days))


def _issue(arguments: argparse.Namespace) -> int:
    made = keys.issue(
        arguments.authority,
        arguments.out,
        arguments.role,
        arguments.name,
        arguments.host,
        days=arguments.days,
    )
    return _written(arguments, made)


def _request(arguments: argparse.Namespace) -> int:
    made = keys.create_request(arguments.out, arguments.role, arguments.name, arguments.host)
    return _written(arguments, made)


def _sign(arguments: argparse.Namespace) -> int:
    info = keys.sign_request(
        arguments.authority, arguments.request, arguments.role, arguments.out, days=arguments.days
    )
    return _described(arguments, info)


def _signing(arguments: argparse.Namespace) -> int:
    return _written(arguments, keys.create_signing_key(arguments.out))


def _show(arguments: argparse.Namespace) -> int:
    certificate = keys.load_certificate(arguments.certificate)
    info = keys.describe(certificate)
    if arguments.authority is not None:
        keys.check_certificate(certificate, keys.load_certificate(arguments.authority), info.role)
    return _described(arguments, info)


def _written(arguments: argparse.Namespace, made: keys.KeyPaths) -> int:
    show(
        arguments,
        {"private": made.private, "public": made.public},
        lambda: f"private (keep)  {made.private}\npublic (give)   {made.public}",
    )
    return 0


def _described(arguments: argparse.Namespace, info: keys.CertificateInfo) -> int:
    def text() -> str:
        return "\n".join(
            [
                f"role         {info.role}",
                f"name         {info.name}",
                f"issuer       {info.issuer}",
                f"hosts        {', '.join(info.hosts)}",
                f"valid        {info.not_before:%Y-%m-%d %H:%M} to {info.not_after:%Y-%m-%d %H:%M} UTC",
                f"fingerprint  {info.fingerprint}",
            ]
        )

    show(arguments, info, text)
    return 0
