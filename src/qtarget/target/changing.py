"""Numbers that change: along a run, along a completion, or from token to token.

A hyperparameter that takes them (`hyperparameters.Within.changes`) is a number, the name of a statistic in `ALONG`, or

    {from: 0.2, to: 0.8, shape: cosine, along: progress, until: 0.5}

of which `from` and `to` are needed, each a number or such a name. Here they become rules.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from qtarget.target.rule import Number, Rule
from qtarget.target.statistics import (
    ENTROPY,
    LOGP_Y,
    POSITION,
    PROGRESS,
    REFERENCE_ENTROPY,
    REFERENCE_LOGP_Y,
    VOCABULARY,
    Statistic,
    agreement,
    teacher_entropy,
    teacher_p_y,
)

Changing = float | str | Mapping[str, float | str]
"""A hyperparameter as it is written: a number, the name of a statistic, or a schedule."""


def _itself(name: str, statistic: Statistic) -> Rule:
    return Rule(name, (statistic,), lambda value: value)


def _probability(name: str, logp: Statistic) -> Rule:
    return Rule(name, (logp,), torch.exp)


def _uncertainty(name: str, entropy: Statistic) -> Rule:
    return Rule(name, (entropy, VOCABULARY), lambda nats, vocabulary: (nats / vocabulary.log()).clamp(0, 1))


ALONG: dict[str, Rule] = {
    "progress": _itself("progress", PROGRESS),
    "position": _itself("position", POSITION),
    "p_y": _probability("p_y", LOGP_Y),
    "reference_p_y": _probability("reference_p_y", REFERENCE_LOGP_Y),
    "teacher_p_y": _itself("teacher_p_y", teacher_p_y()),
    "agreement": _itself("agreement", agreement()),
    "uncertainty": _uncertainty("uncertainty", ENTROPY),
    "reference_uncertainty": _uncertainty("reference_uncertainty", REFERENCE_ENTROPY),
    "teacher_uncertainty": _uncertainty("teacher_uncertainty", teacher_entropy()),
}
"""What a schedule may run along, each from 0 to 1. An uncertainty is an entropy over that of the uniform distribution;
agreement is the mass that the student and the teacher share."""

SHAPES = {
    "linear": lambda share: share,
    "cosine": lambda share: (1 - torch.cos(math.pi * share)) / 2,
}
"""How much of the way is done at a share of what a schedule runs along."""


def ramp(start: Number, end: Number, shape: str = "linear", along: str = "progress", until: float = 1.0) -> Rule:
    """From `start` to `end` along something that goes from 0 to 1; `end` from `until` on.

    >>> ramp(0.2, 0.8).name
    '(0.2 + (0.6 * linear(progress)))'
    """
    distance, bend = ALONG[along], SHAPES[shape]

    def fn(*statistics: Tensor) -> Tensor:
        return bend((distance.fn(*statistics) / until).clamp(max=1.0))

    name = f"{shape}({along}{'' if until == 1 else f' / {until:g}'})"
    share = Rule(name, distance.reads, fn)
    return start + (end - start) * share


def number_of(setting: Changing) -> Number:
    """A hyperparameter that may change, as a number or a rule."""
    if isinstance(setting, str):
        return ALONG[setting]
    if isinstance(setting, Mapping):
        start, end = number_of(setting["from"]), number_of(setting["to"])
        return ramp(start, end, **{name: setting[name] for name in setting if name not in ("from", "to")})  # pyright: ignore
    return setting
