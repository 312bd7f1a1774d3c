"""The catalogue: each method is one expression over named parts, under its citation.

    trust      how much to believe the label     γ    trust.py
    residual   where the other mass goes         π̃    residual.py
    scale      how hard to pull                  s
    value      the loss as the paper writes it        value.py

    dft        = trust p_y,         the rest to the student
    target-sft = trust p_y,         the rest to student^(1−η)·teacher^η
    asft       = trust p_y/(p_y+λ), the rest to the reference, pulled p_y+λ hard

Here stand the rows of the table of arXiv 2606.11189 ("the paper"), as it declares them; `methods_beyond.py`,
`methods_divergences.py` and `methods_robust.py` hold those beyond it. p is the student, p_y its probability of the
label, d the one-hot label, r the reference, t the teacher, H an entropy. Every target is under stop-gradient. A default
is the value that the method's paper or official code names; where neither names one, it is a usual one. The denominator
is always the count of supervised tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

from qtarget.target import residual, trust, value
from qtarget.target.changing import Changing, number_of
from qtarget.target.hyperparameters import (
    Count,
    HyperparameterError,
    KeyValue,
    OneOf,
    Within,
    checked,
    suggestion,
)
from qtarget.target.methods_beyond import BEYOND, label_trust
from qtarget.target.methods_divergences import DIVERGENCES
from qtarget.target.methods_paths import BETWEEN_MODELS
from qtarget.target.methods_robust import ROBUST
from qtarget.target.residual import rest
from qtarget.target.rule import Number, Rule, Term
from qtarget.target.statistics import potential_mass
from qtarget.target.types import Method


def sft() -> Method:
    """Standard supervised fine-tuning: the label gets all.

    γ = 1, π̃ = none, loss −log p_y. Limits: what every other method becomes when it trusts the label fully.
    """
    return Method(
        "sft",
        1.0,
        value=value.nll(),
        source="maximum likelihood",
        use_when=(
            "The rows are right and the student does not know their matter yet. Start here: everything else is "
            "compared with it."
        ),
    )


LabelTrust = Annotated[Changing, Within(0, 1, "γ, trust in the label", changes=True)]


def dft(trust: LabelTrust = "p_y") -> Method:
    """Dynamic fine-tuning: trust the label as much as the student does.

    γ = p_y, π̃ = p, loss −sg[γ] log p_y. The gradient is that of 1 − p_y.
    trust: another γ in its place, such as a warm-up from sft, {from: 1, to: p_y, until: 0.1}.
    Limits: beyond-log at alpha 1; target-sft at eta 0; asft at kl_weight 0.
    The official code normalises per micro-batch; here, as everywhere, by the global token count.
    """
    return label_trust(
        "dft",
        number_of(trust),
        "arXiv 2508.05629",
        use_when=(
            "The student knows most of the matter, the rows hold mistakes or foreign wording, and there is no "
            "teacher. Not for matter that is new to the student: labels that it finds improbable are hardly "
            "learned."
        ),
    )


def beyond_log(alpha: Annotated[float, Within(0, 100, "power of p_y")] = 0.5) -> Method:
    """The family between log-likelihood and probability: prior-leaning for alpha ≥ 1, prior-averse below.

    γ = p_y^α, π̃ = p, loss (1 − p_y^α)/α.
    Limits: alpha 0 is sft, alpha 1 is dft.
    The paper tries alpha from 0.1 to 10 and names no default; 0.5, half way from sft to dft, is ours. Its "−p^10" is
    coded, here as there, as (1 − p^10)/10.
    """
    return label_trust(
        "beyond-log",
        trust.label_probability(alpha),
        "arXiv 2510.00526",
        value=value.power_gap(alpha),
        use_when=(
            "You want a step between sft and dft: the smaller alpha is, the more is learned from labels that "
            "surprise the student."
        ),
    )


def profit(
    threshold: Annotated[float, Within(0, 1, "labels less likely than this are dropped")] = 0.1,
) -> Method:
    """ProFit: learn only labels that the student finds probable.

    γ = 1[p_y > τ], π̃ = p, loss −γ log p_y.
    Limits: threshold 0 is sft.
    The official code keeps p_y = τ too, and has modes (lower, middle, random) that are left out.
    """
    return label_trust(
        "profit",
        trust.label_above(threshold),
        "arXiv 2601.09195",
        use_when="Labels that the student finds improbable are mostly noise, and should be left out altogether.",
    )


def eaft(
    top_k: Annotated[int, Count(2, "how many of the student's likeliest tokens the entropy covers")] = 20,
    power: Annotated[float, Within(0, 10, "power of the normalised entropy")] = 1.0,
    normalizer: Annotated[
        str | float | None, OneOf(("log_k", None), "what divides the entropy", or_number=True)
    ] = "log_k",
) -> Method:
    """Entropy-adaptive fine-tuning: learn where the student is undecided.

    γ = (H_top-k / log k)^power, π̃ = p, loss −sg[γ] log p_y; H_top-k is the entropy of the renormalised top k.
    Limits: power 0 is sft.
    The authors' code and LLaMA-Factory divide by 3.0 (normalizer=3.0); axolotl by nothing (normalizer=None), which
    makes the loss three times larger and the target improper.
    """
    return label_trust(
        "eaft",
        trust.uncertainty(top_k, power, normalizer),
        "arXiv 2601.02151",
        use_when=(
            "The student is to learn where it is undecided, and to keep what it is sure of, even where a row says "
            "otherwise."
        ),
    )


def iw_sft(
    temperature: Annotated[float, Within(0, 100, "multiplies the mean log-ratio")] = 1.0,
    clip_max: Annotated[float, Within(0, 1e6, "largest weight", open_low=True)] = 16.0,
) -> Method:
    """Importance-weighted SFT: weigh a whole trajectory by how much the student has come to prefer it.

    γ = min(exp(T·mean_t log(p_y/r_y)), clip_max), π̃ = p, loss −sg[γ] log p_y; one γ for a whole sequence.
    γ above 1 makes the strict target improper. Limits: sft at the first step, where p = r.
    This is the official code's length-normalised ratio; the paper's is the product over the trajectory. Its per-step
    variant is left out. With weights computed beforehand, give `token_weight` and no reference: they are γ then.
    """
    gamma = trust.trajectory_ratio(temperature, clip_max)
    method = label_trust(
        "iw-sft",
        gamma,
        "arXiv 2507.12856",
        use_when=(
            "The rows are answers that passed a filter or a reward, and whole answers that the student comes to "
            "prefer should count for more."
        ),
    )
    weight = trust.given_weight()
    stand_in = replace(method, trust=weight, residual=rest(weight, residual.student()), scope="token")
    return replace(method, without_reference=stand_in)


def cft() -> Method:
    """Critical-token fine-tuning: learn only the tokens on which the answer hangs, marked in `token_weight`.

    γ = 1[critical], π̃ = p, loss −γ log p_y. Limits: a mask of ones is sft.
    How tokens are found critical (no alternative reaches the answer) is the data's part. The paper leaves its
    denominator open; ours counts every supervised token.
    """
    return label_trust(
        "cft",
        trust.given_weight(),
        "arXiv 2510.10974",
        use_when="You know on which tokens an answer hangs, and have marked them in the rows.",
    )


def label_smoothing(smoothing: Annotated[float, Within(0, 1, "mass spread over all tokens")] = 0.1) -> Method:
    """A share of the mass to every token alike, the label included, as in torch and transformers.

    γ = 1 − λ, π̃ = uniform, loss CE(Q, p). Limits: smoothing 0 is sft.
    """
    return Method(
        "label-smoothing",
        1 - smoothing,
        (Term(smoothing, residual.uniform()),),
        source="arXiv 1512.00567, 2508.00264",
        use_when=(
            "The model shall be less sure of itself and there is no teacher: every label gives a little to all "
            "tokens alike."
        ),
    )


def sft_kl(kl_weight: Annotated[float, Within(0, 1e3, "λ, weight of KL(r‖p)")] = 0.1) -> Method:
    """SFT held near a reference by the forward KL.

    γ = 1/(1+λ), π̃ = r, s = 1+λ, loss −log p_y + λ KL(r‖p). Limits: kl_weight 0 is sft.
    Read strictly (s = 1) the target is d + λ(r − p), which is improper almost everywhere.
    """
    pull = 1 + kl_weight
    return Method(
        "sft-kl",
        1 / pull,
        (Term(kl_weight / pull, residual.reference()),),
        scale=pull,
        value=value.nll() + kl_weight * value.kl(residual.reference()),
        source="arXiv 2509.04259",
        use_when=(
            "The rows are right, and the model must not lose what it could before. The reference costs one frozen "
            "copy, and nothing under LoRA."
        ),
    )


def asft(kl_weight: Annotated[float, Within(0, 1e3, "λ, weight of KL(r‖p)")] = 0.05) -> Method:
    """Anchored SFT: dft held near the base model by the forward KL.

    γ = p_y/(p_y+λ), π̃ = r, s = p_y+λ, loss −sg[p_y] log p_y + λ KL(r‖p).
    Limits: kl_weight 0 is dft; as p_y → 0 the target is the base model.
    The official code's default is 0.1 where the paper's is 0.05; LLaMA-Factory ignores the global token count.
    """
    p_y = trust.label_probability()
    pull = p_y + kl_weight
    return Method(
        "asft",
        p_y / pull if kl_weight else 1.0,
        (Term(kl_weight / pull, residual.reference()),) if kl_weight else (),
        scale=pull,
        value=p_y * value.nll() + kl_weight * value.kl(residual.reference()),
        source="arXiv 2509.23753",
        use_when="As dft, where the model also drifts too far from the one you began with.",
    )


def psft(
    clip_low: Annotated[float, Within(0, 1, "lower clip of the ratio; never acts on demonstrations")] = 0.2,
    clip_high: Annotated[float, Within(0, 100, "upper clip of the ratio")] = 0.28,
    refresh_every: Annotated[int, Count(1, "optimizer steps between snapshots of the old policy")] = 8,
) -> Method:
    """Proximal SFT: stop pulling once a label is (1 + clip_high) times likelier than a few steps ago.

    ρ = p_y/p_old; γ = ρ·1[ρ < 1 + clip_high], π̃ = p, loss −min(ρ, clip(ρ)). Slightly improper for 1 < ρ < 1 +
    clip_high. Limits: sft at ρ = 1, right after a refresh.
    The paper's table names p_old as the residual; derived from its loss it is the student.
    """
    return label_trust(
        "psft",
        trust.ratio_below(clip_high),
        "arXiv 2508.17784",
        value=value.clipped_ratio_loss(clip_low, clip_high),
        refresh_every=refresh_every,
        use_when=(
            "Training is long, or followed by reinforcement learning, and no label shall pull further once it is "
            "a little likelier than a few steps ago."
        ),
    )


GEM_SLOPE = 0.01
"""The official code's slope inside logsigmoid GEM: it makes the weights about one half for all realistic gaps."""


