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
        targets: by method that the page does not move, [N]: Q.
    """

    counts: np.ndarray
    ids: np.ndarray
    logprobs: Mapping[str, np.ndarray]
    log_tail: Mapping[str, np.ndarray]
    targets: Mapping[str, np.ndarray]


def likeliest(
    frame: WholeFrame, sources: Mapping[str, Tensor], keep: Keeping, targets: Mapping[str, Tensor]
) -> LikeliestTokens:
    """The union over sources.

    Args:
        sources: log-probabilities by name, [T, V] each, the student's first.
        targets: by method, [T, V].
    """
    label_T1 = frame.tokens.labels_T[:, None]
    named = [label_T1]
    for logp_TV in sources.values():
        values_TK, ids_TK = largest(logp_TV, min(keep.kept, logp_TV.shape[1]))
        before_TK = values_TK.exp().cumsum(-1) - values_TK.exp()
        named.append(torch.where((before_TK < keep.mass) & (values_TK > FLOOR / 2), ids_TK, label_T1))
    ids_TM = torch.cat(named, -1).sort(-1).values
    is_new_TM = torch.cat([torch.ones_like(label_T1, dtype=torch.bool), ids_TM[:, 1:] != ids_TM[:, :-1]], -1)
    counts_T = is_new_TM.sum(-1)
    order_TM = frame.logp_TV.gather(-1, ids_TM).masked_fill(~is_new_TM, -torch.inf).argsort(-1, descending=True)
    width = int(counts_T.max()) if len(counts_T) else 0
    ids_TW = ids_TM.gather(-1, order_TM[:, :width])
    inside_TW = torch.arange(width, device=ids_TW.device) < counts_T[:, None]
    tails = {name: logp_TV.scatter(-1, ids_TM, -torch.inf).logsumexp(-1) for name, logp_TV in sources.items()}
    return LikeliestTokens(
        counts_T.cpu().numpy(),
        ids_TW[inside_TW].cpu().numpy(),
        {name: logp_TV.gather(-1, ids_TW)[inside_TW].cpu().numpy() for name, logp_TV in sources.items()},
        {name: tail_T.masked_fill(tail_T < FLOOR / 2, -torch.inf).cpu().numpy() for name, tail_T in tails.items()},
        {name: q_TV.gather(-1, ids_TW)[inside_TW].cpu().numpy() for name, q_TV in targets.items()},
    )


def joined(parts: list[LikeliestTokens]) -> LikeliestTokens:
    """Blocks of tokens, in order."""
    return LikeliestTokens(
        np.concatenate([part.counts for part in parts]),
        np.concatenate([part.ids for part in parts]),
        {name: np.concatenate([part.logprobs[name] for part in parts]) for name in parts[0].logprobs},
        {name: np.concatenate([part.log_tail[name] for part in parts]) for name in parts[0].log_tail},
        {name: np.concatenate([part.targets[name] for part in parts]) for name in parts[0].targets},
    )
