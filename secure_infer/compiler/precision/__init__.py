"""Choosing integers for a float graph: calibration, where to truncate and in which ring, scales."""

from secure_infer.compiler.precision.calibration import Calibration, calibrate
from secure_infer.compiler.precision.clamping import clamp_thresholds
from secure_infer.compiler.precision.layout import Layout, lay_out
from secure_infer.compiler.precision.options import LADDER, PrecisionOptions
from secure_infer.compiler.precision.scales import Scales, choose_scales

__all__ = [
    "LADDER",
    "Calibration",
    "Layout",
    "PrecisionOptions",
    "Scales",
    "calibrate",
    "choose_scales",
    "clamp_thresholds",
    "lay_out",
]
