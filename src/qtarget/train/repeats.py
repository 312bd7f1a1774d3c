"""Masks the rows that fill up the last evaluation batch, so that every row counts once on any number of ranks."""

from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor


def without_repeats(batch: dict[str, Any], accelerator: Accelerator, readers: int = 1) -> dict[str, Any]:
    """The batch with the labels of repeated rows masked.

    Accelerate fills the last batch up with rows seen before, so that all ranks have as many. Counted twice,
    they would make a mean over the set depend on the number of ranks.

    Args:
        readers: how many ranks, one after the other, read the same batch, as under tensor parallelism.
    """
    state = accelerator.gradient_state
    if accelerator.num_processes == readers or not state.end_of_dataloader or state.remainder <= 0:
        return batch
    labels, rows = batch["labels"], batch_rows(batch)
    in_batch = int(rows.max()) + 1
    repeated = accelerator.process_index // readers * in_batch + rows >= state.remainder
    return {**batch, "labels": labels.masked_fill(repeated, -100)}


def batch_rows(batch: dict[str, Any]) -> Tensor:
    """The row of the batch that each token came from: `[B, 1]`, or `[1, total]` in a padding-free batch."""
    if "row_ids" in batch:
        return batch["row_ids"]
    return torch.arange(len(batch["labels"]), device=batch["labels"].device)[:, None]