def gem(
    beta: Annotated[float, Within(0, 10, "temperature of the negative branch", open_low=True)] = 0.7,
    h: Annotated[str, OneOf(("linear", "logsigmoid"), "the outer function")] = "linear",
) -> Method:
    """GEM: move mass from a sharpened student to the label, and so keep diversity.

    q ∝ p^(1/β); linear: Q = d + p − q, loss −Σ q_k (log p_y − log p_k).
    logsigmoid: q_k is weighted by sigmoid(0.01 (z_k − z_y)), and the label gets the mass that is left of q.
    A signed mixture, improper in general. Limits: beta 1 with linear h has sft's gradient (the value differs).
    """
    slope = GEM_SLOPE if h == "logsigmoid" else None
    pool = residual.student(beta) if slope is None else residual.soft_beaten(beta, slope)
    mass: float | Rule = 1.0
    if slope is not None:
        mass = Rule("E_q[weight]", (potential_mass(pool),), lambda mass: mass)
    return Method(
        "gem",
        mass,
        (Term(1.0, residual.student()), Term(-1.0 * mass, pool)),
        value=mass * value.less_likely_than(pool),
        source="arXiv 2408.16673",
        use_when="Answers will be drawn many times (best of n, reinforcement learning later) and must stay various.",
    )


