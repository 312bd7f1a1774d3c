"""Batches in which every per-token column is laid out as `input_ids` are."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qtarget.data.batches.teacher_batch import TEACHER_BATCH, teacher_batch
from qtarget.data.teacher_prompts.teacher_ids import TEACHER_IDS

_Rows = Sequence[Mapping[str, Any]]
EVIDENCE = "evidence"
"""The key under which a batch carries what was read about it ahead of its step."""


@dataclass
class PerTokenCollator:
    """Wraps any collator that makes `input_ids` and `labels` `[B, S]`, and adds the per-token columns it would drop.

    Where the tokens of each row stand in the batch is found by looking for them: padded on the right or on the left,
    cut, or all rows laid end to end in one, `[1, total]`. A batch of the last kind also gets `row_ids` `[1, total]`,
    the row each token came from. What the inner collator returns itself is kept. Where rows give the teacher a prompt
    of its own, the batch gets the teacher's under `teacher_batch`.

    Args:
        columns: per-token columns and the value that pads them; rows without a column weigh 1.
        ahead: functions of a batch, by name, that read what its step will need, such as a teacher's evidence. What
            they return is put under `evidence`.
    """

    inner: Callable[[list], dict[str, Any]]
    columns: Mapping[str, float] = field(default_factory=lambda: {"token_weight": 0.0})
    ahead: Mapping[str, Callable[[dict[str, Any]], Any]] = field(default_factory=dict)
    _takes_columns: bool = field(default=True, init=False)

    def __call__(self, rows: _Rows) -> dict[str, Any]:
        own = [name for name in self.columns if any(row.get(name) is not None for row in rows)]
        whole, rows = rows, [{name: value for name, value in row.items() if name != TEACHER_IDS} for row in rows]
        batch = self._inner_batch(rows, own)
        _check_batch(batch, rows)
        missing = [name for name in own if name not in batch]
        for name in set(own) - set(missing):
            batch[name] = _checked_column(name, batch)
        lines = _end_to_end(rows, batch) if "row_ids" not in batch else None
        if lines is not None:
            batch["row_ids"] = lines
        if missing:
            layout = token_places(rows, batch)
            batch.update({name: _laid_out(rows, name, layout, batch, self.columns[name]) for name in missing})
        if any(row.get(TEACHER_IDS) is not None for row in whole):
            theirs = teacher_batch(whole, _starts(rows, batch), batch)
            batch.update({} if theirs is None else {TEACHER_BATCH: theirs})
        if self.ahead:
            batch[EVIDENCE] = {name: read(batch) for name, read in self.ahead.items()}
        return batch

    def _inner_batch(self, rows: _Rows, own: Sequence[str]) -> dict[str, Any]:
        """The inner collator's batch. One that cannot take our columns, as those that call `tokenizer.pad`, gets rows
        without them."""
        if self._takes_columns:
            try:
                return self.inner([dict(row) for row in rows])
            except (ValueError, TypeError, KeyError, RuntimeError):
                if not own:
                    raise
        batch = self.inner([{name: value for name, value in row.items() if name not in own} for row in rows])
        self._takes_columns = False
        return batch


def _starts(rows: _Rows, batch: Mapping[str, Any]) -> list[tuple[int, int]]:
    """The line and the column at which each row begins."""
    places = token_places(rows, batch)
    if any(place.count < len(row["input_ids"]) for place, row in zip(places, rows, strict=True)):
        raise ValueError(
            "The collator cuts rows, and a teacher with a prompt of its own would not know what was cut; let "
            "`max_length` cut them instead."
        )
    return [(place.line, place.column) for place in places]


class TokenPlaces(NamedTuple):
    """Where the tokens of a row stand in a batch: those from `first` on, `count` of them, at `column` of `line`."""

    line: int
    column: int
    first: int
    count: int


def token_places(rows: _Rows, batch: Mapping[str, Any]) -> list[TokenPlaces]:
    """Where the tokens of each row stand in a batch that a collator made of them.

    Raises:
        ValueError: they are not found, or could stand in two places.
    """
    if "row_ids" in batch:
        starts = accumulate((len(row["input_ids"]) for row in rows[:-1]), initial=0)
        return [TokenPlaces(0, at, 0, len(row["input_ids"])) for at, row in zip(starts, rows, strict=True)]
    if len(batch["input_ids"]) != len(rows):
        raise ValueError(_layout_error(f"{len(batch['input_ids'])} rows of {len(rows)}"))
    return [_place(index, row, batch) for index, row in enumerate(rows)]


def _place(index: int, row: Mapping[str, Any], batch: Mapping[str, Any]) -> TokenPlaces:
    if row.get("input_ids") is None:
        raise ValueError(_layout_error(f"row {index + 1}, which has no `input_ids`"))
    ids, line, mask = torch.as_tensor(row["input_ids"]), batch["input_ids"][index].cpu(), _mask_of(index, batch)
    found = _standing(_at_ends(index, ids, line), ids, line)
    found = (
        found or _standing(_attended(index, ids, mask), ids, line) or _standing(_inside(index, ids, line), ids, line)
    )
    if len(found) > 1 and mask is not None:
        found = [place for place in found if mask[place.column : place.column + place.count].sum() == mask.sum()]
    if len(found) != 1:
        reason = "could stand in several places" if found else "are not found in it"
        raise ValueError(_layout_error(f"row {index + 1}, whose tokens {reason}"))
    return found[0]


def _mask_of(index: int, batch: Mapping[str, Any]) -> Tensor | None:
    """Which tokens of a line are attended to; None where the batch does not say so for each token."""
    mask = batch.get("attention_mask")
    return mask[index].cpu() if isinstance(mask, Tensor) and mask.shape == batch["input_ids"].shape else None


def _standing(places: Iterable[TokenPlaces], ids: Tensor, line: Tensor) -> list[TokenPlaces]:
    """The places at which a row's tokens do stand."""
    return [
        place
        for place in places
        if torch.equal(
            line[place.column : place.column + place.count], ids[place.first : place.first + place.count].to(line)
        )
    ]


