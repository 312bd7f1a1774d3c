"""What the rows are evidence for: statistics with intervals, what each has been seen to go with, and targets to pilot.

Rows are the unit: tokens of one row are alike. Intervals are percentile bootstraps over rows of a ratio of sums (Efron
1979), and of the random rows alone, which are a fair sample of the set.
"""

from dataclasses import dataclass

import numpy as np

from qtarget.evaluate.confidence import Interval
from qtarget.job.inspection.token_table import TokenTable

BOOTSTRAP_DRAWS, LEVEL = 2000, 0.95
FEWEST_ROWS = 8
"""Rows below which no interval is given."""


@dataclass(frozen=True)
class RowStatistic:
    """A statistic of the user's rows.

    Attributes:
        name: a key for programs.
        says: what it is, in words.
        value: over all tokens of the random rows.
        interval: 95 %, by rows; None of fewer than `FEWEST_ROWS`.
        seen_with: what it has been seen to go with, and where; or that nothing is known.
    """

    name: str
    says: str
    value: float
    interval: Interval | None
    seen_with: str


@dataclass(frozen=True)
class CandidateTarget:
    """A target to try on held-out questions. line: of a configuration. why: what speaks for it."""

    line: str
    why: str


NLL_SEEN = (
    "Over 1000 models, low perplexity of the base model on the rows went with larger gains of SFT, more surely than "
    "likeness of topic did (arXiv 2506.14681)."
)
PRIOR_SEEN = (
    "High p_y is a strong prior: targets that trust p_y won there, −log p where it was weak, and in the middle no "
    "objective did (arXiv 2510.00526). In our study of small models sft won by 1 to 4 points where the student hardly "
    "knew the matter, dft and target-sft elsewhere (docs/study.md)."
)
CONFLICT_SEEN = (
    "Confident conflicts went with forgetting under SFT, which eaft leaves out (arXiv 2601.02151). How many are too "
    "many is not known."
)
TEACHER_SEEN = (
    "A teacher that finds the demonstrations likely is one whose voice is in them, which went with better distillation "
    "(arXiv 2604.13010)."
)
OVERLAP_SEEN = (
    "Overlap of student's and teacher's likeliest tokens went with distillation taking hold (arXiv 2604.13016)."
)
CONTRADICTED_SEEN = (
    "Wrong labels, or a wrong teacher: read them. In our lab rows with wrong steps were where target-sft was ahead of "
    "sft (docs/study.md); no share is known from which on it pays."
)


def row_statistics(table: TokenTable) -> list[RowStatistic]:
    """The statistics of the random rows."""
    p_y, nll = table.p_y, -table.number("logp_y")
    found = [
        _mean(table, "nll", "loss of the rows under the model, nats a token", nll, NLL_SEEN),
        _mean(table, "p_y", "mean p_y", p_y, PRIOR_SEEN),
        _mean(table, "p_y below 0.1", "tokens with p_y below 0.1", p_y < 0.1, PRIOR_SEEN),
        _mean(table, "p_y above 0.9", "tokens with p_y above 0.9", p_y > 0.9, PRIOR_SEEN),
        _mean(table, "conflicts", "tokens that are confident conflicts", table.conflicts, CONFLICT_SEEN),
    ]
    for method in [name for name in ("sft", "dft", "eaft", "target-sft") if name in table.rows[0].pulls]:
        share = _share(table, f"conflict gradient {method}", f"share of {method}'s gradient on confident conflicts",
                       table.pull(method, "gradient") * table.conflicts, table.pull(method, "gradient"))  # fmt: skip
        found.append(share)
    for teacher in table.teachers:
        found += _of_teacher(table, teacher, "teacher" if len(table.teachers) == 1 else teacher)
    return found


