"""A model with everything its compilation needs, as one folder.

::

    model.keras, model.h5 or saved_model/  the trained model
    compile.json     {"input": {"source": ...}, "findings": [{"name": ..., "threshold": ..., "code": ...}]}
    model_card.json  see `secure_infer.bundle.card`
    calibration/     PNG or JPEG images like those that the model will see
    examples/        optional: others, to compare bundle and model on
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from secure_infer.bundle.card import Code
from secure_infer.bundle.fields import Fields, parse_object
from secure_infer.compiler.compile import CompiledModel, Progress, compile_model
from secure_infer.compiler.frontends import SourceModel, read_model
from secure_infer.compiler.options import CompileOptions, InputOptions, normaliser
from secure_infer.errors import ModelUnreadable, OptionError
from secure_infer.files import read_bounded
from secure_infer.runtime.preprocess import Preprocessing, prepare, read_picture

Float32 = NDArray[np.float32]
Display = Callable[[Path], Float32]

MODEL_NAMES: Final = ("model.keras", "model.h5", "saved_model")
PICTURE_SUFFIXES: Final = (".png", ".jpg", ".jpeg")
_MAX_JSON_BYTES: Final = 1 << 20


@dataclass(frozen=True)
class ModelFolder:
    """The checked content of a model's folder; pictures are found, not read."""

    model: Path
    options: CompileOptions
    calibration: tuple[Path, ...]
    examples: tuple[Path, ...]


def open_folder(path: Path) -> ModelFolder:
    """Find a model and read its options.

    Raises
    ------
    ModelUnreadable
        There is no model in the folder.
    OptionError, BundleFormat
        ``compile.json`` or ``model_card.json`` is malformed.
    """
    model = next((path / name for name in MODEL_NAMES if (path / name).exists()), None)
    if model is None:
        raise ModelUnreadable("model folder", expected=" or ".join(MODEL_NAMES), got="none of them")
    return ModelFolder(
        model,
        read_options(_if_there(path / "compile.json"), _if_there(path / "model_card.json")),
        pictures_in(path / "calibration"),
        pictures_in(path / "examples"),
    )


def pictures_in(folder: Path) -> tuple[Path, ...]:
    """The PNG and JPEG files of a folder by name; none when there is no such folder."""
    if not folder.is_dir():
        return ()
    return tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES))


def read_options(options: Path | None, card: Path | None) -> CompileOptions:
    """What ``compile.json`` and ``model_card.json`` say; None for the compiler's own choices."""
    stated: dict[str, Any] = {}
    if options is not None:
        top = parse_object(
            read_bounded(options, _MAX_JSON_BYTES, OptionError, follow_links=True), options.name
        )
        stated["input"] = _input(top.take_or("input", dict, {}))
        stated |= _findings(top.take_or("findings", list, []))
        top.done()
    if card is not None:
        content = read_bounded(card, _MAX_JSON_BYTES, OptionError, follow_links=True)
        stated["model_card"] = parse_object(content, card.name).rest()
    return CompileOptions(**stated)


def load_pictures(
    paths: Iterable[Path], model: SourceModel, options: InputOptions, *, display: Display = read_picture
) -> list[Float32]:
    """Pictures as the hospital would prepare them for this model, in pixel levels."""
    channels, height, width = model.graph.image.shape
    plan = Preprocessing(
        height=height,
        width=width,
        channels=1 if options.grey else channels,
        resample=options.resample,
        source=options.source,
        fit=options.fit,
    )
    return [prepare(display(path), plan) for path in paths]


def compile_folder(path: Path, *, progress: Progress | None = None) -> CompiledModel:
    """Compile the model of a folder with the folder's options and calibration images.

    Raises
    ------
    CompileError, BundleFormat, InputRejected
        With the file or layer that is wrong.
    """
    folder = open_folder(path)
    model = read_model(folder.model)
    images = load_pictures(folder.calibration, model, folder.options.input)
    return compile_model(model, images, folder.options, progress=progress)


def plain_probabilities(
    path: Path, pictures: Iterable[Path], *, display: Display = read_picture
) -> list[dict[str, float]]:
    """What a folder's model itself says of pictures, in the clear; finding to probability, per picture."""
    folder = open_folder(path)
    model = read_model(folder.model)
    options = folder.options.input
    batch: NDArray[Any] = np.stack(load_pictures(pictures, model, options, display=display))
    batch = batch[..., None] if batch.ndim == 3 else batch
    batch = np.broadcast_to(batch, (*batch.shape[:3], model.graph.image.shape[0]))
    if options.normalisation != "none":
        affine = normaliser(options.normalisation)
        batch = batch * affine.scale + affine.shift
    outputs = model.predict(batch.astype(np.float32))
    names = folder.options.findings or tuple(f"class {i}" for i in range(outputs.shape[1]))
    return [dict(zip(names, map(float, row), strict=True)) for row in outputs]


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None


def _input(stated: dict[str, Any]) -> InputOptions:
    fields = Fields(stated, "compile.json: input")
    base = InputOptions()
    made = InputOptions(
        source=fields.take_or("source", str, base.source),
        grey=fields.take_or("grey", bool, base.grey),
        normalisation=fields.take_or("normalisation", str, base.normalisation),
        resample=fields.take_or("resample", str, base.resample),
        fit=fields.take_or("fit", str, base.fit),
    )
    fields.done()
    return made


def _findings(stated: list[Any]) -> dict[str, Any]:
    names: list[str] = []
    thresholds: dict[str, float] = {}
    codes: dict[str, Code] = {}
    for index, one in enumerate(stated):
        fields = Fields.of(one, f"compile.json: findings [{index}]")
        name = fields.text("name", longest=64)
        names.append(name)
        thresholds[name] = fields.take_or("threshold", float, 0.5)
        if fields.has("code"):
            codes[name] = Code.read(fields.fields("code"))
        fields.done()
    return {"findings": tuple(names), "thresholds": thresholds if names else 0.5, "codes": codes}
