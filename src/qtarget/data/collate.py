"""Batches in which every per-token column is laid out as `input_ids` are."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

_Rows = Sequence[Mapping[str, Any]]
EVIDENCE = "evidence"
"""The key under which a batch carries what was read about it ahead of its step."""


@dataclass(frozen=True)
class PerTokenCollator:
    """Wraps a collator, and adds the per-token columns that it would drop.

    Args:
        inner: makes `input_ids` and `labels` `[B, S]`, padded on the right, or `[1, total]` where it is
            padding-free.
        padding_free: whether `inner` lays all rows end to end in one. The batch then also gets `row_ids`
            `[1, total]`, the row each token came from.
        columns: per-token columns and the value that pads them; rows without a column do without it.
        ahead: functions of a batch, by name, that read what its step will need, such as a teacher's evidence. What
            they return is put under `evidence`.
    """

    inner: Callable[[list], dict[str, Any]]
    padding_free: bool = False
    columns: Mapping[str, float] = field(default_factory=lambda: {"token_weight": 0.0})
    ahead: Mapping[str, Callable[[dict[str, Any]], Any]] = field(default_factory=dict)

    def __call__(self, rows: _Rows) -> dict[str, Any]:
        batch = self.inner(list(rows))
        width = batch["input_ids"].shape[1]
        for name, padding in self.columns.items():
            if name in rows[0]:
                values = [torch.tensor(row[name], dtype=torch.float32) for row in rows]
                batch[name] = self._laid_out(values, width, padding)
        if self.padding_free:
            ids = [torch.full((len(row["input_ids"]),), index) for index, row in enumerate(rows)]
            batch["row_ids"] = self._laid_out(ids, width, len(rows) - 1)
        if self.ahead:
            batch[EVIDENCE] = {name: read(batch) for name, read in self.ahead.items()}
        return batch

    def _laid_out(self, values: list[Tensor], width: int, padding: float) -> Tensor:
        lines = [torch.cat(values)] if self.padding_free else values
        return torch.stack([pad(line, (0, width - len(line)), value=padding) for line in lines])


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