def _of_teacher(table: TokenTable, teacher: str, name: str) -> list[RowStatistic]:
    nll, gain = -table.number(f"{teacher} logp_y"), table.number(f"{teacher} logp_y") - table.number("logp_y")
    contradicted = table.contradicted(teacher)
    return [
        _mean(table, f"{teacher} nll", f"loss of the rows under the {name}, nats a token", nll, TEACHER_SEEN),
        _mean(table, f"{teacher} gain", "how much lower that is than the model's", gain, TEACHER_SEEN),
        _mean(
            table,
            f"{teacher} overlap",
            f"mass that model and {name} share",
            table.number(f"{teacher} overlap"),
            OVERLAP_SEEN,
        ),
        _mean(table, f"{teacher} contradicts", f"tokens that the {name} contradicts", contradicted, CONTRADICTED_SEEN),
    ]


def _mean(table: TokenTable, name: str, says: str, values: np.ndarray, seen: str) -> RowStatistic:
    return _share(table, name, says, values.astype(float), np.ones(len(values)), seen)


def _share(
    table: TokenTable, name: str, says: str, part: np.ndarray, whole: np.ndarray, seen: str = CONFLICT_SEEN
) -> RowStatistic:
    rows = len(table.rows)
    parts, wholes = (np.bincount(table.row, values, rows) for values in (part, whole))
    total = wholes.sum()
    return RowStatistic(name, says, float(parts.sum() / total) if total else 0.0, row_interval(parts, wholes), seen)


def row_interval(parts: np.ndarray, wholes: np.ndarray, seed: int = 0) -> Interval | None:
    """Of Σ parts / Σ wholes, rows drawn with replacement; None of too few rows."""
    rows = len(parts)
    if rows < FEWEST_ROWS:
        return None
    drawn = np.random.default_rng(seed).integers(0, rows, (BOOTSTRAP_DRAWS, rows))
    sums = wholes[drawn].sum(1)
    ratios = parts[drawn].sum(1) / np.where(sums > 0, sums, 1)
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


def candidate_targets(statistics: list[RowStatistic], teachers: int) -> list[CandidateTarget]:
    """Two or three targets for a pilot, sft among them; of several teachers each has the same share."""
    values = {each.name: each.value for each in statistics}
    intervals = {each.name: each.interval for each in statistics}
    p_y, low = values["p_y"], values["p_y below 0.1"]
    baseline = CandidateTarget("method: sft", "what every other target is compared with")
    if not teachers:
        return [baseline, *_without_teacher(p_y, low)]
    gain, interval = values["teacher 0 gain"], intervals["teacher 0 gain"]
    by = f"by {abs(gain):.2f} nats a token"
    if interval is None or interval.low <= 0 <= interval.high:
        eta, why = 0.5, "whether the teacher finds these rows likelier than the model is not clear"
    elif gain > 0:
        eta, why = 0.5, f"the teacher finds these rows likelier than the model does, {by}"
    else:
        eta, why = 0.2, f"the teacher finds these rows less likely than the model does, {by}"
    shares = "" if teachers == 1 else f"\nteacher_weights: {_shared(1.0, teachers)}"
    guided = CandidateTarget(
        f"method: target-sft\neta: {_shared(eta, teachers)}",
        f"{why}; {values['teacher 0 contradicts']:.0%} contradicted",
    )
    third = CandidateTarget(f"method: kd{shares}", "the teacher alone: whether the rows' labels add anything to it")
    return [baseline, guided, third]


def _shared(total: float, teachers: int) -> float | list[float]:
    """A hyperparameter of one number a teacher."""
    return total if teachers == 1 else [total / teachers] * teachers


def _without_teacher(p_y: float, low: float) -> list[CandidateTarget]:
    if p_y < 0.3:
        return [
            CandidateTarget("method: beyond-log\nalpha: 0.1", f"mean p_y is {p_y:.2f}, a weak prior: stay near sft")
        ]
    strong = CandidateTarget("method: dft", f"mean p_y is {p_y:.2f}: improbable labels ({low:.0%}) may be slips")
    middle = CandidateTarget("method: beyond-log\nalpha: 0.5", "half way to sft, for where neither is known to win")
    return [strong, middle] if p_y > 0.5 else [middle, strong]
