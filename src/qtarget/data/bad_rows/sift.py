"""Rows looked at one by one before they are trained on: bad ones are refused, or left out and counted."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc
from datasets import Dataset, Features, IterableDataset, Value

from qtarget.console import spelled_out
from qtarget.data.asker import Asker
from qtarget.data.bad_rows.faults import RowFault
from qtarget.data.bad_rows.row_places import RowPlaces
from qtarget.outcomes import UnusableRow

ReadRow = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Turns a row into columns, or raises a `RowFault`."""
PLAIN_TURN = {"role", "content"}


@dataclass(frozen=True)
class Sifting:
    """What looking at every row found.

    Attributes:
        good: the indices of good rows; None where all are.
        dropped: how many were left out, by reason.
        changes: whether reading turns any row into something else.
        is_rich: whether any message has more than a role and content.
    """

    good: np.ndarray | None
    dropped: Counter[str]
    changes: bool
    is_rich: bool


@dataclass(frozen=True)
class RowPolicy:
    """What becomes of bad rows.

    Attributes:
        name: of the data set, for errors.
        bad_rows: "refuse" stops at them, "skip" leaves them out.
        asker: in whose language errors say what to write.
        num_proc: processes that look at rows; None for this one.
        places: where the rows stand in files, for errors; None where the row's number says it, or it is not known.
        shares_columns: whether the key `columns` is for every set of a mixture, this one among them.
    """

    name: str
    bad_rows: Literal["refuse", "skip"] = "refuse"
    asker: Asker = Asker.PYTHON
    num_proc: int | None = None
    places: RowPlaces | None = None
    shares_columns: bool = False

    def error(self, row: int, fault: RowFault, counts: Mapping[str, int]) -> UnusableRow:
        """The refusal of a row, given its index, with how many others are bad."""
        more = sum(counts.values()) - 1
        others = f" {sum(counts.values())} rows are bad: {reasons_text(counts)}." if more > 0 else ""
        remedy = f" {fault.remedy}" if fault.remedy else ""
        place = "" if self.places is None else f"; {self.places.place(row)}"
        return UnusableRow(
            f"Row {row + 1} of the {self.name} data set (counted from 1{place}): `{spelled_out(fault.field)}` "
            f"{fault.found}."
            f"{remedy}{others} Mend such rows, or leave them out: write {self.asker.line('bad_rows', 'skip')}."
        )


class StreamCounts(Counter[str]):
    """How many rows of a stream were left out, by reason: each once, however often the stream is begun anew.

    Attributes:
        read: how many of its rows were looked at.
    """

    read = 0


class CountedOnce:
    """Counts the rows of a stream, which is read in order and may begin anew: no row is counted twice."""

    def __init__(self, counts: Counter[str]) -> None:
        self.counts, self._next = counts, 0

    def __deepcopy__(self, memo: dict[int, Any]) -> "CountedOnce":
        """The same: `datasets` copies the streams that it mixes, and a copy's rows are the stream's."""
        return self

    def look(self, index: int, reason: str | None) -> None:
        """The row at `index` was looked at, and is left out for `reason`, or taken (None)."""
        if reason is not None and index >= self._next:
            self.counts[reason] += 1
            self._next = index + 1
        if isinstance(self.counts, StreamCounts):  # later looks have smaller indices, as rows were left out before
            self.counts.read = max(self.counts.read, index + 1)


