"""What can be wrong with prepared rows before any model reads them: counts, and the rows behind each."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from qtarget.data import RowCounts
from qtarget.job.inspection.trained_rows import TrainedRow
from qtarget.target.types import IGNORED

AUDITED_ROWS = 10_000
"""Rows that are looked at; of a larger set the first ones."""
RETOKENISED_ROWS = 500
"""Rows whose text is tokenised anew, which takes longer than all else."""
NUMBERS_NAMED = 20
"""Rows that are named for each finding."""


@dataclass(frozen=True)
class AuditLine:
    """One thing that was looked for.

    Attributes:
        name: a key for programs.
        says: in words, after the count.
        count: rows that have it.
        of: rows that were looked at.
        numbers: the first of them, as they stand in the prepared set, counted from 1.
    """

    name: str
    says: str
    count: int
    of: int
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Audit:
    """The prepared rows at a glance.

    Attributes:
        rows: all of them.  looked: the first of them, of which everything else here is.
        least, most: numbers, from 1, of the rows that learn the fewest and the most tokens.
    """

    rows: int
    looked: int
    tokens: int
    learned: int
    lines: tuple[AuditLine, ...]
    least: tuple[int, ...]
    most: tuple[int, ...]


@dataclass
class RowCensus:
    """Rows by what was found in them."""

    found: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    learned: list[int] = field(default_factory=list)
    tokens: int = 0


SAYS = {
    "unlearned": "learn no token",
    "cut": "end at max_length before their end token",
    "end masked": "hold an end token that is not learned, and learn none",
    "no end": "hold no end token where they end",
    "duplicate": "repeat an earlier row, token for token",
    "two begins": "begin with two begin tokens",
    "boundary": "are tokenised otherwise where prompt and learned part meet",
}
"""What is looked for in every prepared row."""
ROWS_LEFT_OUT = {
    "left out as bad": "were left out as bad rows",
    "left out unlearned": "were left out, for they have no label",
    "left out masked": "were left out, for max_length cuts off every label",
}
"""What the trainer says of rows that are no longer there."""


def audit_rows(
    rows: Sequence[TrainedRow],
    tokenizer: PreTrainedTokenizerBase,
    ends: set[int],
    max_length: int | None,
    counts: RowCounts | None,
) -> Audit:
    """Look at every row, up to `AUDITED_ROWS`.

    Args:
        ends: tokens at which generation stops.
        counts: what the trainer says of rows that it left out.
    """
    census, seen = RowCensus(), set()
    begin: Any = tokenizer.bos_token_id
    looked = min(len(rows), AUDITED_ROWS)
    for row in rows[:looked]:
        for name in _faults(row, ends, begin, max_length):
            census.found[name].append(row.number)
        content = row.ids.tobytes() + row.labels.tobytes()
        if content in seen:
            census.found["duplicate"].append(row.number)
        seen.add(content)
        if row.number <= RETOKENISED_ROWS and _boundary_differs(row, tokenizer):
            census.found["boundary"].append(row.number)
        census.learned.append(len(row.learned))
        census.tokens += len(row.ids)
    order = (np.argsort(census.learned, kind="stable") + 1).tolist()
    return Audit(
        len(rows),
        looked,
        census.tokens,
        sum(census.learned),
        (*_of_prepared(census, looked), *_left_out(counts)),
        tuple(order[:3]),
        tuple(order[:-4:-1]),
    )


def _of_prepared(census: RowCensus, looked: int) -> list[AuditLine]:
    return [
        AuditLine(
            name,
            says,
            len(census.found[name]),
            min(looked, RETOKENISED_ROWS) if name == "boundary" else looked,
            tuple(census.found[name][:NUMBERS_NAMED]),
        )
        for name, says in SAYS.items()
    ]


def _left_out(counts: RowCounts | None) -> list[AuditLine]:
    if counts is None or counts.given is None:
        return []
    lost: Mapping[str, int] = {
        "left out as bad": sum(counts.dropped.values()),
        "left out unlearned": counts.unlearned,
        "left out masked": counts.masked,
    }
    return [AuditLine(name, ROWS_LEFT_OUT[name], lost[name], counts.given) for name in ROWS_LEFT_OUT]


def _faults(row: TrainedRow, ends: set[int], begin: int | None, max_length: int | None) -> list[str]:
    is_end = np.isin(row.ids, list(ends))
    learned = row.learned
    found = [] if len(learned) else ["unlearned"]
    has_end_after = bool(len(learned)) and bool(is_end[learned[-1] :].any())
    if len(learned) and not is_end[learned].any():
        is_cut = max_length is not None and len(row.ids) >= max_length and not has_end_after
        found.append("cut" if is_cut else "end masked" if has_end_after else "no end")
    if begin is not None and begin not in ends and len(row.ids) > 1 and (row.ids[:2] == begin).all():
        found.append("two begins")
    return found


def _boundary_differs(row: TrainedRow, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the row's own text, tokenised anew, comes to other tokens where the learned part begins, and to the same
    ones before."""
    learned = row.learned
    if not len(learned) or learned[0] < 1 or row.labels[learned[0] - 1] != IGNORED:
        return False
    start = int(learned[0])
    near = row.ids[max(0, start - 32) : start + 32]
    text = str(tokenizer.decode(near, clean_up_tokenization_spaces=False))
    again = np.asarray(tokenizer(text, add_special_tokens=False)["input_ids"])
    size = min(len(again), len(near))
    differ = (again[:size] != near[:size]).nonzero()[0]
    at = min(start, 32)
    return bool(len(differ)) and at - 1 <= int(differ[0]) <= at
