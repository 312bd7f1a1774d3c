"""Methods on the path that leads from one model to another: between a student and its teacher, and beyond the teacher.

Notation and conventions are those of `methods.py`, whose METHODS takes in BETWEEN_MODELS below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from qtarget.target import residual
from qtarget.target.changing import ramp
from qtarget.target.hyperparameters import HyperparameterError, KeyValue, OneOf, Within
from qtarget.target.pace import AdaptivePace
from qtarget.target.residual import rest
from qtarget.target.types import Method


def taid(
    start: Annotated[float, Within(0, 1, "the teacher's exponent when training begins")] = 0.4,
    end: Annotated[float, Within(0, 1, "and when it ends", open_low=True)] = 1.0,
    adaptive: Annotated[bool, OneOf((False, True), "move faster while the loss falls")] = True,
    step_size: Annotated[float, Within(0, 1, "α: the most that the loss moves the exponent in a step")] = 5e-4,
    momentum: Annotated[float, Within(0, 1, "β: of the relative fall of the loss")] = 0.99,
) -> Method:
    """TAID: distillation from a teacher that comes towards the student, and goes back as training goes on.

    γ = 0, π̃ ∝ p^(1−η)·t^η, loss CE(π̃, p); η from `start` to `end`, at least in step with the run.
    Limits: start = end = 1 is kd; at one η target-sft without its trust in the label.
    Its official code calls the loss a forward KL and computes the cross-entropy, as here. How η moves: see `pace`.
    """
    if start > end:
        raise HyperparameterError(
            'method "taid": ', KeyValue("start", start), " is above ", KeyValue("end", end), "; write ",
            KeyValue("end", start), " or more",
        )  # fmt: skip
    return Method(
        "taid",
        0.0,
        rest(0.0, residual.guided(ramp(start, end) if start < end else end)),
        pace=AdaptivePace(start, end, step_size, momentum) if adaptive and start < end else None,
        source="arXiv 2501.16937",
        use_when=(
            "As kd, where the teacher is so far ahead of the student that its distribution is out of reach at first."
        ),
    )


def extrapolated(
    strength: Annotated[float, Within(1, 10, "λ: 1 is the teacher, above it lies beyond", open_low=True)] = 1.25,
) -> Method:
    """Beyond the teacher: what it has learned since the reference, taken further.

    γ = 0, π̃ ∝ r^(1−λ)·t^λ, loss CE(π̃, p). Limits: strength → 1 is kd.
    The optimum of ExOPD's objective, arXiv 2602.12125, whose own loss is a policy gradient on the student's samples:
    here it is learned on the rows. Checked against the official code: its advantage, log r + λ (log t − log r) − log p,
    is the same at every token exactly where p is π̃. Its λ is 1.25 too, and its reference the student as it was or the
    model that the teacher was trained from. Kept tokens of a teacher do not determine it; give the teacher whole.
    """
    return Method(
        "extrapolated",
        0.0,
        rest(0.0, residual.beyond_teacher(strength)),
        source="arXiv 2602.12125",
        use_when=(
            "The teacher was trained from the reference, and the student shall go further the same way. An experiment: "
            "what the teacher got wrong is taken further too."
        ),
    )


BETWEEN_MODELS: dict[str, Callable[..., Method]] = {"taid": taid, "extrapolated": extrapolated}