TeacherTemperature = Annotated[float, Within(0, 100, "of the teacher alone; below 1 sharpens it", open_low=True)]


def kd(
    temperature: Annotated[float, Within(0, 100, "softens teacher and student", open_low=True)] = 1.0,
    teacher_weights: Annotated[Sequence[float], Within(0, 1, "share of each teacher; sums to 1", total=1)] = (1.0,),
    teacher_temperature: TeacherTemperature = 1.0,
) -> Method:
    """Knowledge distillation: the teacher gets all.

    γ = 0, π̃ = t, loss −Σ_v t_v log p_v; at temperature T, T²·CE(t^(T), p^(T)). Several teachers: their weighted mean.
    Limits: a one-hot teacher is sft on its tokens; kd-hybrid at teacher_weight 1.
    At T ≠ 1 the gradient is T(p^(T) − t^(T)), and the target p − T(p^(T) − t^(T)) is improper in general.
    A temperature tempers both sides, so p = t stays the optimum. teacher_temperature τ puts t^(1/τ), renormalised, in
    the place of t: below 1 the student learns a sharper teacher.
    """
    shares = tuple(teacher_weights) if isinstance(teacher_weights, Sequence) else (teacher_weights,)
    if abs(sum(shares) - 1) > 1e-6:
        raise HyperparameterError(
            'method "kd": ', KeyValue("teacher_weights", teacher_weights), " must sum to 1; write ",
            KeyValue("teacher_weights", [0.5, 0.5]),
        )  # fmt: skip
    stated: dict[str, Any] = {
        "source": "arXiv 1503.02531",
        "use_when": "A better model of the same tokenizer is at hand, and you trust it more than the rows.",
    }
    if temperature == 1:
        return Method("kd", 0.0, residual.teachers(shares, teacher_temperature), **stated)
    soft = residual.student(temperature)
    teachers = [residual.teacher(i, temperature * teacher_temperature) for i in range(len(shares))]
    toward = tuple(Term(temperature * w, pool) for w, pool in zip(shares, teachers, strict=True))
    losses = [
        value.tempered_cross_entropy(pool, soft, temperature) * w for w, pool in zip(shares, teachers, strict=True)
    ]
    return Method(
        "kd",
        0.0,
        (Term(1.0, residual.student()), Term(-temperature, soft), *toward),
        value=sum(losses[1:], losses[0]),
        **stated,
    )


