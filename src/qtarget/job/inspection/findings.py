"""What `qtarget inspect` found, in numbers: what the terminal prints, and what a program reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from qtarget.job.inspection.measured_rows import MeasuredSet
from qtarget.job.inspection.row_audit import Audit
from qtarget.job.inspection.row_evidence import CandidateTarget, RowStatistic
from qtarget.job.inspection.row_forward import PROGRESS_SHOWN
from qtarget.job.inspection.token_kinds import TOKEN_KINDS
from qtarget.job.inspection.token_table import TokenTable, map_regions
from qtarget.job.inspection.token_texts import candidate_texts

FAR_ABOVE = 3.0
"""Nats by which a kind of token stands out of all others: it is twenty times less probable."""
SUREST = 40
"""Tokens that are listed as those at which a teacher is surest against the label."""


@dataclass(frozen=True)
class MethodFigures:
    """A method over the tokens of the random rows.

    Attributes:
        progress: of a schedule of the run, at which all these figures hold; None of a method that follows none.
        mean_trust, mean_kl: means over tokens; mean_kl in nats, over those with a proper target (NaN for none).
        effective_tokens: (Σg)²/Σg², g the norm of a token's logit gradient: as many tokens of equal pull.
        gradient_beside_sft: Σg over sft's: what a learning rate should make up for.
        conflict_share, contradicted_share: of Σg on confident conflicts, and on tokens that the first teacher
            contradicts (None without one).
        proper: share of tokens with a proper target.
        by_region: of Σg in each of `map_regions`.
    """

    name: str
    hyperparameters: Mapping[str, Any]
    progress: float | None
    mean_trust: float
    mean_kl: float
    effective_tokens: float
    gradient_beside_sft: float
    conflict_share: float
    contradicted_share: float | None
    proper: float
    by_region: tuple[float, ...]


@dataclass(frozen=True)
class TeacherFigures:
    """A teacher, or the reference, beside the student, over the tokens of the random rows.

    Attributes:
        nll, student_nll: of the demonstrations, nats a token.  overlap: mean of Σ min(p, t).
        captured: mean of its mass on the candidates that are kept.
        contradicted: share of tokens that it contradicts; contradicted_rows: rows that hold such a token.
        agrees: share of tokens of which its likeliest is the student's.
    """

    name: str
    nll: float
    student_nll: float
    overlap: float
    captured: float
    contradicted: float
    contradicted_rows: int
    agrees: float


@dataclass(frozen=True)
class SurestToken:
    """A label that a source contradicts.

    Attributes:
        row: its number in the prepared set.  token: its place in the row.  Both are counted from 1.
        label, instead: texts of the label and of the source's likeliest token; instead_id is that one's id.
        follows: whether an earlier token of the row is contradicted too, so that this one may follow from it.
    """

    source: str
    row: int
    token: int
    label: str
    instead: str
    instead_id: int
    p_label: float
    p_instead: float
    follows: bool


@dataclass(frozen=True)
class KindFigures:
    """A kind of token over the random rows: how many, and the student's loss on them in nats.

    Attributes:
        remark: in words, that its loss may come of a fault in the rows; "" where it does not stand out.
    """

    kind: str
    tokens: int
    mean_nll: float
    median_nll: float
    remark: str = ""


@dataclass(frozen=True)
class Findings:
    """Everything that was found.

    Attributes:
        rows: numbers of the measured rows in the prepared set, from 1, with why each was chosen.
        sample: how many of them were drawn at random, or all; all figures but the audit's are of these.
        audit: over the whole set.
        methods, closed: the methods shown, and why others are not.
        token_shares: of the tokens in each region of the map.
        teachers, surest, kinds, statistics, candidates: as their classes say.
        contradictions: labels of all measured rows that teachers contradict; `surest` has some of them.
        batch_rows: rows in a micro-batch, for methods that look at one.
        places: of the rows that are named here, by number, where they stand in their files: "train.jsonl, line 13";
            empty where that is not known.
        teacher: as the configuration names it; "" where it names none.
    """

    model: str
    configured: str
    rows: tuple[tuple[int, str], ...]
    sample: int
    tokens: int
    audit: Audit
    methods: tuple[MethodFigures, ...]
    closed: Mapping[str, str]
    token_shares: tuple[float, ...]
    teachers: tuple[TeacherFigures, ...]
    surest: tuple[SurestToken, ...]
    contradictions: int
    kinds: tuple[KindFigures, ...]
    statistics: tuple[RowStatistic, ...]
    candidates: tuple[CandidateTarget, ...]
    batch_rows: int
    places: Mapping[int, str] = field(default_factory=dict)
    teacher: str = ""

    @property
    def sample_words(self) -> str:
        """The rows that the figures are of: "32 random rows", "all 24 rows"."""
        is_all = all(why == "all" for _, why in self.rows)
        return f"all {self.sample:,} rows" if is_all else f"{self.sample:,} random rows"

    @property
    def named(self) -> set[int]:
        """Numbers of the rows that are measured, or that the audit names."""
        found = (number for line in self.audit.lines for number in line.numbers)
        return {*found, *self.audit.least, *self.audit.most, *(number for number, _ in self.rows)}


def method_figures(found: MeasuredSet, table: TokenTable) -> tuple[MethodFigures, ...]:
    """Every open method, the run's own first."""
    regions, cells = table.regions, len(map_regions())
    against = table.contradicted(table.teachers[0]) if table.teachers else None
    sft = _total(table.pull("sft", "gradient"))
    made = []
    for name, method in found.open.methods.items():
        pull, trust, kl = (table.pull(name, part).astype(float) for part in ("gradient", "trust", "target_kl"))
        total = _total(pull)
        made.append(
            MethodFigures(
                name,
                dict(method.hyperparameters),
                PROGRESS_SHOWN if "progress" in method.needs else None,
                float(trust.mean()),
                float(np.nanmean(kl)) if not np.isnan(kl).all() else float("nan"),
                float(total**2 / _total(pull**2)),
                float(total / sft),
                float((pull * table.conflicts).sum() / total),
                None if against is None else float((pull * against).sum() / total),
                float((~np.isnan(kl)).mean()),
                tuple((np.bincount(regions, pull, cells) / total).tolist()),
            )
        )
    return tuple(made)


