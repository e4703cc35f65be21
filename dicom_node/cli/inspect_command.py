"""``blindread inspect``: what a bundle is, layer by layer, and what it will cost."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from dicom_node.cli.output import Commands, add_json, show, size, table
from secure_infer.bundle import DeveloperBundle, HospitalBundle
from secure_infer.keys import load_public_key
from secure_infer.runtime.cost import predict

_HEADER: Final = (
    "layer",
    "operation",
    "shape",
    "ring",
    "window",
    "comparisons",
    "truncations",
    "online to D",
    "to H",
    "offline to D",
    "to H",
    "rounds",
)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "inspect",
        help="show a bundle: layers, rings, windows, predicted bytes and rounds",
        description="Checks a bundle's files and signature, and shows its layers with rings, windows and the "
        "predicted cost of one inference. Works on the hospital's half alone.",
    )
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="the bundle's folder or its hospital half"
    )
    parser.add_argument(
        "--trusted-key", type=Path, metavar="FILE", help="public key that must have signed it"
    )
    add_json(parser)
    parser.set_defaults(run=_inspect)


def _inspect(arguments: argparse.Namespace) -> int:
    trusted = load_public_key(arguments.trusted_key) if arguments.trusted_key else None
    bundle = HospitalBundle.open(arguments.bundle, trusted)
    hints = bundle.load_hints()
    developer = (arguments.bundle / "developer" / "manifest.json").exists()
    if developer:
        half = DeveloperBundle.open(arguments.bundle)
        half.check_counterpart(bundle)
        half.load_secrets()
    value = {
        "bundle_id": bundle.bundle_id,
        "digest": bundle.digest,
        "created": bundle.created,
        "signer": bundle.signer,
        "signer_trusted": bundle.trusted,
        "developer_half_checked": developer,
        "hints_bytes": len(hints),
        "input": {"shape": bundle.program.input_value.shape, **bundle.preprocessing},
        "findings": [finding.to_json() for finding in bundle.findings],
        "model_card": bundle.model_card,
        "cost": predict(bundle.program).to_json(),
    }
    show(arguments, value, lambda: _text(value))
    return 0


def _text(value: Mapping[str, Any]) -> str:
    card, cost = value["model_card"], value["cost"]
    trust = "trusted" if value["signer_trusted"] else "not compared with a trusted key"
    counts = (
        f"comparisons {cost['comparisons']:,}, truncations {cost['truncations']:,}, "
        f"multiply-adds {cost['multiply_adds']:,}"
    )
    lines = [
        f"model      {card['name']} {card['version']} by {card['manufacturer']}",
        f"digest     {value['digest']}",
        f"signer     {value['signer']} ({trust})",
        f"created    {value['created']}",
        f"input      {'x'.join(str(extent) for extent in value['input']['shape'])}",
        f"findings   {', '.join(finding['name'] for finding in value['findings'])}",
        f"hints      {size(value['hints_bytes'])}",
        *(f"warning    {warning}" for warning in card.get("warnings", ())),
        "",
        table(_HEADER, [_row(step) for step in cost["steps"]]),
        "",
        counts,
        f"online   {_traffic(cost['online'])}, {cost['online']['rounds']} round trips",
        f"offline  {_traffic(cost['offline'])} ({cost['ot_engine']})",
    ]
    return "\n".join(lines)


def _traffic(one: Mapping[str, int]) -> str:
    to_developer, to_hospital = size(one["bytes_to_developer"]), size(one["bytes_to_hospital"])
    return f"{to_developer} to the developer, {to_hospital} to the hospital"


def _row(step: Mapping[str, Any]) -> tuple[object, ...]:
    window = f"[{step['window'][0]},{step['window'][1]})" if step["window"] else ""
    return (
        step["name"],
        step["op"],
        "x".join(str(extent) for extent in step["shape"]),
        step["ring_bits"],
        window,
        step["comparisons"],
        step["truncations"],
        step["online"]["bytes_to_developer"],
        step["online"]["bytes_to_hospital"],
        step["offline"]["bytes_to_developer"],
        step["offline"]["bytes_to_hospital"],
        step["rounds"],
    )
