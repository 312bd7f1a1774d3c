"""Tries a user's statistic on made-up tokens when a method is composed, so that what is wrong with it shows there."""

from __future__ import annotations

import torch
from torch import Tensor

from qtarget.target import statistics
from qtarget.target.evidence import Evidence, LabelOnly, SupervisedTokens
from qtarget.target.frame import Frame, StatisticError, pool_logp
from qtarget.target.pool import FLOOR, Pool, sources_of
from qtarget.target.rule import STUDENT, Moment, Statistic
from qtarget.target.statistics import MOMENTS

MADE_UP_TOKENS, MADE_UP_VOCABULARY = 4, 512


def check_statistic(statistic: Statistic) -> None:
    """Measure a statistic on a few tokens for which only what it says it reads is there.

    The statistics of `qtarget.statistics` are held to their facts by test, and passed over. So is a definition that
    made-up tokens do not suit: it is left to the call.

    Raises:
        ValueError: the definition reads what the statistic does not name, goes in a circle, or is not its `moment`.
    """
    if getattr(statistic.definition, "__module__", None) == statistics.__name__:
        return
    frame = _made_up(statistic)
    try:
        measured_T = frame[statistic]
    except StatisticError:
        raise
    except Exception:
        return
    if statistic.moment is not None:
        _check_moment(statistic, statistic.moment, measured_T, frame)


def _check_moment(statistic: Statistic, moment: Moment, measured_T: Tensor, frame: Frame) -> None:
    expected_T = _moment(statistic, moment, frame)
    if not torch.allclose(measured_T.double(), expected_T, rtol=1e-4, atol=1e-6):
        raise ValueError(
            f'the statistic "{statistic}" says that it is {moment}, {moment.value}, and its definition is '
            f"another number; leave moment out, and the fused loss measures the definition"
        )


def _moment(statistic: Statistic, moment: Moment, frame: Frame) -> Tensor:
    """The moment that a statistic says it is, from whole distributions, [T]."""
    source = statistic.distribution
    if statistic.label_only:
        logp_T = frame.label_logp(statistic.source).double()
        return logp_T.exp() if moment is Moment.LABEL_PROBABILITY else logp_T
    if moment is Moment.TOP_ENTROPY:
        return frame[statistics.top_k_entropy(statistic.of)]
    if moment is Moment.TOP_MASS:
        return frame[statistics.top_k_mass(statistic.of)]
    if moment is Moment.SUPPORT:
        return frame[statistics.VOCABULARY]
    if moment is Moment.COST:
        return frame[statistics.slope_cost(statistic.of)]
    if moment is Moment.MEAN_SLOPE:
        return frame[statistics.mean_slope(statistic.of)]
    if isinstance(source, Pool):
        return MOMENTS[moment](frame, pool_logp(source, frame))
    return MOMENTS[moment](frame, frame.logp_TV if source == STUDENT else frame.source_TV(source))


def _made_up(statistic: Statistic) -> Frame:
    """Made-up tokens of a student, with the sources and columns that a statistic names, and no others."""
    generator = torch.Generator().manual_seed(0)
    logits_TV = torch.randn(MADE_UP_TOKENS, MADE_UP_VOCABULARY, generator=generator, dtype=torch.float64)
    labels_T = torch.arange(MADE_UP_TOKENS)
    pools = statistic.of.parts if isinstance(statistic.of, Pool) else ()
    named = {name for pool in pools for name, _ in sources_of(pool)} | {statistic.source}

    def evidence(name: str) -> Evidence | None:
        if name not in named:
            return None
        source_TV = torch.randn(MADE_UP_TOKENS, MADE_UP_VOCABULARY, generator=generator, dtype=torch.float64)
        alone = statistic.label_only and name == statistic.source
        return LabelOnly(source_TV.log_softmax(-1)[labels_T, labels_T]) if alone else source_TV

    last = max((int(name.split()[1]) for name in named if name.startswith("teacher")), default=-1)
    tokens = SupervisedTokens(
        where=labels_T,
        labels_T=labels_T,
        teachers=tuple(evidence(f"teacher {i}") for i in range(last + 1)),  # pyright: ignore[reportArgumentType]
        reference=evidence("reference"),
        token_weight_T=torch.ones(MADE_UP_TOKENS) if "token_weight" in named else None,
        sequence_ids_T=torch.zeros(MADE_UP_TOKENS, dtype=torch.long) if "sequence_ids" in named else None,
        progress=torch.tensor(0.5) if "progress" in named else None,
        position_T=torch.linspace(0, 1, MADE_UP_TOKENS) if "position" in named else None,
        shape=labels_T.shape,
        num_supervised=torch.tensor(MADE_UP_TOKENS),
        counted_T=torch.ones(MADE_UP_TOKENS, dtype=torch.bool),
    )
    return Frame(logits_TV.log_softmax(-1).clamp(min=FLOOR), tokens)
