"""``blindread compile``: from a trained model to a bundle in two halves."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.cli.output import Commands, add_json, progress, show, size
from secure_infer.errors import BundleExists, OptionError
from secure_infer.keys import load_signing_key

if TYPE_CHECKING:
    from secure_infer.compiler.folder import ModelFolder


def add(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compile",
        help="compile a Keras model to a bundle",
        description="Compiles a .keras or .h5 file, a SavedModel or a model folder (see "
        "model_bundles/*/README.md) to BUNDLE with two halves: BUNDLE/hospital goes to the hospital, "
        "BUNDLE/developer never leaves. Needs the extra 'developer'. A layer that can't be compiled is "
        "refused with its name, the reason and what would help.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("--out", type=Path, required=True, metavar="BUNDLE", help="a name that is free")
    parser.add_argument(
        "--signing-key", type=Path, required=True, metavar="FILE", help="made by `blindread keys signing`"
    )
    parser.add_argument(
        "--calibration", type=Path, metavar="FOLDER", help="PNG or JPEG images (a model folder has its own)"
    )
    parser.add_argument("--options", type=Path, metavar="FILE", help="compile.json: input and findings")
    parser.add_argument("--card", type=Path, metavar="FILE", help="model_card.json")
    parser.add_argument(
        "--check",
        type=Path,
        metavar="FOLDER",
        help="compare with the float model on these images, in the clear",
    )
    add_json(parser)
    parser.set_defaults(run=_compile)


def _compile(arguments: argparse.Namespace) -> int:
    if arguments.out.exists():
        raise BundleExists(str(arguments.out), expected="a name that is free", got="something")
    key = load_signing_key(arguments.signing_key)
    # TensorFlow takes seconds to import: only after what can be refused at once.
    from secure_infer.compiler import compile_model
    from secure_infer.compiler.folder import load_pictures, pictures_in
    from secure_infer.compiler.frontends import read_model

    folder = _folder(arguments)
    with progress() as advance:
        advance("reading the model", 0, 1)
        model = read_model(folder.model)
        images = load_pictures(folder.calibration, model, folder.options.input)
        compiled = compile_model(model, images, folder.options, progress=advance)
        report: dict[str, Any] = dict(compiled.report)
        if arguments.check is not None:
            checked = load_pictures(pictures_in(arguments.check), model, folder.options.input)
            advance("comparing with the float model", 0, 1)
            report["check"] = compiled.judge(checked)
        advance("making hints", 0, 1)
        report["digest"] = compiled.write(arguments.out, key)
    report["bundle"] = arguments.out
    show(arguments, report, lambda: _text(report))
    return 0


def _folder(arguments: argparse.Namespace) -> "ModelFolder":
    from secure_infer.compiler.folder import MODEL_NAMES, ModelFolder, open_folder, pictures_in, read_options

    if any((arguments.model / name).exists() for name in MODEL_NAMES):
        folder = open_folder(arguments.model)
    else:
        folder = ModelFolder(arguments.model, read_options(None, None), (), ())
    if arguments.options is not None:
        options = read_options(arguments.options, None)
        folder = replace(folder, options=replace(options, model_card=folder.options.model_card))
    if arguments.card is not None:
        card = read_options(None, arguments.card).model_card
        folder = replace(folder, options=replace(folder.options, model_card=card))
    if arguments.calibration is not None:
        folder = replace(folder, calibration=pictures_in(arguments.calibration))
    if not folder.calibration:
        raise OptionError("--calibration", expected="a folder with PNG or JPEG images", got="none")
    return folder


def _text(report: dict[str, Any]) -> str:
    totals = report["totals"]
    hospital = sum(path.stat().st_size for path in (report["bundle"] / "hospital").iterdir())
    counts = ("comparisons", "truncations", "multiply_adds")
    lines = [
        f"model      {report['model']}",
        "work       " + ", ".join(f"{totals[name]:,} {name.replace('_', '-')}" for name in counts),
        f"hospital   {report['bundle'] / 'hospital'} ({size(hospital)}): give this to the hospital",
        f"developer  {report['bundle'] / 'developer'}: keep this",
        f"digest     {report['digest']}",
    ]
    if "check" in report:
        error = report["check"]["probability_error"]
        lines.append(
            f"check      {report['check']['images']} images: probabilities within {error['max_abs']:.4f}, "
            f"{report['check']['outside']} numbers outside their windows"
        )
    return "\n".join(lines)