def _at_ends(index: int, ids: Tensor, line: Tensor) -> list[TokenPlaces]:
    """Padded on the right or cut at the end; padded on the left or cut at the beginning."""
    shared = min(len(ids), len(line))
    ends = (TokenPlaces(index, 0, 0, shared), TokenPlaces(index, len(line) - shared, len(ids) - shared, shared))
    return list(dict.fromkeys(ends)) if shared else [ends[0]]


def _attended(index: int, ids: Tensor, mask: Tensor | None) -> list[TokenPlaces]:
    """Cut at the end or at the beginning, and padded all the same: what is attended to is what is left."""
    places = [] if mask is None else mask.nonzero().flatten().tolist()
    count = len(places)
    if not 0 < count <= len(ids) or places[-1] - places[0] + 1 != count:
        return []
    return [TokenPlaces(index, places[0], first, count) for first in dict.fromkeys((0, len(ids) - count))]


def _inside(index: int, ids: Tensor, line: Tensor) -> list[TokenPlaces]:
    """Every place between the ends of a line that begins with the row's first token."""
    return [TokenPlaces(index, at, 0, len(ids)) for at in range(1, len(line) - len(ids)) if line[at] == ids[0]]


def _end_to_end(rows: _Rows, batch: Mapping[str, Any]) -> Tensor | None:
    """The row that each token of a batch `[1, total]` came from, where the rows were laid end to end; else None."""
    ids = batch["input_ids"]
    if len(ids) != 1 or len(rows) == 1 or any(row.get("input_ids") is None for row in rows):
        return None
    whole = torch.cat([torch.as_tensor(row["input_ids"]) for row in rows])
    if len(whole) > ids.shape[1] or not torch.equal(ids[0, : len(whole)].cpu(), whole.to(ids.dtype)):
        return None
    counts = torch.tensor([len(row["input_ids"]) for row in rows])
    counts[-1] += ids.shape[1] - len(whole)
    return torch.arange(len(rows)).repeat_interleave(counts)[None]


