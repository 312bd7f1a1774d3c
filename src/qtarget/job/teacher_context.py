"""What a teacher's own prompt does, seen on a run's first rows: its p_y with and without it, and whether it holds the
answer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

import qtarget as qt
from qtarget.job.build import JobTrainer
from qtarget.job.inspection.row_forward import ForwardReader
from qtarget.job.inspection.trained_rows import TrainedRow, TrainedRows
from qtarget.target.evidence import Evidence
from qtarget.teacher import Keep, KeptSource
from qtarget.teacher.cache import Cache
from qtarget.teacher.distributions import logprobs_of_hidden

MEASURED_DOCUMENTS = 32
"""Documents whose probabilities are measured."""
SEARCHED_DOCUMENTS = 1000
"""Documents in which the completion is looked for."""


@dataclass(frozen=True)
class TeacherContext:
    """A teacher's p_y over learned tokens of the first rows, as means.

    Attributes:
        teacher: as `teacher_name` names it.
        with_context: behind its own prompt.
        without: behind the student's prompt; None for a cache, which knows its own documents alone.
        tokens: how many were measured.
    """

    teacher: str
    with_context: float
    without: float | None
    tokens: int

    def sentence(self) -> str:
        """As `validate` says it."""
        beside = "" if self.without is None else f", {self.without:.3f} without it"
        return f"{self.teacher}: mean p_y {self.with_context:.3f} behind its own prompt{beside} ({self.tokens} tokens)"


def teacher_name(trainer: JobTrainer, index: int) -> str:
    """What a teacher is called: "teacher" where it is the only one, else "teacher 0", "teacher 1", … as in errors."""
    return "teacher" if len(trainer.teachers) == 1 else f"teacher {index}"


def teacher_contexts(trainer: JobTrainer) -> tuple[TeacherContext, ...]:
    """Of each teacher; none where no row gives it a prompt."""
    rows = [row for row in TrainedRows(trainer.train_dataset)[:MEASURED_DOCUMENTS] if len(row.learned)]
    if all(row.teacher_ids is None for row in rows):
        return ()
    return tuple(_measured(trainer, index, rows) for index in range(len(trainer.teachers)))


def leak_warnings(trainer: JobTrainer) -> Iterator[str]:
    """A sentence where prompts of the teacher hold the completion, and those of the student do not."""
    rows = [row for row in TrainedRows(trainer.train_dataset)[:SEARCHED_DOCUMENTS] if row.teacher_ids is not None]
    if count := sum(_leaks(row, trainer.text_tokenizer) for row in rows if len(row.learned)):
        yield (
            f"The teacher's prompt contains the completion itself in {count:,} of the {len(rows):,} rows looked at. "
            "It leaks the label: the teacher copies what it should judge, and the target nears sft's. Give it another "
            "solution, a hint, or the student's own samples."
        )


def _leaks(row: TrainedRow, tokenizer: PreTrainedTokenizerBase) -> bool:
    first = int(row.learned[0])
    theirs = [token for read in list(row.teacher_ids or [])[:first] for token in read]
    answer, told, asked = (
        str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
        for ids in (row.ids[row.learned].tolist(), theirs, row.ids[:first].tolist())
    )
    return bool(answer) and answer in told and answer not in asked


def _measured(trainer: JobTrainer, index: int, rows: Sequence[TrainedRow]) -> TeacherContext:
    source, reader = trainer.teachers[index], ForwardReader(trainer)
    reader.sources = {f"teacher {index}": source}
    own = torch.cat([_label_probabilities(reader, row) for row in rows])
    is_cache = isinstance(source, KeptSource) and isinstance(source.store, Cache)
    plain = [] if is_cache else [_label_probabilities(reader, replace(row, teacher_ids=None)) for row in rows]
    name = teacher_name(trainer, index)
    return TeacherContext(name, float(own.mean()), float(torch.cat(plain).mean()) if plain else None, len(own))


@torch.no_grad()
def _label_probabilities(reader: ForwardReader, row: TrainedRow) -> Tensor:
    """The probability of each learned token of a document under the one teacher that is asked, `[T]`."""
    tokens = reader.read(row).tokens
    return _label_logprobs(tokens.teachers[0], tokens.labels_T).exp()


def _label_logprobs(evidence: Evidence, labels_T: Tensor) -> Tensor:
    if isinstance(evidence, qt.Dense):
        return logprobs_of_hidden(evidence, evidence.hidden, labels_T, Keep(0)).label_logprobs.float()
    if isinstance(evidence, qt.LabelOnly):
        return evidence.logprobs.float().cpu()
    assert isinstance(evidence, qt.Sparse)
    is_label = evidence.ids == labels_T[:, None]
    return evidence.logprobs.masked_fill(~is_label, -torch.inf).amax(-1).float().cpu()