def kd_hybrid(
    teacher_weight: Annotated[
        Changing | Sequence[Changing], Within(0, 1, "λ, or one per teacher", total=1, changes=True)
    ] = 0.5,
    teacher_temperature: TeacherTemperature = 1.0,
) -> Method:
    """Label and teacher mixed at a fixed share.

    γ = 1 − λ, π̃ = t, loss (1−λ)(−log p_y) + λ KL(t‖p). Limits: 0 is sft, 1 is kd.
    At teacher_temperature τ, t is t^(1/τ), renormalised.
    """
    shares = _each(teacher_weight)
    terms, label_share = residual.teachers(shares, teacher_temperature), 1 - sum(shares[1:], shares[0])
    loss = value.nll() * label_share
    for weight, pool in terms:
        loss = loss + weight * value.kl(pool)
    return Method(
        "kd-hybrid",
        label_share,
        terms,
        value=loss,
        source="arXiv 1503.02531",
        use_when="Teacher and rows are both good, and a fixed share of each is what you want.",
    )


def target_sft(
    eta: Annotated[
        Changing | Sequence[Changing],
        Within(0, 1, "the teacher's exponent, or one per teacher", total=1, changes=True),
    ] = 0.5,
    teacher_temperature: TeacherTemperature = 1.0,
    trust: LabelTrust = "p_y",
) -> Method:
    """Target-SFT: trust the label as much as the student does, and let the teacher guide where the rest goes.

    γ = p_y, π̃ ∝ p^(1−η)·t^η, loss CE(Q, p) with Q under stop-gradient, the only reading in which Q = p − ∂L/∂z.
    Proper always. Limits: eta 0 is dft; eta 1 is kd-hybrid with λ = 1 − p_y.
    With several teachers π̃ ∝ p^(1−Ση)·Π t_i^η_i. The paper's default η is not known; 0.5 is ours.
    At teacher_temperature τ, t is t^(1/τ), renormalised: π̃ ∝ p^(1−η)·t^(η/τ).
    η may differ from token to token and follow a schedule; so may `trust`, another γ in the place of p_y.
    """
    gamma = number_of(trust)
    return Method(
        "target-sft",
        gamma,
        rest(gamma, residual.guided(_each(eta), teacher_temperature)),
        source="arXiv 2606.11189",
        use_when=(
            "The rows hold mistakes or foreign wording, the student knows part of the matter, and a teacher knows "
            "what it lacks. Choose eta on held-out questions: larger for a better teacher."
        ),
    )


def _each(setting: Changing | Sequence[Changing]) -> tuple[Number, ...]:
    """One number or rule per teacher, from one setting or several."""
    several = isinstance(setting, Sequence) and not isinstance(setting, str)
    return tuple(map(number_of, setting if several else (setting,)))  # pyright: ignore[reportArgumentType]


METHODS: dict[str, Callable[..., Method]] = {
    "sft": sft,
    "dft": dft,
    "beyond-log": beyond_log,
    "profit": profit,
    "eaft": eaft,
    "iw-sft": iw_sft,
    "cft": cft,
    "label-smoothing": label_smoothing,
    "sft-kl": sft_kl,
    "asft": asft,
    "psft": psft,
    "gem": gem,
    "kd": kd,
    "kd-hybrid": kd_hybrid,
    "target-sft": target_sft,
    **BEYOND,
    **DIVERGENCES,
    **ROBUST,
    **BETWEEN_MODELS,
}


def method(name: str, **hyperparameters: Any) -> Method:
    """A method of the catalogue by name, its hyperparameters checked.

    Raises:
        ValueError: the name or a hyperparameter is unknown (the near miss is named), or a value is out of range.

    >>> method("target-sft", eta=0.2).needs
    frozenset({'teacher'})
    """
    if name not in METHODS:
        raise ValueError(f'no method "{name}"; {suggestion(name, METHODS)}')
    values = checked(name, METHODS[name], hyperparameters)
    return replace(METHODS[name](**values), hyperparameters=values)


method._dynamo_marked_constant = True  # type: ignore[attr-defined]
"""What `torch.compiler.assume_constant_result` sets; calling that would load the compiler with every import."""