def reasons_text(counts: Mapping[str, int]) -> str:
    """Counts by reason in words: "3 empty text, 1 null"."""
    ordered = sorted(counts.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{count:,} {spelled_out(reason)}" for reason, count in ordered)


def sift(rows: Dataset, look: Callable[..., dict[str, list[Any]]], policy: RowPolicy) -> Sifting:
    """Look at every row, in `policy.num_proc` processes.

    Args:
        rows: with the columns that are looked at.
        look: says of a batch, for each row, its "fault" as text (or None), whether reading it "changes" it, and whether
            it is "rich"; as `RowLook` does.

    Raises:
        UnusableRow: naming the first bad row where `policy` refuses them; or no row is good.
    """
    looked = rows.map(
        look,
        batched=True,
        remove_columns=rows.column_names,
        features=Features({"fault": Value("string"), "changes": Value("bool"), "rich": Value("bool")}),
        num_proc=policy.num_proc,
        desc=f"Checking {policy.name} dataset",
    )
    faults, changes, rich = (looked.data.column(name).combine_chunks() for name in ("fault", "changes", "rich"))
    good, counts = good_rows(faults, policy)
    return Sifting(good, counts, changes.true_count > 0, rich.true_count > 0)


def good_rows(faults: Any, policy: RowPolicy) -> tuple[np.ndarray | None, Counter[str]]:
    """The indices of rows without a fault (None where all are), and how many are left out, by reason.

    Args:
        faults: of each row, as text or null, in an array of arrow's.

    Raises:
        UnusableRow: naming the first bad row where `policy` refuses them; or no row is good.
    """
    bad = np.flatnonzero(pc.is_valid(faults).to_numpy(zero_copy_only=False))  # pyright: ignore[reportAttributeAccessIssue]
    found = [RowFault.of_text(faults[int(index)].as_py()) for index in bad]
    counts = Counter(fault.reason for fault in found)
    if found and policy.bad_rows == "refuse":
        raise policy.error(int(bad[0]), found[0], counts)
    if len(bad) == len(faults):
        raise all_bad(policy, counts)
    return np.setdiff1d(np.arange(len(faults)), bad, assume_unique=True) if found else None, counts


def sift_stream(
    rows: IterableDataset,
    read: ReadRow,
    policy: RowPolicy,
    columns: list[str],
    dropped: Counter[str],
    consumed: Iterable[str] = (),
) -> IterableDataset:
    """A stream of the rows that `read` takes, as it turned them.

    Args:
        columns: of the rows.  dropped: counts the rows that are left out, by reason, as they come.
        consumed: the columns that the stream loses.
    """
    look = _StreamLook(read, policy, frozenset(consumed), CountedOnce(dropped))
    return rows.map(look, batched=True, batch_size=1, with_indices=True, remove_columns=columns)


def all_bad(policy: RowPolicy, counts: Mapping[str, int]) -> UnusableRow:
    """The refusal of a data set of which no row is left."""
    return UnusableRow(
        f"The {policy.name} data set has no row left: {reasons_text(counts)}. Look at the columns that are read; "
        f"{policy.asker.line('bad_rows', 'refuse')} names the first row."
    )


@dataclass(frozen=True)
class RowLook:
    """Reads a batch, and says of each row what is wrong, whether reading changes it, and whether its messages are rich.

    Attributes:
        source: of a column that `read` gives, the column of the rows that it is where nothing changes.
    """

    read: ReadRow
    source: Callable[[str], str] = str

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        looks = [self._look(dict(zip(batch, values, strict=True))) for values in zip(*batch.values(), strict=True)]
        return {name: [look[i] for look in looks] for i, name in enumerate(("fault", "changes", "rich"))}

    def _look(self, row: Mapping[str, Any]) -> tuple[str | None, bool, bool]:
        try:
            read = self.read(row)
        except RowFault as fault:
            return fault.as_text(), False, False
        changes = any(row.get(self.source(name), row) != value for name, value in read.items())
        return None, changes, any(map(_is_rich, read.values()))


def _is_rich(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(turn, Mapping) and turn.keys() > PLAIN_TURN for turn in value)


@dataclass(frozen=True)
class _StreamLook:
    """Reads rows one at a time as they come."""

    read: ReadRow
    policy: RowPolicy
    consumed: frozenset[str]
    once: CountedOnce

    def __call__(self, batch: Mapping[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        row = {name: values[0] for name, values in batch.items()}
        kept = {name: value for name, value in row.items() if name not in self.consumed}
        try:
            taken = {name: [value] for name, value in {**kept, **self.read(row)}.items()}
            self.once.look(indices[0], None)
            return taken
        except RowFault as fault:
            if self.policy.bad_rows == "refuse":
                raise self.policy.error(indices[0], fault, {fault.reason: 1}) from fault
            self.once.look(indices[0], fault.reason)
            return {name: [] for name in batch}
