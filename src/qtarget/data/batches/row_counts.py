"""How many rows and tokens a run trains on, and what became of the others: counted once."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from qtarget.console import amount
from qtarget.data.bad_rows.sift import reasons_text
from qtarget.data.teacher_prompts.teacher_ids import TEACHER_IDS
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
        read: of a stream, how many rows were looked at so far, some of them ahead of training.
        is_uncounted: a stream that other processes read, so what they left out is not known.
        unlearned: rows without any label, left out.
        masked: rows of which `max_length` cuts every label off, left out.
        cut: rows cut at `max_length` of which some labels are left.
        rows: those that are trained on; of a stream the first ones, where they were looked at, as are the tokens.
        sequences: what they were packed into; the rows themselves where they are not packed.
        tokens, learned: of all sequences, and of these with a label to predict.
        longest: tokens of the longest document.
        sets: of a mixture, each of its sets by name; the numbers above are then of an epoch (`rows`, `sequences`,
            `tokens`, `learned`) or sums over the sets.
        share: of a set in a mixture, its part of the rows, and how often they come in an epoch.
    """

    form: str
    given: int | None
    dropped: Mapping[str, int] = field(default_factory=dict)
    read: int = 0
    is_uncounted: bool = False
    unlearned: int = 0
    masked: int = 0
    cut: int = 0
    rows: int | None = None
    sequences: int | None = None
    tokens: int = 0
    learned: int = 0
    longest: int = 0
    sets: Mapping[str, "RowCounts"] = field(default_factory=dict)
    share: str = ""

    def by_now(self) -> "RowCounts":
        """The same, with the rows of streams that were read, and left out, until now."""
        if not self.sets:
            return replace(self, dropped=dict(self.dropped), read=getattr(self.dropped, "read", self.read))
        return replace(self, **_sums({name: counts.by_now() for name, counts in self.sets.items()}))

    @staticmethod
    def of_sets(sets: Mapping[str, "RowCounts"]) -> "RowCounts":
        """What a mixture was made of: the sums over its sets."""
        return RowCounts("", **_sums(sets))

    def sentence(self) -> str:
        """All of it in words, without the form: "80 rows, 40 of them trained on: …"."""
        if self.given is None:
            return self.by_now()._of_a_stream()
        packed = "" if self.sequences == self.rows else f" packed into {self.sequences:,}"
        if self.sets:
            sets = amount(len(self.sets), "set")
            rows = f"{sets} with {amount(self.given, 'row')}; {amount(self.rows or 0, 'row')} in an epoch{packed}"
        else:
            trained = "" if self.rows == self.given else f", {self.rows:,} of them trained on"
            rows = f"{amount(self.given, 'row')}{trained}{packed}"
        share = f"; {self.share}" if self.share else ""
        return f"{rows}; {amount(self.tokens, 'token')}, {self.learned:,} of them learned{self._lost()}{share}"

    def sentences_of_sets(self, sampled: bool = False) -> tuple[str, ...]:
        """Of a mixture, a sentence on each of its sets; of a sample without what an epoch of it has."""
        said = []
        for name, counts in self.sets.items():
            part = replace(counts, share=counts.share.partition(":")[0]) if sampled else counts
            said.append(f"{name}: {f'{counts.form}; ' if counts.form else ''}{part.sentence()}")
        return tuple(said)

    def _lost(self) -> str:
        lost = [
            (sum(self.dropped.values()), f"left out ({reasons_text(self.dropped)})"),
            (self.unlearned, "left out, for they have no label"),
            (self.masked, "left out, for max_length cuts off every label"),
            (self.cut, "cut at max_length"),
        ]
        return "".join(f"; {count:,} {what}" for count, what in lost if count)

    def _of_a_stream(self) -> str:
        said = f"a mixture of {amount(len(self.sets), 'stream')}" if self.sets else "a stream"
        if self.rows is not None:
            first = "row has" if self.rows == 1 else f"{self.rows:,} rows have"
            said += f"; its first {first} {amount(self.tokens, 'token')}, {self.learned:,} of them learned"
        if self.is_uncounted:
            said += "; rows that are left out are not counted, for other processes read it (`dataloader_num_workers`)"
        elif self.dropped:
            count = sum(self.dropped.values())
            bad = f"{count:,} {'was' if count == 1 else 'were'} left out ({reasons_text(self.dropped)})"
            said += f"; of the {amount(self.read, 'row')} read so far {bad}" if self.read else f"; so far {bad}"
        return said + (f"; {self.share}" if self.share else "")


def _sums(sets: Mapping[str, RowCounts]) -> dict[str, Any]:
    every = list(sets.values())
    given = [counts.given for counts in every if counts.given is not None]
    is_stream = len(given) < len(every)
    return {
        "given": None if is_stream else sum(given),
        "read": sum(counts.read for counts in every) + (sum(given) if is_stream else 0),  # finite sets are read whole
        "dropped": dict(sum((Counter(counts.dropped) for counts in every), Counter[str]())),
        **{name: sum(getattr(counts, name) for counts in every) for name in ("unlearned", "masked", "cut")},
        "is_uncounted": any(counts.is_uncounted for counts in every),
        "sets": dict(sets),
    }


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


def longest_read(rows: Dataset) -> int:
    """Tokens of the longest document of a prepared set as its teacher reads it."""
    longest, packed = 0, ["seq_lengths"] * ("seq_lengths" in rows.column_names)
    for table in _tables(rows, [TEACHER_IDS, *packed]):
        column = table.column(TEACHER_IDS)
        ends, tokens = _starts(column), _starts(pc.list_flatten(column))  # pyright: ignore[reportAttributeAccessIssue]
        if packed:
            documents = pc.list_flatten(table.column("seq_lengths")).to_numpy()  # pyright: ignore[reportAttributeAccessIssue]
            ends = np.concatenate([[0], np.cumsum(documents)])
        longest = max(longest, int(np.diff(tokens[ends]).max(initial=0)))
    return longest


def gives_another_prompt(rows: Dataset) -> bool:
    """Whether the teacher reads anything else than the student in a row of a prepared set."""
    return any(_reads_otherwise(table) for table in _tables(rows, ["input_ids", TEACHER_IDS]))


def _reads_otherwise(table: pa.Table) -> bool:
    table = table.filter(pc.field(TEACHER_IDS).is_valid())
    own, read = (pc.list_flatten(table.column(name)) for name in ("input_ids", TEACHER_IDS))  # pyright: ignore[reportAttributeAccessIssue]
    tokens = pc.list_flatten(read)  # pyright: ignore[reportAttributeAccessIssue]
    each_is_one = (np.diff(_starts(read)) == 1).all()
    return not (each_is_one and np.array_equal(tokens.to_numpy(), own.to_numpy()))


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
