"""From an image in the model's units to the integers that are shared, and from opened integers to answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secure_infer.bundle import Finding, HospitalBundle
from secure_infer.errors import BundleFormat, InputRejected

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Timings:
    """What one inference cost, as the hospital saw it.

    Attributes
    ----------
    online_s : float
        From the image in the hospital's hands to its logits.
    bytes_to_developer, bytes_to_hospital : int
        Of messages, online; without TLS.
    round_trips : int
        How often the hospital sent and then read. Parts of a layer overlap on the wire, so the delays that
        add up over a slow network are fewer: those that `secure_infer.runtime.cost` predicts.
    """

    online_s: float
    bytes_to_developer: int
    bytes_to_hospital: int
    round_trips: int


@dataclass(frozen=True, eq=False)
class Inference:
    """The answer for one image.

    Attributes
    ----------
    logits, probabilities : float64 array [findings]
        In the order of `findings`; with activation ``none`` both are the same.
    findings : tuple of Finding
    timings : Timings or None
        None where nothing was sent.
    """

    logits: Float64
    probabilities: Float64
    findings: tuple[Finding, ...]
    timings: Timings | None = None

    @property
    def present(self) -> tuple[bool, ...]:
        """Whether each finding's probability reaches its threshold."""
        pairs = zip(self.probabilities, self.findings, strict=True)
        return tuple(bool(p >= finding.threshold) for p, finding in pairs)


def encode_image(image: NDArray[Any], bundle: HospitalBundle) -> NDArray[np.int32]:
    """The integers x = rint((p - offset) * scale) of an image.

    Parameters
    ----------
    image : float array [H, W] or [H, W, C]
        In the model's own input units.

    Returns
    -------
    int32 array [C, H, W]

    Raises
    ------
    InputRejected
        When the shape isn't the program's, or a pixel is no number or outside of the ring.
    """
    pixels = np.asarray(image, np.float64)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    value = bundle.program.input_value
    channels, height, width = value.shape
    if pixels.shape != (height, width, channels):
        raise InputRejected("image", expected=f"shape {(height, width, channels)}", got=np.shape(image))
    coded = np.rint((pixels - bundle.input_coding.offset) * bundle.input_coding.scale).transpose(2, 0, 1)
    limit = 1 << (value.ring_bits - 1)
    # Also false for what is not a number; the value itself stays here.
    if not bool((np.abs(coded) < limit).all()):
        raise InputRejected("image", expected=f"numbers below {limit} after scaling", got="others")
    return np.ascontiguousarray(coded, np.int32)


def decode_logits(opened: Sequence[NDArray[np.int64]], findings: Sequence[Finding]) -> Float64:
    """Logits [findings] from the program's opened outputs, in order."""
    raw = np.concatenate([np.ravel(output) for output in opened]).astype(np.float64)
    if raw.size != len(findings):
        raise BundleFormat("findings", expected=f"{raw.size}, one per output", got=len(findings))
    return np.asarray(raw * np.array([finding.logit_scale for finding in findings]))


def to_probabilities(logits: Float64, findings: Sequence[Finding]) -> Float64:
    """Apply the findings' activation; a softmax is over all of them."""
    activation = findings[0].activation
    if activation == "softmax":
        powers = np.exp(logits - logits.max())
        return np.asarray(powers / powers.sum())
    if activation == "sigmoid":
        # Both branches of the usual formula; neither overflows.
        small = np.exp(-np.abs(logits))
        return np.asarray(np.where(logits >= 0, 1 / (1 + small), small / (1 + small)))
    return logits.copy()


def interpret(
    opened: Sequence[NDArray[np.int64]],
    findings: tuple[Finding, ...],
    online: Mapping[str, Any] | None = None,
) -> Inference:
    """The answer from opened integers and, where there was a connection, what it cost."""
    logits = decode_logits(opened, findings)
    timings = None
    if online is not None:
        timings = Timings(
            online_s=online["seconds"],
            bytes_to_developer=online["bytes_sent"],
            bytes_to_hospital=online["bytes_received"],
            round_trips=online["round_trips"],
        )
    return Inference(logits, to_probabilities(logits, findings), findings, timings)
