"""How long an epoch of a mixture is, known before a row of it is drawn: a tiny share may make it very long."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from datasets import Dataset

from qtarget.data import Asker
from qtarget.train.row_mixture import RowMixture

LONG = 10
"""Draws for each row that there is, beyond which an epoch is long."""
SPARE = 10_000_000
"""Draws beyond the rows that there are which are made all the same, for they fit in memory."""


class EpochLength(NamedTuple):
    """The draws until the set that takes longest has given all its rows.

    Attributes:
        draws: that are expected; `math.inf` where the set is never drawn from.
        rows: of all sets together.
        slowest: the index of that set.
        size: the rows of that set.
        is_known: whether these are all rows; of streams one each is counted.
    """

    draws: float
    rows: int
    slowest: int
    size: int
    is_known: bool


def check_epoch(mixture: RowMixture, parts: Sequence[Any], name: str, asker: Asker) -> None:
    """Refuse a mixture whose epoch takes more than `LONG` draws for each row and `SPARE` beyond them; warn of one that
    takes more than `LONG` for each.

    Args:
        parts: the sets of the mixture as they are mixed; of a stream, whose rows are not known, one row is counted.
        name: of the data set, for errors.

    Raises:
        ValueError: the epoch is too long; the message has the share to write.
    """
    if mixture.probabilities is None or mixture.stopping == "first_exhausted":
        return
    length = _length(mixture.probabilities, parts)
    if length.draws <= LONG * length.rows:
        return
    if length.draws > length.rows + SPARE:
        raise ValueError(_words(mixture, length, name, asker))
    if length.is_known:
        warnings.warn(_words(mixture, length, name, asker), stacklevel=2)


def _length(probabilities: Sequence[float], parts: Sequence[Any]) -> EpochLength:
    is_finite = all(isinstance(part, Dataset) for part in parts)
    sizes = [len(part) if is_finite else 1 for part in parts]
    draws = [size / each if each else math.inf for size, each in zip(sizes, probabilities, strict=True)]
    slowest = draws.index(max(draws))
    return EpochLength(draws[slowest], sum(sizes), slowest, sizes[slowest], is_finite)


def _words(mixture: RowMixture, length: EpochLength, name: str, asker: Asker) -> str:
    is_command = asker is Asker.COMMAND_LINE
    own, share = mixture.names(name)[length.slowest], mixture.sets[length.slowest].share
    said = f"mixture_stopping: {mixture.stopping}" if is_command else f"stopping={mixture.stopping!r}"
    instead = "mixture_stopping: first_exhausted" if is_command else "RowMixture(…, stopping='first_exhausted')"
    enough = _enough(mixture, length)
    line = f"share: {enough}" if is_command else f"RowSet(…, share={enough})"
    holds = f"its sets hold {length.rows:,} rows" if length.is_known else "a row of the set is as rare as that"
    lasts = "never ends" if math.isinf(length.draws) else f"takes about {length.draws:,.0f} draws"
    return (
        f"An epoch of the {name} data set {lasts}, and {holds}: with `{said}` it ends when every row of "
        f"{own} has come, and that has `share` {share:g}. Write `{line}` or more for it, or `{instead}`, which ends "
        "with the first set that has no row left."
    )


def _enough(mixture: RowMixture, length: EpochLength) -> str:
    """The share at which the slowest set is drawn from often enough: within `LONG` draws for each row."""
    others = sum(each.share or 0.0 for index, each in enumerate(mixture.sets) if index != length.slowest)
    probability = length.size / (LONG * length.rows)
    return f"{1.1 * others * probability / (1 - probability):.2g}"
