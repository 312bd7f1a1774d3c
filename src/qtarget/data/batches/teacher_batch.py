"""The batch that a teacher reads where rows give it a prompt of its own, laid out as the student's batch is."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qtarget.data.teacher_prompts.teacher_ids import TEACHER_IDS, as_the_student
from qtarget.target.types import IGNORED

TEACHER_BATCH = "teacher_batch"
"""The key under which a batch carries the teacher's: `input_ids` `[B, S']`, `attention_mask` and `position_ids` where
the batch has them, and `places` `[B, S]`, where in it each token of the batch stands."""
PLACES = "places"
_Rows = Sequence[Mapping[str, Any]]


class _Line(NamedTuple):
    """A line of the teacher's batch.

    Attributes:
        ids, positions: `[s']`.  places: `[S]`, of the tokens of the student's line.
    """

    ids: list[int]
    positions: list[int]
    places: np.ndarray


def teacher_batch(rows: _Rows, starts: Sequence[tuple[int, int]], batch: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The teacher's batch; None where it reads what the student does.

    Args:
        rows: prepared, some with `teacher_ids`.
        starts: the line and the column of the batch at which each row begins.
        batch: with `input_ids` `[B, S]`.
    """
    if not any(row.get(TEACHER_IDS) is not None and _differs(row) for row in rows):
        return None
    height, width = batch["input_ids"].shape
    lines = [_Line([], [], np.zeros(width, np.int64)) for _ in range(height)]
    for row, (line, column) in sorted(zip(rows, starts, strict=True), key=lambda pair: pair[1]):
        _add(row, lines[line], column)
    return _padded(lines, batch)


def _differs(row: Mapping[str, Any]) -> bool:
    return any(list(read) != [token] for token, read in zip(row["input_ids"], row[TEACHER_IDS], strict=True))


def _add(row: Mapping[str, Any], line: _Line, column: int) -> None:
    """Lay a row's documents behind those that are there."""
    given = row.get(TEACHER_IDS)
    read = as_the_student(row["input_ids"]) if given is None else given
    if any(
        label not in (IGNORED, each[-1] if len(each) == 1 else IGNORED)
        for label, each in zip(row["labels"], read, strict=True)
    ):
        raise ValueError(
            f"`{TEACHER_IDS}` of a row has other tokens than its `labels` where something is learned; a teacher scores "
            "the tokens that the student learns. Give `teacher_prompt` beside `prompt` and `completion` instead."
        )
    lengths = row.get("seq_lengths")
    for start, stop in pairwise(np.cumsum([0, *([len(read)] if lengths is None else lengths)])):
        ends = len(line.ids) + np.cumsum([len(each) for each in read[start:stop]])
        line.places[column + start : column + stop] = np.maximum(ends - 1, 0)
        ids = [int(token) for each in read[start:stop] for token in each]
        line.ids.extend(ids)
        line.positions.extend(range(len(ids)))


def _padded(lines: Sequence[_Line], batch: Mapping[str, Any]) -> dict[str, Tensor]:
    width = max(len(line.ids) for line in lines)

    def filled(values: Sequence[Sequence[int]]) -> Tensor:
        return torch.tensor([[*each, *[0] * (width - len(each))] for each in values])

    made = {"input_ids": filled([line.ids for line in lines])}
    if "attention_mask" in batch or any(len(line.ids) < width for line in lines):
        made["attention_mask"] = filled([[1] * len(line.ids) for line in lines])
    if "position_ids" in batch:
        made["position_ids"] = filled([line.positions for line in lines])
    return {**made, PLACES: torch.from_numpy(np.stack([line.places for line in lines]))}


class TeacherView(NamedTuple):
    """What a teacher is asked about a batch.

    Attributes:
        inputs: of a model, `[B, S']`.  labels: of the same tokens as the batch's, `[B, S']`.
        back: index by which values `[B, S', ...]` become values `[B, S, ...]` at the student's tokens.
    """

    inputs: dict[str, Any]
    labels: Tensor
    back: tuple[Tensor, Tensor]


def teacher_view(batch: Mapping[str, Any]) -> TeacherView | None:
    """What the teacher is asked about a batch; None where it reads the batch itself."""
    if TEACHER_BATCH not in batch:
        return None
    inputs = dict(batch[TEACHER_BATCH])
    places, labels = inputs.pop(PLACES), batch["labels"]
    lines = torch.arange(len(places), device=places.device)[:, None].expand_as(places)
    asked = (labels != IGNORED).to(places.device)
    theirs = torch.full_like(inputs["input_ids"], IGNORED)
    theirs[lines[asked], places[asked]] = labels.to(places.device)[asked]
    return TeacherView(inputs, theirs, (lines, places))
