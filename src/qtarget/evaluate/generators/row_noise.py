"""The random numbers of single completions, which turn greedy decoding into sampling."""

import torch
from torch import Tensor

NOISE_BLOCK = 4096
"""Random numbers that a completion draws at once; where the vocabulary is larger, those of one token."""


class RowNoise:
    """The random numbers of one completion: log E_v, E_v ~ Exp(1), for each of its tokens.

    argmax_v (z_v − log E_v) is a draw from softmax(z): the Gumbel-max trick (Maddison et al. 2014, arXiv 1411.0030).
    They depend on the seed and the token's number alone.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._generator = torch.Generator(device).manual_seed(seed)
        self._block_KV: Tensor | None = None
        self._blocks = 0

    def at(self, token: int, vocabulary: int) -> Tensor:
        """The numbers of a token, `[V]`. Tokens are asked for in their order; the latest may be asked for again."""
        size = max(1, NOISE_BLOCK // vocabulary)
        if self._block_KV is None:
            self._block_KV = torch.empty(size, vocabulary, device=self._generator.device)
        while self._blocks <= token // size:
            self._block_KV.exponential_(generator=self._generator).log_()
            self._blocks += 1
        return self._block_KV[token % size]
