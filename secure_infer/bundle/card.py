"""What a model is for, and what its outputs mean: ``model_card.json`` and ``findings.json``.

A model card is an object with these fields; those marked * may be missing:

======================  ======================================================================================
name, version           texts; a retrained model has another version and another ``device_uid``
description             one sentence
manufacturer            text
device_uid              DICOM unique identifier (PS3.5 section 9), goes into Contributing Equipment
udi *                   unique device identifier, for registered products
clinical_use            false: a demonstration; every report then says so
intended_use            object: ``modalities`` (CR, DX, ...), ``body_parts`` (CHEST), ``views`` (PA, AP),
                        ``age_years`` *: [youngest, oldest], ``purpose``: one sentence
training_data           one paragraph with its source
licence                 of the weights
citations *             list of texts
metrics *               object: name to number
warnings *              list of texts, shown wherever results are shown
======================  ======================================================================================
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from secure_infer.bundle.fields import Fields, parse_json
from secure_infer.errors import BundleFormat

ACTIVATIONS: Final = ("sigmoid", "softmax", "none")
MAX_FINDINGS: Final = 1024
_UID: Final = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))+")


@dataclass(frozen=True)
class Code:
    """A coded concept (PS3.3 section 8.8): scheme designator, value, meaning."""

    scheme: str
    value: str
    meaning: str

    @classmethod
    def read(cls, fields: Fields) -> "Code":
        """Check the object."""
        code = cls(
            fields.text("scheme", longest=16),
            fields.text("value", longest=64),
            fields.text("meaning", longest=64),
        )
        fields.done()
        return code

    def to_json(self) -> dict[str, str]:
        """The object as in ``findings.json``."""
        return {"scheme": self.scheme, "value": self.value, "meaning": self.meaning}


@dataclass(frozen=True)
class Finding:
    """One output of the model.

    Attributes
    ----------
    name : str
        What people call it.
    logit_scale : float
        The logit is the opened signed integer times this.
    threshold : float
        Operating point on the probability: from here on the finding is present.
    activation : str
        ``sigmoid``, ``softmax`` (over all findings) or ``none`` (the logit is the answer).
    code : Code or None
        What to write into a report; None leaves it to the site's table.
    """

    name: str
    logit_scale: float
    threshold: float = 0.5
    activation: str = "sigmoid"
    code: Code | None = None

    def to_json(self) -> dict[str, Any]:
        """The object as in ``findings.json``."""
        made: dict[str, Any] = {
            "name": self.name,
            "logit_scale": self.logit_scale,
            "threshold": self.threshold,
            "activation": self.activation,
        }
        return made | ({"code": self.code.to_json()} if self.code else {})


def parse_findings(content: bytes) -> tuple[Finding, ...]:
    """Read ``findings.json``.

    Raises
    ------
    BundleFormat
        When it isn't a list of findings with different names and one activation.
    """
    values = parse_json(content, "findings.json")
    if not isinstance(values, list) or not 1 <= len(values) <= MAX_FINDINGS:
        raise BundleFormat(
            "findings.json", expected=f"a list of 1 to {MAX_FINDINGS}", got=type(values).__name__
        )
    findings = tuple(_finding(Fields.of(value, f"findings.json [{i}]")) for i, value in enumerate(values))
    check_findings(findings)
    return findings


def check_findings(findings: tuple[Finding, ...]) -> None:
    """Raise `BundleFormat` unless names differ and all have one activation."""
    if len({finding.name for finding in findings}) != len(findings):
        raise BundleFormat("names of findings", expected="all different", got="a repeated one")
    if len({finding.activation for finding in findings}) != 1:
        raise BundleFormat("activations of findings", expected="the same for all", got="different ones")


def _finding(fields: Fields) -> Finding:
    name = fields.text("name", longest=64)
    scale = fields.number("logit_scale", -1e30, 1e30)
    threshold = fields.number("threshold", -1e30, 1e30)
    activation = fields.one_of("activation", ACTIVATIONS)
    code = Code.read(fields.fields("code")) if fields.has("code") else None
    fields.done()
    if scale == 0 or (activation != "none" and not 0 < threshold < 1):
        raise BundleFormat(
            f"finding {name}", expected="a scale and, for probabilities, 0 < threshold < 1", got="0"
        )
    return Finding(name, scale, threshold, activation, code)


def check_model_card(card: Mapping[str, Any]) -> None:
    """Check a model card against the table above.

    Raises
    ------
    BundleFormat
        Names the field.
    """
    fields = Fields.of(dict(card), "model_card.json")
    for name in ("name", "version", "manufacturer"):
        fields.text(name, longest=64)
    for name in ("description", "training_data", "licence"):
        fields.text(name)
    uid = fields.text("device_uid", longest=64)
    if not _UID.fullmatch(uid):
        raise BundleFormat("model_card.json: device_uid", expected="a DICOM unique identifier", got=repr(uid))
    fields.take_or("udi", str, "")
    fields.take("clinical_use", bool)
    _check_intended_use(fields.fields("intended_use"))
    for name in ("citations", "warnings"):
        if fields.has(name):
            fields.texts(name)
    metrics = fields.take_or("metrics", dict, {})
    for name in metrics:
        Fields(metrics, "model_card.json: metrics").take(name, float)
    fields.done()


def _check_intended_use(use: Fields) -> None:
    for name in ("modalities", "body_parts", "views"):
        use.texts(name, allow_empty=False)
    use.text("purpose")
    ages = use.take_or("age_years", list, [0, 150])
    numbers = [age for age in ages if isinstance(age, int | float) and not isinstance(age, bool)]
    if len(ages) != 2 or len(numbers) != 2 or not 0 <= numbers[0] <= numbers[1] <= 150:
        raise BundleFormat(
            "model_card.json: age_years", expected="[youngest, oldest], 0 to 150", got="others"
        )
    use.done()
