"""The way from a trained model to a program: read, simplify, calibrate, plan, emit, judge."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from secure_infer.bundle import write_bundle
from secure_infer.bundle.card import Finding
from secure_infer.compiler.correction import correct_biases
from secure_infer.compiler.emit import Emitted, Parameters, emit
from secure_infer.compiler.frontends import SourceModel, read_model
from secure_infer.compiler.frontends.source import ACTIVATIONS
from secure_infer.compiler.graph import Conv, Graph, Relu, outputs_of
from secure_infer.compiler.options import CompileOptions, InputOptions, with_input
from secure_infer.compiler.passes import simplify
from secure_infer.compiler.precision import (
    LADDER,
    Calibration,
    PrecisionOptions,
    calibrate,
    choose_scales,
    clamp_thresholds,
    lay_out,
)
from secure_infer.compiler.precision.scales import raw_shifts
from secure_infer.errors import CalibrationError, OptionError
from secure_infer.runtime.backends.reference import Observer, ReferenceBackend
from secure_infer.runtime.program import Program

Images = Sequence[NDArray[Any]] | NDArray[Any]
Progress = Callable[[str, int, int], None]

_DEVIATIONS = 4.0

HELD_OUT = 4
"""Calibration images that are set aside to judge the program by."""

HEADROOM = 0.8
"""How much of a window or truncation range held-out images may use up."""


@dataclass(frozen=True)
class CompiledModel:
    """A program, the developer's private parameters, and what describes them.

    Attributes
    ----------
    program : Program
    parameters : dict
        Private: step name to arrays.
    findings : tuple of Finding
    preprocessing, model_card : dict
        As in the bundle's files of these names.
    graph : Graph
        The float function that the program approximates, from the hospital's pixels to the logits.
    source : SourceModel
    report : dict
        Counts, margins and (after `judge`) errors; holds no weights.
    """

    program: Program
    parameters: Parameters
    findings: tuple[Finding, ...]
    preprocessing: dict[str, Any]
    model_card: dict[str, Any]
    graph: Graph
    source: SourceModel
    report: dict[str, Any]

    def quantise(self, image: NDArray[Any]) -> NDArray[np.int32]:
        """The integers [C, H, W] for an image [H, W] or [H, W, C] in the hospital's pixel levels."""
        x = _channels_first(image, self.graph.image.shape)
        integers: NDArray[np.int32] = np.rint(x * self.preprocessing["input_scale"]).astype(np.int32)
        return integers

    def reference_logits(
        self,
        image: NDArray[Any],
        *,
        rng: np.random.Generator | None = None,
        observer: Observer | None = None,
    ) -> NDArray[np.float64]:
        """Logits of the reference backend for one image, [classes]."""
        backend = ReferenceBackend(self.program, self.parameters)
        opened = backend.run(self.quantise(image), rng=rng, observer=observer)
        (integers,) = opened.values()
        return np.asarray(integers.ravel() * np.array([f.logit_scale for f in self.findings]))

    def float_logits(self, image: NDArray[Any]) -> NDArray[np.float64]:
        """Logits of the float function for one image, [classes]."""
        x = _channels_first(image, self.graph.image.shape).astype(np.float32)
        return np.asarray(outputs_of(self.graph, x)[0].ravel(), np.float64)

    def probabilities(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the model makes of logits [classes]."""
        return activate(logits, self.findings[0].activation)

    def judge(self, images: Images, *, seed: int = 0, progress: Progress | None = None) -> dict[str, Any]:
        """Compare the program, with the protocol's roundings, to the float function.

        Returns
        -------
        dict
            ``images``, ``probability_error`` and ``logit_error`` (largest, rms), ``expected_error``
            (see `CompileOptions.tolerance`), ``outside`` (numbers
            beyond their windows or truncation ranges), ``peak`` (the largest number, relative to its
            limit) and ``peak_step``.
        """
        rng, observer = np.random.default_rng(seed), Observer()
        errors = [self._errors(i, rng, observer) for i in _counted("judging", images, progress)]
        logit, probability = (np.array(e) for e in zip(*errors, strict=True))
        peak, step = max((s.peak, name) for name, s in observer.statistics.items())
        return {
            "images": len(errors),
            "probability_error": _summary(probability),
            "logit_error": _summary(logit),
            "expected_error": _DEVIATIONS * self._steepest * _summary(logit)["rms"],
            "outside": observer.outside,
            "peak": peak,
            "peak_step": step,
        }

    @property
    def _steepest(self) -> float:
        """The largest slope of the activation: 1/4 for sigmoid and softmax."""
        return 1.0 if self.findings[0].activation == "none" else 0.25

    def _errors(
        self, image: NDArray[Any], rng: np.random.Generator, observer: Observer
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        wanted = self.float_logits(image)
        got = self.reference_logits(image, rng=rng, observer=observer)
        return got - wanted, self.probabilities(got) - self.probabilities(wanted)

    def write(self, path: Path | str, signing_key: Ed25519PrivateKey) -> str:
        """Make the hints and write both halves of a bundle; returns the bundle's digest.

        Raises
        ------
        BundleExists, BundleFormat
            From `secure_infer.bundle.write_bundle`.
        """
        return write_bundle(
            path,
            program_json=self.program.to_json(),
            parameters=self.parameters,
            preprocessing=self.preprocessing,
            findings=self.findings,
            model_card=self.model_card,
            signing_key=signing_key,
        )


def compile_model(
    source: Any,
    calibration: Images,
    options: CompileOptions | None = None,
    *,
    held_out: Images | None = None,
    progress: Progress | None = None,
) -> CompiledModel:
    """Compile a trained model.

    Parameters
    ----------
    source : path or Keras model
        See `secure_infer.compiler.frontends.read_model`.
    calibration : arrays [H, W] or [H, W, C]
        Images like those the model will see, in pixel levels (`InputOptions.source`), of the model's
        size. 16 to 48 are enough; the margins are relative to what they reach.
    options : CompileOptions, optional
    held_out : arrays, optional
        Images to judge the program by, of the same kind; None takes the last of the calibration
        images for it (`HELD_OUT` of them, where there are at least four times as many).
    progress : callable, optional
        Called with the name of the work at hand, what is done and what there is to do.

    Returns
    -------
    CompiledModel
        Its report has the errors and overflow counts on the held-out images, for every precision
        that was tried.

    Raises
    ------
    CompileError
        ModelUnreadable, UnsupportedLayer, CalibrationError, RangeError or OptionError.
    """
    options = options or CompileOptions()
    model = source if isinstance(source, SourceModel) else read_model(source)
    graph = simplify(with_input(model.graph, options.input))
    seen, unseen = _split(calibration, held_out)
    images = _checked_images(seen, graph, options.input)
    rungs = LADDER if options.precision is None else (("chosen", options.precision),)

    def measured(on: Graph) -> Calibration:
        return calibrate(on, _counted("calibration", images, progress))

    graph, calibrated, clamped = measure(graph, measured, rungs[0][1].clamp_margin)
    tried: list[dict[str, Any]] = []
    for name, precision in rungs:
        compiled = _compiled(model, graph, calibrated, images, precision, options)
        accepted = not len(unseen)
        if not accepted:
            verdict = compiled.judge(unseen, progress=progress)
            accepted = verdict["expected_error"] <= options.tolerance and verdict["peak"] <= HEADROOM
            tried.append({"precision": name, **verdict, "accepted": accepted})
        if accepted:
            break
    compiled.report.update(calibration_images=len(images), clamped_units=clamped, held_out=tried)
    return compiled


def _compiled(
    model: SourceModel,
    graph: Graph,
    calibration: Calibration,
    images: Sequence[NDArray[Any]],
    precision: PrecisionOptions,
    options: CompileOptions,
) -> CompiledModel:
    emitted, facts = plan(graph, calibration, precision, images)
    report = {
        "model": model.name,
        **model.description,
        "precision": asdict(precision),
        "totals": asdict(emitted.program.totals()),
        **facts,
    }
    return CompiledModel(
        emitted.program,
        emitted.parameters,
        _findings(model, emitted, options),
        _preprocessing(emitted, options.input),
        _model_card(model, emitted, options),
        graph,
        model,
        report,
    )


def _split(calibration: Images, held_out: Images | None) -> tuple[Images, Images]:
    """Calibration images, and those to judge by."""
    if held_out is not None:
        return calibration, held_out
    if len(calibration) < 4 * HELD_OUT:
        return calibration, ()
    return calibration[:-HELD_OUT], calibration[-HELD_OUT:]


def measure(
    graph: Graph, measured: Callable[[Graph], Calibration], clamp_margin: float
) -> tuple[Graph, Calibration, int]:
    """Calibrate a simplified graph and clamp its thresholds; also returns the number of clamped units."""
    calibration = measured(graph)
    clamped_graph, clamped = clamp_thresholds(graph, calibration, clamp_margin)
    if not clamped:
        return graph, calibration, 0
    if not set(graph.nodes) >= set(clamped_graph.nodes) or _tests_relus(clamped_graph):
        calibration = measured(clamped_graph)
    return clamped_graph, calibration, clamped


def _tests_relus(graph: Graph) -> bool:
    """Whether a ReLU's output is tested itself, so that clamping changes what was measured."""
    users = graph.consumers()
    relus = [node.name for node in graph.nodes.values() if isinstance(node.op, Relu)]
    return any(not isinstance(graph.nodes[u].op, Conv) for name in relus for u in users[name])


def plan(
    graph: Graph, calibration: Calibration, options: PrecisionOptions, images: Sequence[NDArray[Any]] = ()
) -> tuple[Emitted, dict[str, int]]:
    """Choose layout and scales, and write the program; also returns what the limits cost.

    With calibration images [C, H, W], biases are corrected on them.
    """
    layout = lay_out(graph, options, {})
    scales = choose_scales(graph, layout, calibration, options)
    fewer = raw_shifts(graph, layout, scales, options)
    if fewer:
        layout = lay_out(graph, options, fewer)
        scales = choose_scales(graph, layout, calibration, options)
    pressed = sum(scales.pressed(name) for name in graph.nodes)
    facts = {"layers_with_fewer_raw_bits": len(fewer), "pressed_channels": pressed}
    emitted = emit(graph, layout, scales, options)
    if len(images):
        correct_biases(emitted, graph, layout, scales, images)
    return emitted, facts


def activate(logits: NDArray[np.float64], activation: str) -> NDArray[np.float64]:
    """Probabilities for logits [classes]: ``sigmoid``, ``softmax`` or ``none``."""
    if activation == "sigmoid":
        return np.asarray(0.5 + 0.5 * np.tanh(0.5 * logits))
    if activation == "softmax":
        powers = np.exp(logits - logits.max())
        return np.asarray(powers / powers.sum())
    return logits


def _summary(errors: NDArray[np.float64]) -> dict[str, float]:
    return {"max_abs": float(np.abs(errors).max()), "rms": float(np.sqrt((errors**2).mean()))}


def _channels_first(image: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    x = np.asarray(image)
    x = x[None] if x.ndim == 2 else np.moveaxis(x, -1, 0)
    if x.shape != shape:
        expected = f"[height, width(, channels)] for {list(shape)}"
        raise CalibrationError("image", expected=expected, got=list(np.shape(image)))
    return x


def _checked_images(images: Images, graph: Graph, options: InputOptions) -> list[NDArray[Any]]:
    checked = [_channels_first(image, graph.image.shape) for image in images]
    if not checked:
        raise CalibrationError("calibration images", expected="at least one", got="none")
    low, high = min(float(i.min()) for i in checked), max(float(i.max()) for i in checked)
    if not (low >= 0 and options.largest / 64 < high <= options.largest):
        expected = f"pixels from 0 to {options.largest:g} (source {options.source})"
        raise CalibrationError("calibration images", expected=expected, got=f"{low:g} to {high:g}")
    return checked


def _counted(what: str, images: Images, progress: Progress | None) -> Iterable[NDArray[Any]]:
    """The images, one by one, telling how far one is."""
    for done, image in enumerate(images):
        if progress is not None:
            progress(what, done, len(images))
        yield image
    if progress is not None:
        progress(what, len(images), len(images))


def _activation(model: SourceModel, options: CompileOptions) -> str:
    """What the hospital applies to the logits."""
    kinds = set(model.activations)
    if len(kinds) != 1:
        expected = "one activation for all outputs"
        raise OptionError("model outputs", expected=expected, got=sorted(kinds))
    (own,) = kinds
    if options.activation is None or options.activation == own:
        return own
    if options.activation not in ACTIVATIONS or own != "none":
        expected = f"{', '.join(ACTIVATIONS)} for a model that ends in logits, or the model's own ({own})"
        raise OptionError("option activation", expected=expected, got=repr(options.activation))
    return options.activation


def _findings(model: SourceModel, emitted: Emitted, options: CompileOptions) -> tuple[Finding, ...]:
    count = len(emitted.logit_scales)
    activation = _activation(model, options)
    names = options.findings or tuple(f"class {i}" for i in range(count))
    if len(names) != count:
        raise OptionError("option findings", expected=f"{count} names", got=len(names))
    thresholds = options.thresholds
    unknown = set(options.codes) - set(names)
    if isinstance(thresholds, Mapping):
        unknown |= set(thresholds) - set(names)
    if unknown:
        raise OptionError("thresholds and codes", expected="names of findings", got=sorted(unknown)[:3])
    return tuple(
        Finding(
            name,
            float(scale),
            float(thresholds.get(name, 0.5) if isinstance(thresholds, Mapping) else thresholds),
            activation,
            options.codes.get(name),
        )
        for name, scale in zip(names, emitted.logit_scales, strict=True)
    )


def _preprocessing(emitted: Emitted, options: InputOptions) -> dict[str, Any]:
    channels, height, width = emitted.program.input_value.shape
    return {
        "height": height,
        "width": width,
        "channels": channels,
        "resample": options.resample,
        "fit": options.fit,
        "intensity": {"source": options.source},
        "input_scale": emitted.input_scale,
        "input_offset": 0.0,
    }


def _model_card(model: SourceModel, emitted: Emitted, options: CompileOptions) -> dict[str, Any]:
    """The stated fields, and honest fillers for those that must be there."""
    content = hashlib.sha256(emitted.program.to_json().encode())
    for name in sorted(emitted.parameters):
        for kind in sorted(emitted.parameters[name]):
            content.update(emitted.parameters[name][kind].tobytes())
    number = uuid.uuid5(uuid.NAMESPACE_OID, content.hexdigest()).int
    return {
        "name": model.name[:64] or "model",
        "version": content.hexdigest()[:12],
        "description": f"{model.description['layers']} layers of {model.description['framework']}",
        "manufacturer": "not stated",
        "device_uid": f"2.25.{number}",
        "clinical_use": False,
        "intended_use": {
            "modalities": ["CR", "DX"],
            "body_parts": ["CHEST"],
            "views": ["PA", "AP"],
            "purpose": "not stated",
        },
        "training_data": "not stated",
        "licence": "not stated",
        **options.model_card,
    }
