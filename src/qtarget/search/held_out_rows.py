"""Held-out rows, for a search without questions: prepared as the trainer prepares them, in two halves."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qtarget.disk.files import json_digest, json_text, replace_text
from qtarget.job.build import remove_if_empty
from qtarget.job.config.checked_job import Job
from qtarget.job.inspection.trained_rows import TrainedRow, TrainedRows
from qtarget.job.rows.rendering import rows_trainer
from qtarget.search.dev_questions import FEWEST, halves, refuse_one_unit


class HeldOutRows(NamedTuple):
    """Rows that no arm is trained on."""

    rows: tuple[TrainedRow, ...]

    @property
    def grader(self) -> None:
        """Their loss needs none."""
        return None

    @property
    def units(self) -> list[str]:
        """Of each row; rows of the same tokens are one unit."""
        return [row.ids.tobytes().hex() for row in self.rows]

    @property
    def digest(self) -> str:
        return json_digest([[row.ids.tolist(), row.labels.tolist()] for row in self.rows])


def read_held_out(job: Job, drawn: Job | None = None) -> HeldOutRows:
    """The rows of `eval_dataset` that learn a token.

    Args:
        drawn: the run on the rows that a search draws, which may be others than the configuration's own.

    Raises:
        ValueError: there are none, too few, or one that is a training row too.
    """
    if job.evaluation is None:
        raise ValueError(
            "nothing says how good an arm is; write --questions dev.jsonl --grade GRADER, or `eval_dataset: "
            "held_out.jsonl` in the configuration, whose loss is measured then."
        )
    with remove_if_empty(job.output):
        trainer = rows_trainer(job)
    held_out = tuple(row for row in TrainedRows(trainer.eval_dataset) if len(row.learned))
    if len(held_out) < FEWEST:
        raise ValueError(
            f"`eval_dataset` has {len(held_out)} rows that learn something: half of them race, half confirm, so "
            f"{FEWEST} are the least, and a hundred say something."
        )
    refuse_one_unit(HeldOutRows(held_out).units, "rows of `eval_dataset`")
    _refuse_trained(held_out, trainer.train_dataset, "row {number} of `train_dataset`")
    if drawn is not None:
        assert drawn.layout is not None
        where = f"one of the `rows: {drawn.layout.take}` that the search draws of `train_dataset`"
        with remove_if_empty(job.output):
            _refuse_trained(held_out, rows_trainer(drawn).train_dataset, where)
    return HeldOutRows(held_out)


def _refuse_trained(held_out: Sequence[TrainedRow], prepared: Any, where: str) -> None:
    """Refuse a held-out row that is a training row too; `where` says which."""
    trained = {row.ids.tobytes(): row.number for row in TrainedRows(prepared)}
    for row in held_out:
        if (number := trained.get(row.ids.tobytes())) is not None:
            raise ValueError(
                f"row {row.number} of `eval_dataset` is also {where.format(number=number)}, so its loss would say "
                "nothing. Take it out of one of the two."
            )


def write_row_halves(held_out: HeldOutRows, folder: Path, seed: int) -> None:
    """Write both halves as files of token ids and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, places in halves(held_out.units, seed).items():
        rows = [held_out.rows[place] for place in places]
        lines = [json_text({"input_ids": row.ids.tolist(), "labels": row.labels.tolist()}) for row in rows]
        replace_text(folder / f"{name}.jsonl", "".join(f"{line}\n" for line in lines))


def units_of_rows(rows: Path) -> tuple[str, ...] | None:
    """The unit of each row in a file, as `HeldOutRows.units`; None where each is its own."""
    ids = [json.dumps(json.loads(line)["input_ids"]) for line in rows.read_text(encoding="utf-8").splitlines()]
    first = {each: place for place, each in reversed(list(enumerate(ids)))}
    return tuple(str(first[each]) for each in ids) if len(first) < len(ids) else None


def scores_of_losses(losses: Sequence[float], rows: Path) -> list[float]:
    """A score for each row, whose mean is minus the mean loss of a token: minus the row's loss, over the mean number of
    learned tokens of a row."""
    lines = rows.read_text(encoding="utf-8").splitlines()
    learned = [sum(label >= 0 for label in json.loads(line)["labels"]) for line in lines]
    per_row = sum(learned) / len(learned)
    return [-loss / per_row for loss in losses]
