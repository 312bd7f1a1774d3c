"""The data sets of a trainer, prepared and then checked: of a mixture each set for itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from qtarget.data import Asker, RowCounts
from qtarget.train.end_of_turn import EndCheck, takes_end_token
from qtarget.train.prepare_rows import PreparedRows, RowPreparation, prepared_rows
from qtarget.train.row_door import RowDoor

CheckSet = Callable[[Any, str, str, RowCounts | None], Any]
"""Checks prepared rows, which it returns, given the argument they came by, the name of their set and its counts."""


class PreparedSets:
    """The data sets that a trainer has prepared.

    Args:
        door: that rows come through before they are prepared.
        check: of one set; of a stream it checks each row when it comes.

    Attributes:
        row_counts: of each data set by its name.
    """

    def __init__(self, door: RowDoor, check: CheckSet) -> None:
        self.door, self.check = door, check
        self.row_counts: dict[str, RowCounts] = {}
        self._mixtures: list[PreparedRows] = []

    def prepare(self, dataset: Any, how: RowPreparation) -> Any:
        """A data set's rows, ready to train on."""
        prepared = prepared_rows(dataset, how)
        self._mixtures += [prepared] if prepared.sets else []
        if prepared.counts is not None:
            self.row_counts.setdefault(how.request.name, prepared.counts)
        return prepared.rows

    def all_checked(self, given: Any, key: str, name: str) -> Any:
        """A prepared data set, several by name, or None, after the check of each.

        Args:
            key: the argument that they came by.  name: of the data set, where it is one alone.
        """
        if isinstance(given, dict):
            return {part: self.checked(each, f"{key}[{part!r}]", part) for part, each in given.items()}
        return None if given is None else self.checked(given, key, name)

    def checked(self, rows: Any, key: str, name: str) -> Any:
        """Prepared rows after the check; of a mixture each set is checked for itself."""
        mixture = self._mixture_behind(rows)
        if mixture is None:
            return self.check(rows, key, name, self.row_counts.get(name))
        counts = {} if mixture.counts is None else mixture.counts.sets
        sets = {own: self.check(each, own, own, counts[own]) for own, each in mixture.sets.items()}
        if not isinstance(rows, Dataset):  # a stream's rows are checked as they come
            rows = mixture.finished(list(sets.values()))
            self._mixtures.append(replace(mixture, rows=rows, sets=sets))
        return rows

    def end_checks(
        self, given: Any, made: Any, tokenizer: PreTrainedTokenizerBase, max_length: int | None
    ) -> list[tuple[Any, EndCheck]]:
        """The prepared training rows, of a mixture each set, and what is known of their ends.

        Args:
            given: the rows as they were before they were prepared.  made: as they are now.
            max_length: tokens at which rows are cut, or None.
        """
        looked = []
        for name, (before, rows) in self._training_sets(given, made).items():
            opened, asker = self.door.open_set(before, name), self.door.asker
            is_refused = asker is Asker.COMMAND_LINE and opened is not None and opened.form.becomes != "tokens"
            looked.append((rows, EndCheck(name, tokenizer, max_length, asker, is_refused, takes_end_token(opened))))
        return looked

    def _training_sets(self, given: Any, made: Any) -> dict[str, tuple[Any, Any]]:
        """By name the rows of each set as they were before they were prepared, and as they are now."""
        mixture, prepared = self.door.mixture_of(given), self._mixture_behind(made)
        if mixture is None or prepared is None:
            return {"train": (given, made)}
        before = [each.rows for each in mixture.sets]
        return {name: (one, prepared.sets[name]) for name, one in zip(prepared.sets, before, strict=True)}

    def _mixture_behind(self, rows: Any) -> PreparedRows | None:
        return next((each for each in self._mixtures if each.rows is rows), None)
