"""Documents of the data that a trainer has prepared, packed ones taken apart again, and which of them are looked at."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal, overload

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm

from qtarget.data import TEACHER_IDS, WEIGHT
from qtarget.target.types import IGNORED

STREAM_ROWS = 4096
"""Rows of a stream that are read to choose from."""
Why = Literal["first", "random", "conflict", "all"]


@dataclass(frozen=True)
class TrainedRow:
    """A document as it is trained on.

    Attributes:
        number: its place in the prepared set, counted from 1, as errors count; of packed rows, counted by document.
        ids: [n] token ids.
        labels: [n], −100 where nothing is learned; never the first token, which follows nothing.
        weight: [n], where the rows weigh their tokens.
        teacher_ids: [n], the ids that the teacher reads in the place of each token; None where it reads these.
        why: what it was chosen as; "all" where every row was.
    """

    number: int
    ids: np.ndarray
    labels: np.ndarray
    weight: np.ndarray | None = None
    teacher_ids: Sequence[Sequence[int]] | None = None
    why: Why = "first"

    @property
    def learned(self) -> np.ndarray:
        """Places of the learned tokens, [T]."""
        return (self.labels != IGNORED).nonzero()[0]


class TrainedRows(Sequence[TrainedRow]):
    """The documents of a prepared set, in its order. Of a stream the first rows are read, and nothing else."""

    def __init__(self, prepared: Any) -> None:
        self._rows: Any = prepared if isinstance(prepared, Dataset) else list(prepared.take(STREAM_ROWS))
        self._places = _places(self._rows)
        self.is_packed = _packed_lengths(self._rows) is not None

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> TrainedRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[TrainedRow]: ...
    def __getitem__(self, index: int | slice) -> TrainedRow | list[TrainedRow]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        at, start, stop = self._places[index]
        row = self._rows[int(at)]
        ids, labels = (np.asarray(row[name], np.int64)[start:stop] for name in ("input_ids", "labels"))
        labels = np.concatenate([[IGNORED], labels[1:]]) if len(labels) else labels
        weight, read = row.get(WEIGHT), row.get(TEACHER_IDS)
        weight = None if weight is None else np.asarray(weight, np.float64)[start:stop]
        return TrainedRow(index + 1, ids, labels, weight, None if read is None else read[start:stop])


def _places(rows: Any) -> list[tuple[int, int, int | None]]:
    """Row, start and stop of each document."""
    lengths = _packed_lengths(rows)
    if lengths is None:
        return [(at, 0, None) for at in range(len(rows))]
    bounds = (np.cumsum([0, *each]).tolist() for each in lengths)
    return [(at, start, stop) for at, each in enumerate(bounds) for start, stop in pairwise(each)]


def _packed_lengths(rows: Any) -> Iterable[Sequence[int]] | None:
    if isinstance(rows, Dataset):
        return rows["seq_lengths"] if "seq_lengths" in rows.column_names else None
    return [row["seq_lengths"] for row in rows] if rows and "seq_lengths" in rows[0] else None


def choose_rows(
    rows: Sequence[TrainedRow], count: int, scan: int, seed: int, conflict: Callable[[TrainedRow], float]
) -> list[TrainedRow]:
    """A quarter of `count` from the front, half drawn at random, and a quarter of most conflict among `scan` more; all
    rows where they are no more than `count`.

    Rows that learn nothing are passed over. Those drawn keep that order, as a run shuffles its rows. The random rows
    are a fair sample of the set; those of other reasons are not, unless it is all.
    A row that was drawn counts as random, wherever it stands. Where fewer are scanned than there are places left, more
    are drawn, so that `count` rows come of a set that has them.

    Args:
        scan: rows drawn to find conflict among; 0 draws none.
        conflict: how much of a row contradicts the student.
    """
    quarter = count // 4
    drawn = np.random.default_rng(seed).permutation(len(rows)).tolist()
    if len(rows) <= count:
        return _learning(rows, drawn, count, "all")
    random, first = _drawn_and_first(rows, drawn, count, scan)
    taken = {row.number - 1 for row in random} | set(range(quarter))
    wanted = count - len(first) - len(random)
    rest = [place for place in drawn if place not in taken] if wanted else []
    scanned = _learning(rows, rest, scan, "conflict")
    conflicts = [conflict(row) for row in tqdm(scanned, desc="looking for conflicts, rows", delay=2)]
    order = sorted(range(len(scanned)), key=conflicts.__getitem__, reverse=True)
    worst = [scanned[place] for place in order][:wanted]
    return [*first, *random, *worst]


def _drawn_and_first(
    rows: Sequence[TrainedRow], drawn: list[int], count: int, scan: int
) -> tuple[list[TrainedRow], list[TrainedRow]]:
    """The random rows, from the beginning of the draw, and those of the front that it left: so many that no more places
    than `scan` are left."""
    quarter = count // 4
    share = count - quarter - min(quarter, scan)
    while True:
        random = _learning(rows, drawn, share, "random")
        taken = {row.number - 1 for row in random}
        first = _learning(rows, (place for place in range(quarter) if place not in taken), quarter, "first")
        left = count - len(first) - len(random)
        if left <= scan or len(random) < share:
            return random, first
        share += left - scan


def _learning(rows: Sequence[TrainedRow], places: Iterable[int], count: int, why: Why) -> list[TrainedRow]:
    """The first `count` of some rows that learn a token."""
    found: list[TrainedRow] = []
    for place in places:
        if len(found) == count:
            break
        row = rows[place]
        if len(row.learned):
            found.append(replace(row, why=why))
    return found
