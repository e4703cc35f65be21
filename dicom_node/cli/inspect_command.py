"""``blindread inspect``: what a bundle is, layer by layer, and what it will cost."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from dicom_node.cli.output import Commands, add_json, show, size, table
from secure_infer.bundle import DeveloperBundle, HospitalBundle
from secure_infer.errors import OptionError
from secure_infer.keys import load_public_key
from secure_infer.runtime.cost import Traffic, predict
from secure_infer.runtime.explain import explain
from secure_infer.runtime.timing import Link, Timing, timing
from secure_infer.runtime.work import PHASES

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
_EXPLAINED: Final = (
    "layer",
    "operation",
    "offline s",
    "to D",
    "to H",
    "rounds",
    "online s",
    "to D",
    "to H",
    "rounds",
)


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "inspect",
        help="show a bundle: layers, rings, windows, predicted bytes and rounds",
        description="Checks a bundle's files and signature, and shows its layers with rings, windows and the "
        "predicted cost of one inference. Works on the hospital's half alone. --explain adds seconds for a "
        "network and an OT engine.",
    )
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="the bundle's folder or its hospital half"
    )
    parser.add_argument(
        "--trusted-key", type=Path, metavar="FILE", help="public key that must have signed it"
    )
    parser.add_argument(
        "--explain",
        action="store_true",
        help="predict seconds too, layer by layer, and say what dominates; `blindread bench --calibrate` "
        "fits the prediction to this machine",
    )
    parser.add_argument("--ot-engine", default="softspoken", help="softspoken or ferret (%(default)s)")
    parser.add_argument("--network", default="loopback", help="loopback, lan or wan (%(default)s)")
    parser.add_argument(
        "--bandwidth", type=float, metavar="MBIT/S", help="each way, in place of the network's own"
    )
    parser.add_argument(
        "--round-trip", type=float, metavar="MS", help="there and back, in place of the network's own"
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
        "cost": predict(bundle.program, arguments.ot_engine).to_json(),
    }
    if not arguments.explain:
        show(arguments, value, lambda: _text(value))
        return 0
    from secure_infer.bench.calibrate import coefficients

    explained = timing(
        bundle.program, arguments.ot_engine, coefficients=coefficients(), link=_link(arguments)
    )
    value["explanation"] = _explanation(explained)
    show(arguments, value, lambda: f"{_text(value, layers=False)}\n\n{_explained_text(explained)}")
    return 0


def _link(arguments: argparse.Namespace) -> Link:
    """The network of this name, with what was said of it apart."""
    from secure_infer.bench.network import NETWORKS

    name, mbit, ms = arguments.network, arguments.bandwidth, arguments.round_trip
    if name not in NETWORKS:
        raise OptionError("network", expected=" or ".join(NETWORKS), got=name)
    if (mbit is not None and mbit <= 0) or (ms is not None and ms < 0):
        raise OptionError("bandwidth and round trip", expected="positive numbers", got=f"{mbit} and {ms}")
    profile = NETWORKS[name]
    if mbit is None and profile is not None:
        mbit = profile.mbit
    if ms is None:
        ms = profile.round_trip_ms if profile is not None else 0.0
    return Link(name, None if mbit is None else mbit * 1e6, ms / 1e3)


def _explanation(explained: Timing) -> dict[str, Any]:
    return {
        "coefficients": {
            "about": explained.coefficients.about,
            "machine": explained.coefficients.machine,
        },
        "network": asdict(explained.link),
        **{phase: asdict(explained.total(phase)) for phase in PHASES},
        "steps": [
            {"name": one.step.name, "offline": asdict(one.offline), "online": asdict(one.online)}
            for one in explained.steps
        ],
        "sentences": explain(explained),
    }


def _explained_text(explained: Timing) -> str:
    prediction, link = explained.prediction, explained.link
    rows = [
        _explained_row(
            (one.step.name, one.step.op),
            (one.offline.seconds, one.step.offline, one.step.offline_rounds),
            (one.online.seconds, one.step.online, one.step.rounds),
        )
        for one in explained.steps
    ]
    offline, online = (explained.total(phase).seconds for phase in PHASES)
    rows.append(
        _explained_row(
            ("total", ""),
            (offline, prediction.offline, prediction.offline_rounds),
            (online, prediction.online, prediction.rounds),
        )
    )
    rate = "" if link.bits_per_second is None else f", {link.bits_per_second / 1e6:g} Mbit/s each way"
    delay = f", {link.round_trip_s * 1e3:g} ms there and back" if link.round_trip_s else ""
    machine = explained.coefficients.machine
    return "\n".join(
        [
            table(_EXPLAINED, rows),
            "",
            f"OT engine {prediction.ot_engine}, one core a party, network {link.name}{rate}{delay}",
            f"coefficients: {explained.coefficients.about} ({machine.get('cpu', 'unknown processor')})",
            "",
            *explain(explained),
        ]
    )


def _explained_row(
    names: tuple[str, str], offline: tuple[float, Traffic, int], online: tuple[float, Traffic, int]
) -> tuple[object, ...]:
    row: list[object] = [*names]
    for seconds, traffic, rounds in (offline, online):
        row += [f"{seconds:.4f}", size(traffic.to_developer / 8), size(traffic.to_hospital / 8), rounds]
    return tuple(row)


def _text(value: Mapping[str, Any], *, layers: bool = True) -> str:
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
        *([table(_HEADER, [_row(step) for step in cost["steps"]]), ""] if layers else []),
        counts,
        f"online   {_traffic(cost['online'])}, {cost['online']['rounds']} round trips",
        f"offline  {_traffic(cost['offline'])}, {cost['offline']['rounds']} round trips",
        f"engine   {cost['ot_engine']}",
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