def _laid_out(
    rows: _Rows, name: str, places: Sequence[TokenPlaces], batch: Mapping[str, Any], padding: float
) -> Tensor:
    """A per-token column `[B, S]`; a row without it, as in a mixture of sets, weighs 1."""
    out = torch.full(batch["input_ids"].shape, padding, dtype=torch.float32)
    for row, (line, column, first, count) in zip(rows, places, strict=True):
        given = row.get(name)
        values = torch.ones(first + count) if given is None else torch.as_tensor(given, dtype=torch.float32)
        out[line, column : column + count] = values[first : first + count]
    return out


def _check_batch(batch: Any, rows: _Rows) -> None:
    ids = batch.get("input_ids") if hasattr(batch, "get") else None
    if not isinstance(ids, Tensor) or ids.dim() != 2:
        made = sorted(batch) if isinstance(batch, Mapping) else type(batch).__name__
        raise ValueError(
            f"The collator made a batch of {made} out of {len(rows)} rows; expected a dictionary with `input_ids` and "
            "`labels`, tensors of token ids `[B, S]`. Leave `data_collator` out, or let yours return them so."
        )


def _checked_column(name: str, batch: Mapping[str, Any]) -> Tensor:
    """The column that the inner collator returned, laid out like the tokens."""
    given, expected = batch[name], batch["input_ids"].shape
    if not isinstance(given, Tensor) or given.shape != expected:
        shape = f"of shape {list(given.shape)}" if isinstance(given, Tensor) else f"a {type(given).__name__}"
        raise ValueError(
            f"The collator returned `{name}` {shape}; expected a tensor {list(expected)}, one number for each of "
            "`input_ids`. Let yours leave it out (it is then laid out like the tokens), or pad it as they are."
        )
    return given.float()


def _layout_error(what: str) -> str:
    return (
        f"The collator's batch does not say where the weights of its tokens belong: it has {what}. Let yours keep the "
        "`input_ids` of each row together and in order and return an `attention_mask` `[B, S]`, or let it return "
        "`token_weight` `[B, S]` itself."
    )


def sequence_ids(input_ids: Tensor, position_ids: Tensor | None = None) -> Tensor:
    """Which document each token belongs to, `[B, S]` integers.

    Position ids that restart at 0 begin a document, as in packed and padding-free batches; without position
    ids each row is one document.
    """
    rows = torch.arange(len(input_ids), device=input_ids.device)[:, None].expand(input_ids.shape)
    if position_ids is None:
        return rows
    documents = (position_ids == 0).flatten().cumsum(0).view(position_ids.shape)
    return documents + rows  # a row never shares a document with the row above


def positions(labels: Tensor, sequence_ids: Tensor) -> Tensor:
    """Where each learned token stands among those of its document, `[B, S]`: 0 at the first, 1 at the last.

    A document's first token is behind no other, so it is not learned, whatever its label; tokens that are not learned
    get 0. Of a document with several turns the learned tokens of all of them are counted on.
    """
    ids = sequence_ids.reshape(-1)
    is_first = torch.ones_like(ids, dtype=torch.bool)
    is_first[1:] = ids[1:] != ids[:-1]
    learned = (labels.reshape(-1) != -100) & ~is_first
    _, place, tokens = ids.unique_consecutive(return_inverse=True, return_counts=True)
    count = torch.zeros_like(tokens).index_add(0, place, learned.long())
    before = learned.long().cumsum(0) - learned.long() - (count.cumsum(0) - count)[place]
    share = before / (count - 1).clamp(min=1)[place]
    return share.masked_fill(~learned, 0.0).view(labels.shape)
