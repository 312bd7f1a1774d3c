"""What is kept of the distributions at a token: the likeliest tokens of every source, and the mass of the others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qtarget.job.inspection.whole_frame import WholeFrame
from qtarget.target.pool import FLOOR
from qtarget.target.top_k import largest


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
        log_tail: by source, [T] nats: mass of all other tokens; −inf for none.
    """

    counts: np.ndarray
    ids: np.ndarray
    logprobs: Mapping[str, np.ndarray]
    log_tail: Mapping[str, np.ndarray]


def likeliest(frame: WholeFrame, sources: Mapping[str, Tensor], keep: Keeping) -> LikeliestTokens:
    """The union over sources.

    Args:
        sources: log-probabilities by name, [T, V] each, the student's first.
    """
    label_T1 = frame.tokens.labels_T[:, None]
    chosen_TV = torch.zeros_like(frame.logp_TV, dtype=torch.bool).scatter(-1, label_T1, True)
    for logp_TV in sources.values():
        values_TK, ids_TK = largest(logp_TV, min(keep.kept, logp_TV.shape[1]))
        before_TK = values_TK.exp().cumsum(-1) - values_TK.exp()
        wanted_TK = (before_TK < keep.mass) & (values_TK > FLOOR / 2)
        chosen_TV = chosen_TV.scatter(-1, torch.where(wanted_TK, ids_TK, label_T1), True)
    counts_T = chosen_TV.sum(-1)
    width = int(counts_T.max()) if len(counts_T) else 0
    ranking_TV = frame.logp_TV.masked_fill(~chosen_TV, -torch.inf)
    ids_TW = ranking_TV.topk(width, -1).indices
    inside_TW = torch.arange(width, device=ids_TW.device) < counts_T[:, None]
    tails = {name: logp_TV.masked_fill(chosen_TV, -torch.inf).logsumexp(-1) for name, logp_TV in sources.items()}
    return LikeliestTokens(
        counts_T.cpu().numpy(),
        ids_TW[inside_TW].cpu().numpy(),
        {name: logp_TV.gather(-1, ids_TW)[inside_TW].cpu().numpy() for name, logp_TV in sources.items()},
        {name: tail_T.masked_fill(tail_T < FLOOR / 2, -torch.inf).cpu().numpy() for name, tail_T in tails.items()},
    )


def joined(parts: list[LikeliestTokens]) -> LikeliestTokens:
    """Blocks of tokens, in order."""
    return LikeliestTokens(
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.ids for part in parts]),
        {name: np.concatenate([part.logprobs[name] for part in parts]) for name in parts[0].logprobs},
        {name: np.concatenate([part.log_tail[name] for part in parts]) for name in parts[0].log_tail},
    )
