"""What model families do to logits besides the output layer: a scale and a soft-cap, by the names that configurations
give them."""

from typing import Any

SOFTCAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""Largest absolute logit c, applied as c·tanh(logit / c)."""
FACTORS = ("logit_scale", "output_multiplier", "lm_head_multiplier")
"""Numbers that multiply logits."""
DIVISORS = ("logits_scaling", "logits_mup_width_multiplier")
"""Numbers that divide logits, or the hidden states before an output layer without bias."""
MULTIPLIED_BY_LOGITS_SCALING = ("hyperclovax",)
"""Model types in which `logits_scaling` multiplies."""


def logit_softcap(config: Any) -> float | None:
    """The soft-cap of a text model's configuration."""
    return next((value for name in SOFTCAPS if (value := getattr(config, name, None)) is not None), None)


def logit_scale(config: Any) -> float | None:
    """The number by which logits are multiplied: Cohere's `logit_scale`, or one over Granite's `logits_scaling`."""
    for name in FACTORS:
        if (value := getattr(config, name, None)) is not None:
            return value
    for name in DIVISORS:
        if (value := getattr(config, name, None)) is not None:
            return value if config.model_type in MULTIPLIED_BY_LOGITS_SCALING else 1 / value
    return None
