"""Sampling from the likeliest tokens of some mass without sorting the vocabulary."""

from typing import cast

import torch
from transformers import LogitsProcessor, TopPLogitsWarper

from qtarget.target.top_k import largest

LOOKED_AT = 1024
"""So many of the likeliest tokens are looked at first: nearly always the nucleus ends among them."""


class Nucleus(LogitsProcessor):
    """Sets the logits of all tokens but the likeliest ones of mass `top_p` to −inf (Holtzman et al. 2020).

    A token is kept while those likelier than it hold less than `top_p`. That is what transformers' `TopPLogitsWarper`
    keeps too; it sorts the whole vocabulary for it, which took 40 % of drawing where there are 150,000 tokens and one
    processor thread. Where the likeliest tokens do not hold the mass, it is asked.
    """

    def __init__(self, top_p: float) -> None:
        self.top_p, self.by_sorting = top_p, TopPLogitsWarper(top_p)

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        top = largest(scores, min(LOOKED_AT, scores.shape[-1]))
        p_NK = (top.values_CK.float() - scores.float().logsumexp(-1, keepdim=True)).exp()
        is_kept_NK = p_NK.cumsum(-1) - p_NK < self.top_p
        if bool(is_kept_NK[:, -1].any()) and is_kept_NK.shape[-1] < scores.shape[-1]:
            return cast(torch.FloatTensor, self.by_sorting(input_ids, scores))
        values_NK = top.values_CK.masked_fill(~is_kept_NK, -torch.inf)
        return cast(torch.FloatTensor, torch.full_like(scores, -torch.inf).scatter_(-1, top.ids_CK, values_NK))
