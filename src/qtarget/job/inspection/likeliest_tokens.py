"""What is kept of the distributions at a token: the likeliest tokens of every source, and the mass of the others."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

import qtarget as qt
from qtarget.job.inspection.whole_frame import RANKED, WholeFrame
from qtarget.target.pool import FLOOR
from qtarget.target.top_k import Largest, largest


class Keeping(NamedTuple):
    """At most `kept` tokens of a source are kept, and no more than hold `mass`; the label always."""

    kept: int = 24
    mass: float = 0.999


OF_PAGE = Keeping()
"""What a page gets."""


@dataclass(frozen=True)
class LikeliestTokens:
    """The union of the sources' likeliest tokens at T tokens, laid end to end.

    Attributes:
        counts: [T] how many candidates each token has.
        ids: [N] candidates, those of a token in falling order of the student's probability.
        logprobs: by source, [N] nats.
        log_tail: by source or pool, [T] nats: mass of all other tokens; −inf for none.
        targets: by method that the page neither moves nor builds of a fixed pool, [N]: Q.
    """

    counts: np.ndarray
    ids: np.ndarray
    logprobs: Mapping[str, np.ndarray]
    log_tail: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]


def likeliest(
    frame: WholeFrame,
    sources: Sequence[str],
    keep: Keeping,
    pools: Mapping[str, qt.Pool],
    targets: Mapping[str, Callable[[Tensor], Tensor]],
) -> LikeliestTokens:
    """The union over sources.

    Args:
        sources: names, the student's first.
        pools: others whose mass on all other tokens is kept too.
        targets: by method, Q at some tokens: [T, W] ids -> [T, W].
    """
    label_T1 = frame.tokens.labels_T[:, None]
    named = [label_T1]
    for source in sources:
        values_TK, ids_TK = _likeliest_of(frame, source, keep.kept)
        before_TK = values_TK.exp().cumsum(-1) - values_TK.exp()
        named.append(torch.where((before_TK < keep.mass) & (values_TK > FLOOR / 2), ids_TK, label_T1))
    ids_TM = torch.cat(named, -1).sort(-1).values
    is_new_TM = torch.cat([torch.ones_like(label_T1, dtype=torch.bool), ids_TM[:, 1:] != ids_TM[:, :-1]], -1)
    counts_T = is_new_TM.sum(-1)
    order_TM = frame.logp_TV.gather(-1, ids_TM).masked_fill(~is_new_TM, -torch.inf).argsort(-1, descending=True)
    width = int(counts_T.max()) if len(counts_T) else 0
    ids_TW = ids_TM.gather(-1, order_TM[:, :width])
    inside_TW = torch.arange(width, device=ids_TW.device) < counts_T[:, None]
    wholes = {name: frame.source_p_TV(name) for name in sources} | {n: frame.term_TV(p) for n, p in pools.items()}
    tails = {name: p_TV.scatter(-1, ids_TM, 0.0).sum(-1).log() for name, p_TV in wholes.items()}
    return LikeliestTokens(
        counts_T.cpu().numpy(),
        ids_TW[inside_TW].cpu().numpy(),
        {name: frame.source_TV(name).gather(-1, ids_TW)[inside_TW].cpu().numpy() for name in sources},
        {name: tail_T.cpu().numpy() for name, tail_T in tails.items()},
        {name: of_ids(ids_TW)[inside_TW].cpu().numpy() for name, of_ids in targets.items()},
    )


def _likeliest_of(frame: WholeFrame, source: str, count: int) -> Largest:
    """A source's likeliest tokens, of those that are ranked where these are enough."""
    logp_TV = frame.source_TV(source)
    if count > RANKED:
        return largest(logp_TV, min(count, logp_TV.shape[1]))
    return Largest(*(part[:, :count] for part in frame.ranked(source)))


def joined(parts: list[LikeliestTokens]) -> LikeliestTokens:
    """Blocks of tokens, in order."""
    return LikeliestTokens(
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.ids for part in parts]),
        {name: np.concatenate([part.logprobs[name] for part in parts]) for name in parts[0].logprobs},
        {name: np.concatenate([part.log_tail[name] for part in parts]) for name in parts[0].log_tail},
        {name: np.concatenate([part.targets[name] for part in parts]) for name in parts[0].targets},
    )