def _total(values: np.ndarray) -> float:
    """The sum; tiny where all are zero, so that shares of it are zero."""
    return float(values.sum()) or 1e-30


def teacher_figures(table: TokenTable) -> tuple[TeacherFigures, ...]:
    """Every source besides the student whose whole distribution is known."""
    made = []
    for name in table.sources:
        tails = np.concatenate([row.likeliest.log_tail[name] for row in table.rows])
        made.append(
            TeacherFigures(
                name,
                -float(table.number(f"{name} logp_y").mean()),
                -float(table.number("logp_y").mean()),
                float(table.number(f"{name} overlap").mean()),
                1 - float(np.exp(tails).mean()),
                float(table.contradicted(name).mean()),
                len(set(table.row[table.contradicted(name)].tolist())),
                float((table.number(f"{name} top") == table.number("top")).mean()),
            )
        )
    return tuple(made)


def surest_against(table: TokenTable, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> tuple[SurestToken, ...]:
    """Of all measured rows, the labels that sources contradict and of which they are surest, row by row: the row of the
    surest one first, a row's own in their order."""
    made = []
    for name in table.teachers:
        label, top = (np.exp(table.number(f"{name} {part}").astype(float)) for part in ("logp_y", "top_logp"))
        against, tops = table.contradicted(name).nonzero()[0], table.number(f"{name} top")
        first = dict(zip(table.row[against[::-1]].tolist(), against[::-1].tolist(), strict=True))
        surest = against[np.argsort(-(top - label)[against], kind="stable")][:SUREST].tolist()
        rows = list(dict.fromkeys(table.row[surest].tolist()))
        places = np.concatenate([row.row.learned for row in table.rows])
        texts = candidate_texts(tops[surest].tolist(), tokenizer, vocabulary)
        for at in sorted(surest, key=lambda at: (rows.index(table.row[at]), at)):
            row, token, instead = int(table.row[at]), int(places[at]), int(tops[at])
            made.append(
                SurestToken(
                    name, table.rows[row].row.number, token + 1, table.texts[row][token], texts[instead], instead,
                    float(label[at]), float(top[at]), at > first[row],
                )
            )  # fmt: skip
    return tuple(made)


def contradictions(table: TokenTable) -> int:
    """How many labels of all measured rows teachers contradict."""
    return sum(int(table.contradicted(name).sum()) for name in table.teachers)


def kind_figures(table: TokenTable) -> tuple[KindFigures, ...]:
    """Every kind that there is a token of."""
    nll = -table.number("logp_y").astype(float)
    of_kind = {kind: nll[table.kinds == kind] for kind in TOKEN_KINDS}
    kinds = [
        KindFigures(kind, len(values), float(values.mean()), float(np.median(values)))
        for kind, values in of_kind.items()
        if len(values)
    ]
    return tuple(replace(each, remark=_remark(each, [one for one in kinds if one is not each])) for each in kinds)


def _remark(kind: KindFigures, others: Sequence[KindFigures]) -> str:
    means, medians = ([getattr(each, name) for each in others] for name in ("mean_nll", "median_nll"))
    if others and kind.mean_nll > max(means) + FAR_ABOVE and kind.median_nll > max(medians) + FAR_ABOVE:
        return "far above every other kind"
    return "mean far above the median" if kind.mean_nll > 0.3 and kind.mean_nll > 3 * kind.median_nll else ""


def token_shares(table: TokenTable) -> tuple[float, ...]:
    """The share of tokens in each region of the map."""
    return tuple((np.bincount(table.regions, minlength=len(map_regions())) / max(len(table.row), 1)).tolist())
