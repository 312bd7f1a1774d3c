"""Rows of like length side by side, in an order that a run which goes on can find again."""

from collections.abc import Iterator

import torch
from transformers.trainer_pt_utils import LengthGroupedSampler

_EPOCH_STRIDE = 1_000_003
"""Keeps the orders of one seed's epochs apart from those of the next seed's."""


class EpochLengthGroups(LengthGroupedSampler):
    """As transformers' sampler, whose order of every later epoch hangs on all random numbers drawn before it, and is
    another one on each rank where dropout draws differently: here it hangs on seed and epoch alone.

    Attributes:
        epoch: the one to order rows for, from 0.
    """

    def __init__(self, sampler: LengthGroupedSampler, seed: int) -> None:
        self._order = torch.Generator()
        super().__init__(sampler.batch_size, lengths=sampler.lengths, generator=self._order)
        self.seed = seed
        self.epoch = 0

    def __iter__(self) -> Iterator[int]:
        self._order.manual_seed(self.seed + _EPOCH_STRIDE * self.epoch)
        return super().__iter__()
