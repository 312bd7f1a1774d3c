"""Everything that is measured of the chosen rows, with one forward pass of each model over each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

import qtarget as qt
from qtarget.job.inspection.kept_memory import kept_memory
from qtarget.job.inspection.likeliest_tokens import OF_PAGE, Keeping, LikeliestTokens, joined, likeliest
from qtarget.job.inspection.open_methods import OpenMethods, not_moved, open_methods
from qtarget.job.inspection.pull import (
    TokenPull,
    beside_itself,
    label_gap,
    label_trust_pull,
    residual_pull,
    statistics_of,
    target_at,
    weighted,
)
from qtarget.job.inspection.pull import is_label_trust as keeps_rest
from qtarget.job.inspection.row_forward import ForwardReader, RowForward
from qtarget.job.inspection.trained_rows import TrainedRow
from qtarget.job.inspection.whole_frame import REFERENCE, WholeFrame, frames_of
from qtarget.target import residual, slopes, statistics
from qtarget.target.rule import STUDENT, Statistic
from qtarget.target.statistics import COLLISION, LOG_NOT_Y, LOGP_Y, REFERENCE_MASS_BELOW, SEQUENCE_IDS

MEAN_SLOPES = {
    name: statistics.mean_slope(residual.along(slope))
    for name, slope in {
        "reverse_slope": slopes.reverse(residual.teacher()),
        "todi_slope": slopes.sigmoid_mixed(residual.teacher()),
        "tvd_slope": slopes.variation(residual.teacher()),
    }.items()
}
"""E_p[h] over the whole vocabulary, of slopes that no hyperparameter changes: with it the page needs no bound."""


GUIDED = "target-sft"
"""The method whose pool the page knows whole at the run's η."""


@dataclass(frozen=True)
class MeasuredRow:
    """One document, its T learned tokens measured.

    Attributes:
        row: as it is trained on.
        numbers: by name, [T]: `logp_y`, `entropy`, `rank` and what else stands in `_of_source`; of sources besides the
            student the name is "teacher 0 entropy" and the like. Nats.
        likeliest: candidates and tails of every source.
        pulls: by method, the parts of its `TokenPull`.
        group: documents with the same number are one micro-batch to methods that look at a batch.
    """

    row: TrainedRow
    numbers: Mapping[str, np.ndarray]
    likeliest: LikeliestTokens
    pulls: Mapping[str, Mapping[str, np.ndarray]]
    group: int


@dataclass
class RowMeasures:
    """A document under way: blocks of tokens, and the statistics that methods of wider scope still need."""

    numbers: dict[str, list[Tensor]] = field(default_factory=dict)
    statistics: dict[Statistic, list[Tensor]] = field(default_factory=dict)
    pulls: dict[str, list[TokenPull]] = field(default_factory=dict)
    likeliest: list[LikeliestTokens] = field(default_factory=list)
    gap: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class MeasuredSet:
    """The chosen rows, measured.

    Attributes:
        sources: names of what was asked besides the student, in order; "reference" only where it is not the student.
        vocabulary: rows of the student's output layer.
    """

    rows: list[MeasuredRow]
    open: OpenMethods
    sources: tuple[str, ...]
    vocabulary: int


def conflict_score(reader: ForwardReader, row: TrainedRow) -> float:
    """How much of a row contradicts a sure student: mean over its tokens of (1 − p_y)·e^(−entropy)."""
    logp_TV = reader.logprobs(row)
    labels_T1 = torch.as_tensor(row.ids[row.learned], device=logp_TV.device)[:, None]
    p_y = logp_TV.gather(-1, labels_T1).squeeze(-1).exp()
    entropy = -(logp_TV.exp() * logp_TV.clamp(min=-1e30)).sum(-1)
    return float(((1 - p_y) * (-entropy).exp()).mean())


