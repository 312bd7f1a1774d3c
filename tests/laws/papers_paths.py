"""The losses of the methods on the path from one model to another; notation as in `papers.py`."""

from laws import closed_forms
from laws.oracle import LN2, Limit, Paper, cross_entropy


def taid(logits_TV, labels_T, *, teacher, progress, start=0.4, end=1.0):
    """TAID, arXiv 2501.16937, official code: CE(softmax((1 - t) sg[z] + t z_T), p), t linear in progress."""
    (teacher_TV,) = teacher
    t = start + (end - start) * progress
    mixed_TV = (1 - t) * logits_TV.detach() + t * teacher_TV
    return cross_entropy(mixed_TV.softmax(-1).detach(), logits_TV)


def extrapolated(logits_TV, labels_T, *, teacher, reference, strength=1.25):
    """ExOPD's optimum, arXiv 2602.12125, as a target: CE(π, p), π ∝ ref^(1-λ) T^λ."""
    (teacher_TV,) = teacher
    log_pool_TV = (1 - strength) * reference.log_softmax(-1) + strength * teacher_TV.log_softmax(-1)
    return cross_entropy(log_pool_TV.softmax(-1).detach(), logits_TV)


def teacher_is_reference(logits_TV, evidence):
    """The place where the teacher has learned nothing since: whatever the strength, it is the teacher."""
    (teacher_TV,) = evidence["teacher"] if isinstance(evidence["teacher"], tuple) else (evidence["teacher"],)
    return logits_TV, {**evidence, "reference": teacher_TV}


TAID_MASS = 2**-1.4 + 2**-1.6 + 2**-2.0
"""Of the worked values, Σ p^0.6·t^0.4."""
BEYOND_TEACHER = 2**-2.25, 2**-0.5, (8 / 3) ** 0.25 * 2**-2.5
"""Of the worked values, r^(-1/4)·t^(5/4) of each token."""

BETWEEN_MODELS: dict[str, Paper] = {
    "taid": Paper(
        taid,
        limits=(
            Limit({"start": 1.0, "end": 1.0, "adaptive": False}, "kd"),
            Limit({"start": 0.3, "end": 0.3}, "target-sft", {"eta": 0.3, "trust": 0.0}),
        ),
        variations=({"start": 0.0}, {"end": 0.7}),
        closed_form=closed_forms.taid_gradient,
        worked_value=LN2 * (2**-1.4 + 2 * 2**-1.6 + 2 * 2**-2.0) / TAID_MASS,
        proper=True,
        ours=("adaptive", "step_size", "momentum"),
    ),
    "extrapolated": Paper(
        extrapolated,
        limits=(Limit({}, "kd", place=teacher_is_reference),),
        variations=({"strength": 2.0},),
        closed_form=closed_forms.extrapolated_gradient,
        worked_value=LN2 * (BEYOND_TEACHER[0] + 2 * BEYOND_TEACHER[1] + 2 * BEYOND_TEACHER[2]) / sum(BEYOND_TEACHER),
        differentiable=True,
        proper=True,
    ),
}
