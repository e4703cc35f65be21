"""The knobs of the fixed-point arithmetic, with the invariants that tie them together."""

from __future__ import annotations

from dataclasses import dataclass

from secure_infer.errors import OptionError

WEIGHT_LIMIT = 32767


@dataclass(frozen=True)
class PrecisionOptions:
    """How many bits go where (protocol.md, sections 1, 4 and 5).

    Attributes
    ----------
    window_low, window_high : int
        The window [m, k) of a comparison: signs are looked for in the bits m to k - 1.
    pool_low : int
        As `window_low`, for the comparisons of a max-pool (whose window is one bit higher): neighbours
        differ little, so its comparisons need more of the low bits than others.
    margin : float
        How many times its calibration maximum a value may reach before it leaves its window.
    clamp_margin : float
        From how many calibration maxima on a batch-norm threshold counts as "always on" or "always
        off" and is clamped. Smaller than `margin`, since passing it costs accuracy but not sanity.
    shift : int
        Bits a truncation drops (f); a convolution's raw sums carry that many more than its output.
    ring_bits : int
        Ring of the linear layers in the body of the network (ell). ``ring_bits >= shift + window_high + 1``
        is needed for a value of the whole window to survive its truncation.
    final_ring_bits : int
        Ring of the last linear layer, grown in the last truncation.
    final_margin : float
        As `margin`, for the logits.
    pooled_shift : int
        Bits dropped from the sum of a large pooling window.
    input_bits : int
        Magnitude bits of the image's integers. More than 8-bit pictures need would only take bits
        from the first layer's weights.
    """

    window_low: int = 3
    window_high: int = 11
    pool_low: int = 1
    margin: float = 4.0
    clamp_margin: float = 4.0
    shift: int = 14
    ring_bits: int = 26
    final_ring_bits: int = 31
    final_margin: float = 8.0
    pooled_shift: int = 2
    input_bits: int = 10

    @property
    def compared_ring_bits(self) -> int:
        """Ring of values that are compared before anything else reads them.

        It holds their window and a bit above, for the range of a difference and the extension behind a ReLU.
        It is at most ``ring_bits - shift``, so that the truncation to it is local.
        """
        return max(self.window_high + 1, 8)

    def __post_init__(self) -> None:
        _check("window_low", self.window_low, 0, 16)
        _check("window_high", self.window_high, self.window_low + 4, self.window_low + 16)
        _check("pool_low", self.pool_low, max(0, self.window_high - 15), self.window_low + 1)
        _check("margin", self.margin, 1.0, 1024.0)
        _check("clamp_margin", self.clamp_margin, 1.0, self.margin)
        _check("final_margin", self.final_margin, 1.0, 1024.0)
        _check("shift", self.shift, 4, 20)
        _check("ring_bits", self.ring_bits, self.shift + self.window_high + 1, 31)
        _check("final_ring_bits", self.final_ring_bits, self.ring_bits, 31)
        _check("pooled_shift", self.pooled_shift, 1, 8)
        _check("input_bits", self.input_bits, 4, 16)


def _check(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise OptionError(f"option {name}", expected=f"{low} to {high}", got=value)


LADDER: tuple[tuple[str, PrecisionOptions], ...] = (
    ("compact", PrecisionOptions()),
    ("standard", PrecisionOptions(window_low=1, window_high=12, pool_low=0, ring_bits=27)),
    (
        "fine",
        PrecisionOptions(window_low=3, window_high=14, pool_low=0, margin=8.0, shift=13, ring_bits=28),
    ),
    ("finest", PrecisionOptions(window_low=4, window_high=16, pool_low=1, margin=8.0, ring_bits=31)),
)
"""From cheap to accurate. A window of 8 bits needs two look-ups, one of 9 to 11 bits three. ``compact``
leaves more low bits unread than ``standard`` and has units half as fine; ``fine`` and ``finest`` have finer
ones still, and twice the margin."""
