"""How many rows and tokens a run trains on, and what became of the others: counted once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from qtarget.data.bad_rows.sift import reasons_text
from qtarget.target.types import IGNORED

COUNTED_AT_ONCE = 10_000
"""Rows whose tokens are in memory together while they are counted."""


@dataclass(frozen=True)
class RowCounts:
    """A data set as it is trained on.

    Attributes:
        form: what its rows were, and what they are read as; "" where a function of the user made them.
        given: rows of the data set; None for a stream.
        dropped: bad rows that were left out, by reason; of a stream, so far.
        unlearned: rows without any label, left out.
        masked: rows of which `max_length` cuts every label off, left out.
        cut: rows cut at `max_length` of which some labels are left.
        rows: those that are trained on; of a stream the first ones, where they were looked at, as are the tokens.
        sequences: what they were packed into; the rows themselves where they are not packed.
        tokens, learned: of all sequences, and of these with a label to predict.
        longest: tokens of the longest document.
    """

    form: str
    given: int | None
    dropped: Mapping[str, int] = field(default_factory=dict)
    unlearned: int = 0
    masked: int = 0
    cut: int = 0
    rows: int | None = None
    sequences: int | None = None
    tokens: int = 0
    learned: int = 0
    longest: int = 0

    def by_now(self) -> "RowCounts":
        """The same, with the rows of a stream that were left out until now."""
        return replace(self, dropped=dict(self.dropped))

    def sentence(self) -> str:
        """All of it in words, without the form: "80 rows, 40 of them trained on: …"."""
        if self.given is None:
            return self._of_a_stream()
        lost = [
            (sum(self.dropped.values()), f"left out ({reasons_text(self.dropped)})"),
            (self.unlearned, "left out, for they have no label"),
            (self.masked, "left out, for max_length cuts off every label"),
            (self.cut, "cut at max_length"),
        ]
        said = "".join(f"; {count:,} {what}" for count, what in lost if count)
        trained = "" if self.rows == self.given else f", {self.rows:,} of them trained on"
        packed = "" if self.sequences == self.rows else f" packed into {self.sequences:,}"
        return f"{self.given:,} rows{trained}{packed}; {self.tokens:,} tokens, {self.learned:,} of them learned{said}"

    def _of_a_stream(self) -> str:
        looked = left_out = ""
        if self.rows is not None:
            looked = f"; its first {self.rows:,} rows have {self.tokens:,} tokens, {self.learned:,} of them learned"
        if self.dropped:
            left_out = f"; left out so far: {reasons_text(self.dropped)}"
        return f"a stream{looked}{left_out}"


class RowLabels(NamedTuple):
    """For each row of a tokenised set: its length in tokens, whether it has a label, and whether one is left of it once
    it is cut."""

    lengths: np.ndarray
    has_label: np.ndarray
    keeps_label: np.ndarray


def row_labels(rows: Dataset, max_length: int | None, mode: str) -> RowLabels:
    """Look at the labels of a tokenised set, whole.

    Args:
        max_length: tokens that rows are cut to; None where they are not.  mode: "keep_start" or "keep_end".
    """
    parts = [_labels_of(table, max_length, mode) for table in _tables(rows, ["labels"])]
    return RowLabels(*(np.concatenate(each) for each in zip(*parts, strict=True)))


def learned_tokens(rows: Dataset) -> tuple[int, int, int]:
    """Tokens of a prepared set, those of them that are learned, and those of its longest document. A document's first
    token has nothing before it to be predicted from."""
    tokens = learned = longest = 0
    packed = ["seq_lengths"] * ("seq_lengths" in rows.column_names)
    for table in _tables(rows, ["labels", *packed]):
        starts, supervised = _starts(table.column("labels")), _supervised(table)
        if packed:
            documents = pc.list_flatten(table.column("seq_lengths")).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
            starts = np.concatenate([[0], np.cumsum(documents)])
        tokens, longest = tokens + int(starts[-1]), max(longest, int(np.diff(starts).max(initial=0)))
        firsts = starts[:-1][np.diff(starts) > 0]
        learned += int(supervised.sum() - supervised[firsts].sum())
    return tokens, learned, longest


def _tables(rows: Dataset, columns: list[str]) -> Iterator[pa.Table]:
    yield from rows.select_columns(columns).with_format("arrow").iter(COUNTED_AT_ONCE)  # pyright: ignore[reportReturnType]


def _labels_of(table: pa.Table, max_length: int | None, mode: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    starts = _starts(table.column("labels"))
    before = np.concatenate([[0], np.cumsum(_supervised(table))])
    begins, ends = starts[:-1], starts[1:]
    has_label = before[ends] > before[begins]
    if max_length is None:
        return ends - begins, has_label, has_label
    if mode == "keep_end":
        begins = np.maximum(begins, ends - max_length)
    else:
        ends = np.minimum(ends, begins + max_length)
    return np.diff(starts), has_label, before[ends] > before[begins]


def _starts(lists: Any) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())])  # pyright: ignore[reportAttributeAccessIssue]


def _supervised(table: pa.Table) -> np.ndarray:
    return pc.list_flatten(table.column("labels")).to_numpy() != IGNORED  # pyright: ignore[reportAttributeAccessIssue]