@torch.no_grad()
@kept_memory()
def measure(
    reader: ForwardReader, rows: Sequence[TrainedRow], method: qt.Method, batch_rows: int, keep: Keeping = OF_PAGE
) -> MeasuredSet:
    """Measure rows under every method that their sources allow.

    Args:
        method: the run's own.
        batch_rows: documents in a micro-batch, for methods that look at one: they are taken in order.
        keep: which candidates of each distribution are kept.
    """
    measured, found, methods, sources, vocabulary = [], None, {}, (), 0
    for row in tqdm(rows, desc="measuring rows", delay=2):
        forward = reader.read(row)
        if found is None:
            found, vocabulary = _opened(method, forward), forward.head.weight.shape[0]
            methods, sources = seen_methods(found.methods, forward), _names(forward)
        measured.append((row, _measures(forward, methods, sources, keep)))
    assert found is not None
    groups = [number // batch_rows for number in range(len(measured))]
    together = list(zip(groups, measured, strict=True))
    made = [
        each
        for group, of_group in groupby(together, key=lambda pair: pair[0])
        for each in _finished([pair[1] for pair in of_group], methods, group)
    ]
    return MeasuredSet(made, found, sources, vocabulary)


def _opened(method: qt.Method, forward: RowForward) -> OpenMethods:
    first = next(frames_of(forward))
    return open_methods(method, first.tokens, forward.head.weight.shape[0])


def seen_methods(methods: Mapping[str, qt.Method], forward: RowForward) -> Mapping[str, qt.Method]:
    """The methods as they are beside this reference."""
    return {n: beside_itself(m) for n, m in methods.items()} if forward.is_student_reference else methods


def _names(forward: RowForward) -> tuple[str, ...]:
    """Sources whose whole distributions are known."""
    named = [(f"teacher {i}", each) for i, each in enumerate(forward.tokens.teachers)]
    named += [] if forward.is_student_reference else [(REFERENCE, forward.tokens.reference)]
    return tuple(name for name, each in named if not isinstance(each, qt.LabelOnly))


def _measures(
    forward: RowForward, methods: Mapping[str, qt.Method], sources: Sequence[str], keep: Keeping
) -> RowMeasures:
    out = RowMeasures()
    wanted = {*statistics_of([m for m in methods.values() if keeps_rest(m)]), LOGP_Y, LOG_NOT_Y} - {SEQUENCE_IDS}
    fixed = {name: pool for name in not_moved() if name in methods and (pool := fixed_pool(methods[name]))}
    pools = {**guided_pools(methods), **fixed}
    for frame in frames_of(forward):
        for name, values_T in _numbers(frame, sources, methods):
            out.numbers.setdefault(name, []).append(values_T)
        for statistic in wanted:
            out.statistics.setdefault(statistic, []).append(frame[statistic])
        for name, method in methods.items():
            if not keeps_rest(method):
                factor = frame.tokens.multiplier(method.weight_is_trust, frame.logp_TV.dtype)
                out.pulls.setdefault(name, []).append(weighted(residual_pull(method, frame), factor))
        out.gap.append(label_gap(frame))
        by_entry = [n for n in not_moved() if n in methods and n not in fixed and not keeps_rest(methods[n])]
        targets = {name: partial(target_at, methods[name], frame) for name in by_entry}
        out.likeliest.append(likeliest(frame, (STUDENT, *sources), keep, pools, targets))
    return out


def guided_pools(methods: Mapping[str, qt.Method]) -> Mapping[str, qt.Pool]:
    """The pool of student and teachers that the page moves with η; none where it moves no such pool."""
    if GUIDED not in methods or not (residual := methods[GUIDED].residual):
        return {}
    pool = residual[0].pool
    return {GUIDED: pool} if len(set(pool.teachers)) == 1 else {}


def fixed_pool(method: qt.Method) -> qt.Pool | None:
    """The pool of a method whose target is γ·label + c·π̃ with one γ, one c and the same exponents at every token: Q
    follows from what the page keeps and the pool's mass on all other tokens. None of other methods."""
    if len(method.residual) != 1:
        return None
    coefficient, pool = method.residual[0]
    is_plain = pool.potential is None and pool.tangent is None and not pool.is_student
    numbers = (method.trust, coefficient, *pool.exponents)
    return pool if is_plain and all(isinstance(each, int | float) for each in numbers) else None


def _numbers(
    frame: WholeFrame, sources: Sequence[str], methods: Mapping[str, qt.Method]
) -> Iterator[tuple[str, Tensor]]:
    yield from _of_source("", frame, STUDENT)
    yield "log_not_y", frame[LOG_NOT_Y]
    yield "collision", frame[COLLISION]
    yield "top_entropy", frame[statistics.top_k_entropy(methods["eaft"].hyperparameters["top_k"])]
    yield "top_mass", frame[statistics.top_k_mass(methods["sed-sft"].hyperparameters["top_k"])]
    yield "reference_logp_y", frame.label_logp(REFERENCE)
    if not isinstance(frame.evidence(REFERENCE), qt.LabelOnly):
        yield "reference_mass_below", frame[REFERENCE_MASS_BELOW]
    if frame.tokens.token_weight_T is not None:
        yield "token_weight", frame.tokens.token_weight_T
    for name in sources:
        yield from _of_source(f"{name} ", frame, name)
        yield f"{name} overlap", torch.minimum(frame.p_TV, frame.source_p_TV(name)).sum(-1)
    if "teacher 0" in sources:
        yield from ((name, frame[mean]) for name, mean in MEAN_SLOPES.items())
    if "akl" in methods:
        yield "head_share", frame[statistics.head_share(methods["akl"].hyperparameters["head"])]


def _of_source(prefix: str, frame: WholeFrame, source: str) -> Iterator[tuple[str, Tensor]]:
    """A source's own: log-probability and rank of the label, entropy, its likeliest token and that one's."""
    top = frame.ranked(source)
    yield f"{prefix}logp_y", frame.pick(frame.source_TV(source))
    yield f"{prefix}entropy", frame.entropy_T(source)
    yield f"{prefix}rank", frame.rank_T(source)
    yield f"{prefix}top", top.ids_CK[:, 0]
    yield f"{prefix}top_logp", top.values_CK[:, 0]


def _joined(blocks: Sequence[TokenPull]) -> TokenPull:
    return TokenPull(*(torch.cat(part) for part in zip(*blocks, strict=True)))


def _finished(
    measured: Sequence[tuple[TrainedRow, RowMeasures]], methods: Mapping[str, qt.Method], group: int
) -> Iterator[MeasuredRow]:
    """The rows of one micro-batch, with the pulls of methods that needed all of it."""
    lengths = [sum(map(len, each.gap)) for _, each in measured]
    together = {name: torch.cat([t for _, each in measured for t in each.statistics[name]])
                for name in measured[0][1].statistics}  # fmt: skip
    gap_T = torch.cat([t for _, each in measured for t in each.gap])
    sequence = torch.arange(len(lengths), device=gap_T.device).repeat_interleave(torch.tensor(lengths).to(gap_T.device))
    together[SEQUENCE_IDS] = sequence
    weights = [t for _, each in measured for t in each.numbers.get("token_weight", ())]
    pulls = {}
    for name, method in methods.items():
        if keeps_rest(method):
            factor = torch.cat(weights).to(gap_T) if weights and not method.weight_is_trust else 1.0
            whole = weighted(label_trust_pull(method, together, gap_T), factor)
            pulls[name] = [TokenPull(*part) for part in zip(*(part.split(lengths) for part in whole), strict=True)]
    for place, (row, each) in enumerate(measured):
        of_row = {}
        for name in methods:
            own = pulls[name][place] if name in pulls else _joined(each.pulls[name])
            of_row[name] = {part: values.float().cpu().numpy() for part, values in own._asdict().items()}
        numbers = {name: torch.cat(parts).cpu().numpy() for name, parts in each.numbers.items()}
        yield MeasuredRow(row, numbers, joined(each.likeliest), of_row, group)
