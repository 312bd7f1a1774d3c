"""Rows and tokens of a run's batches, from the lengths of its rows as they are trained on."""

from typing import Any, NamedTuple

import numpy as np

from qtarget.job.config.checked_job import Job

ORDERS = 16
"""Random orders of the rows over which widths of batches are averaged."""


class BatchShape(NamedTuple):
    """What a device works on at once.

    Attributes:
        rows, width: of the largest batch of a run, in tokens.
        tokens: of a batch on average, padding included; an epoch's batches pad to their own longest row.
        is_padded: whether batches have padding, or rows follow one another in one line.
    """

    rows: int
    width: int
    tokens: float
    is_padded: bool


def batch_shape(rows: Any, job: Job) -> BatchShape:
    """The batches of a run.

    Args:
        rows: prepared ones, with `input_ids`.
    """
    args = job.args
    lengths = np.array([len(ids) for ids in rows.with_format("numpy")["input_ids"]])
    count = min(args.per_device_train_batch_size, len(lengths))
    is_flat = bool(args.padding_free or (args.packing and args.packing_strategy == "bfd"))
    longest = _multiple(int(lengths.max()), args.pad_to_multiple_of)
    if is_flat:
        return BatchShape(1, count * longest, count * float(lengths.mean()), False)
    rng, whole = np.random.default_rng(0), len(lengths) // count * count
    orders = [rng.permutation(lengths)[:whole].reshape(-1, count).max(1) for _ in range(ORDERS)]
    widths = np.concatenate(orders)
    return BatchShape(count, longest, count * _multiple(float(widths.mean()), args.pad_to_multiple_of), True)


def _multiple(length: Any, of: Any) -> Any:
    return length if not of else int(np.ceil(length / int(of))) * int(of)
