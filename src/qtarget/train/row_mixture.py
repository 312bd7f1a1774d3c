"""Several sets of rows as one training or evaluation set: one after the other, or mixed by shares.

Each set keeps its own form, and goes through the same door as a set alone; what is mixed are the token ids and labels
that come out. So a completion is learned of a prompt-completion row, the assistant's turns of a conversation, and all
of a text, whatever stands beside it.
"""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from datasets import Dataset, Features, IterableDataset, List, Value, concatenate_datasets, interleave_datasets

from qtarget.data import TEACHER_IDS, WEIGHT, as_the_student, column_names

MixtureStopping = Literal["first_exhausted", "all_exhausted", "all_exhausted_without_replacement"]
"""When an epoch of a mixture ends, as `datasets.interleave_datasets` names it."""
MIXED = {
    "input_ids": List(Value("int64")),
    "labels": List(Value("int64")),
    WEIGHT: List(Value("float64")),
    TEACHER_IDS: List(List(Value("int64"))),
}
"""The columns that rows of a mixture have: of every set the same."""


@dataclass(frozen=True)
class RowSet:
    """One set of a mixture.

    Attributes:
        rows: a `Dataset` or an `IterableDataset` of any form.
        name: what errors and counts call it, such as its file; "" for its number.
        share: its part of the rows, relative to the shares of the others; None where sets come one after the other.
        columns: its columns, in the place of `TargetSFTConfig.columns`.
    """

    rows: Any
    name: str = ""
    share: float | None = None
    columns: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class RowMixture:
    """Sets of rows of any forms, given to `TargetSFTTrainer` as `train_dataset` or `eval_dataset`.

        RowMixture((RowSet(chats, "chats", 0.7), RowSet(texts, "texts", 0.3)))

    With shares, each next row is drawn from a set by its share, and within a set rows keep their order
    (`datasets.interleave_datasets`). Shares are of rows that are trained on: bad ones are left out before. Where one
    set streams, all do.

    Attributes:
        stopping: when an epoch ends.
        seed: of the draw: the same seed draws the same order, on every rank and on resume.
        select: takes some of the mixed rows, as `lambda rows: rows.take(100)`.

    Raises:
        ValueError: no set, something that is no set of rows, or a share that is no number above 0 or is missing.
    """

    sets: Sequence[RowSet]
    stopping: MixtureStopping = "first_exhausted"
    seed: int = 42
    select: Callable[[Any], Any] = field(default=lambda rows: rows)

    def __post_init__(self) -> None:
        if not isinstance(self.sets, list | tuple):
            raise ValueError(
                f"RowMixture is given a {type(self.sets).__name__}, and expects a list of sets; write "
                "RowMixture([RowSet(rows, share=0.7), …])."
            )
        if not self.sets:
            raise ValueError("RowMixture has no set; write RowMixture((RowSet(rows, share=0.7), …)).")
        for number, each in enumerate(self.sets, 1):
            _check_set(each, number)
        shares = [each.share for each in self.sets]
        if None in shares and any(share is not None for share in shares):
            number = shares.index(None) + 1
            raise ValueError(
                f"Set {number} of the RowMixture has no `share`, and others have; write `share=0.5` for each."
            )
        if self.stopping not in get_args(MixtureStopping):
            raise ValueError(
                f"RowMixture has stopping={self.stopping!r}; expected one of {', '.join(get_args(MixtureStopping))}."
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(
                f"RowMixture has seed={self.seed!r}; expected a whole number of 0 or more, as RowMixture(…, seed=42)."
            )
        if not callable(self.select):
            raise ValueError(
                f"RowMixture has select={self.select!r}; expected a function of the rows, as RowMixture(…, "
                "select=lambda rows: rows.take(100))."
            )

    @property
    def probabilities(self) -> list[float] | None:
        """Of each set to give the next row; None where sets come one after the other."""
        if self.sets[0].share is None:
            return None
        given = [each.share or 0.0 for each in self.sets]
        shares = [share / max(given) for share in given]  # a sum of large ones could be infinite
        return [share / sum(shares) for share in shares]

    def names(self, data_set: str) -> list[str]:
        """What each set is called, for errors: "b.csv (set 2 of train)"."""
        return [f"{each.name or 'rows'} (set {number} of {data_set})" for number, each in enumerate(self.sets, 1)]

    def joined(self, parts: Sequence[Any]) -> Any:
        """Prepared sets as one, in the order in which they are trained on before any shuffling."""
        return self.select(self._mixed(_alike(parts)))

    def shares(self, parts: Sequence[Any]) -> list[str]:
        """Of each set its share of the rows and, where all are finite, how often its rows come in one epoch."""
        if self.probabilities is None:
            return [""] * len(parts)
        said = [f"{probability:.3g} of the rows" for probability in self.probabilities]
        if not all(isinstance(part, Dataset) for part in parts):
            return said
        sizes = [len(part) for part in parts]
        numbers = [Dataset.from_dict({"set": [i] * size, "row": range(size)}) for i, size in enumerate(sizes)]
        times = [Counter[int]() for _ in parts]
        for batch in self.select(self._mixed(numbers)).iter(10_000):
            for index, row in zip(batch["set"], batch["row"], strict=True):
                times[index][row] += 1
        return [f"{share}: {_seen(size, count)}" for share, size, count in zip(said, sizes, times, strict=True)]

    def _mixed(self, parts: Sequence[Any]) -> Any:
        if self.probabilities is None:
            return concatenate_datasets(list(parts))
        return interleave_datasets(
            list(parts), probabilities=self.probabilities, seed=self.seed, stopping_strategy=self.stopping
        )


def sets_of(rows: Any) -> list[Any]:
    """The data sets that something given as `train_dataset` is made of."""
    return [each.rows for each in rows.sets] if isinstance(rows, RowMixture) else [] if rows is None else [rows]


def _check_set(one: RowSet, number: int) -> None:
    if not isinstance(one, RowSet) or not isinstance(one.rows, Dataset | IterableDataset):
        kind = type(one.rows if isinstance(one, RowSet) else one).__name__
        raise ValueError(f"Set {number} of the RowMixture is a {kind}; write RowSet(rows) with a `datasets.Dataset`.")
    if one.columns is not None and not isinstance(one.columns, Mapping):
        raise ValueError(
            f"Set {number} of the RowMixture has columns={one.columns!r}; expected parts of a row and their columns, "
            "as RowSet(rows, columns={'prompt': 'question', 'completion': 'answer'})."
        )
    share = one.share
    if share is None:
        return
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share <= sys.float_info.max:
        raise ValueError(
            f"Set {number} of the RowMixture has share={share!r}; expected a number above 0 (remove a set that gives "
            "no rows)."
        )


def _alike(parts: Sequence[Any]) -> list[Any]:
    """The sets with the same columns: weights of 1 where only others weigh their tokens, the student's prompt for the
    teacher where only others give it one, and streams where one is."""
    streams = any(isinstance(part, IterableDataset) for part in parts)
    parts = [part.to_iterable_dataset() if streams and isinstance(part, Dataset) else part for part in parts]
    names = [column_names(part) for part in parts]
    columns = [name for name in MIXED if any(name in each for each in names)]
    return [_with_columns(part, each, columns) for part, each in zip(parts, names, strict=True)]


def _with_columns(part: Any, names: Sequence[str], columns: Sequence[str]) -> Any:
    if WEIGHT in columns and WEIGHT not in names:
        part = part.map(_weights_of_one, batched=True)
    if TEACHER_IDS in columns and TEACHER_IDS not in names:
        part = part.map(_same_prompt, batched=True)
    features = Features({name: MIXED[name] for name in columns})
    part = part.select_columns(list(columns))
    return part if part.features == features else part.cast(features)


def _weights_of_one(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {WEIGHT: [[1.0] * len(ids) for ids in batch["input_ids"]]}


def _same_prompt(batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    return {TEACHER_IDS: [as_the_student(ids) for ids in batch["input_ids"]]}


def _seen(rows: int, times: Counter[int]) -> str:
    most, least = max(times.values(), default=0), min(times.values(), default=0)
    part = f"{len(times):,} of its {rows:,} rows" if len(times) < rows else f"all {rows:,} rows"
    if most <= 1:
        return f"{part} in an epoch, each once"
    often = f"{most} times" if most == least else f"{least} to {most} times"
    return f"{part} in an epoch, each {often}"
