"""What training changed besides accuracy: forgetting, calibration, diversity, length, the stop token."""

from qtarget.evaluate.effects.answers import Effects, effects_of
from qtarget.evaluate.effects.calibration import Calibration, CalibrationBin, calibration, reliability
from qtarget.evaluate.effects.forgetting import Forgetting, base_text, divergence, forgetting
from qtarget.evaluate.effects.logprobs import TokenRow, token_row

__all__ = [
    "Calibration",
    "CalibrationBin",
    "Effects",
    "Forgetting",
    "TokenRow",
    "base_text",
    "calibration",
    "divergence",
    "effects_of",
    "forgetting",
    "reliability",
    "token_row",
]
