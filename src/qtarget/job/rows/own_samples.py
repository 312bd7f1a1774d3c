"""Rows that a model wrote: the mark on them, and what it means that the student itself wrote what it learns."""

from collections.abc import Iterator, Sequence
from typing import Any

from datasets import Dataset

import qtarget as qt
from qtarget.data import column_names
from qtarget.job.config.checked_job import Job
from qtarget.job.config.sample_options import SampleKeep
from qtarget.models.identity import weights_identity
from qtarget.target.rule import STUDENT, Moment, reads

SAMPLED = "sampled"
"""Column that says of a row which model wrote its completion, and how; training does not read it."""
OF_THE_LABEL = (Moment.LABEL_LOGP, Moment.LABEL_PROBABILITY, Moment.LOG_NOT_LABEL, Moment.LABEL_IS_TOP)
"""What a student says of the observed token."""


def own_word_notes(method: qt.Method, keep: SampleKeep) -> Iterator[str]:
    """What of a method means nothing on tokens that its student wrote, a sentence each.

    On tokens y ~ p the label's own term vanishes on average, E[onehot(y)] = p, and a trust that is read from p_y is
    high because the student drew what it finds likely. Where only right samples are kept, the choice itself teaches.

    Args:
        keep: which samples the rows are.
    """
    believed = sorted({s.name for s in reads(method.trust) if s.source == STUDENT and s.moment in OF_THE_LABEL})
    if believed:
        yield (
            f'the trust of "{method.name}" reads how likely the student finds each token ({", ".join(believed)}), '
            "and the "
            "student wrote these tokens: it is high because they were drawn from it, and says nothing of whether "
            "they are right"
        )
    if keep == "all" and isinstance(method.trust, float | int) and method.trust > 0:
        yield (
            f'the label\'s part of "{method.name}" has no direction on average here: the student wrote these '
            "tokens, and all "
            "samples are kept, right or wrong. Keep the right ones (`sample: {grade: …, keep: right}`), or take "
            "a method without trust, as `method: kd`"
        )


def notes_on_samples(job: Job, sets: Sequence[Any]) -> tuple[str, ...]:
    """What there is to say of training rows that the student of a run wrote; nothing where others did."""
    marked: list[Any] = [rows for rows in sets if isinstance(rows, Dataset) and SAMPLED in column_names(rows)]
    marks = [row[SAMPLED] for rows in marked for row in rows.select_columns([SAMPLED])]
    marks = [mark for mark in marks if isinstance(mark, dict) and mark.get("weights") and mark.get("kept")]
    if not marks:
        return ()
    student = weights_identity(job.model, job.model_args.model_revision)
    own = [mark for mark in marks if mark["weights"] == student]
    if not own:
        return ()
    keep = "all" if any(mark["kept"] == "all" for mark in own) else "right"
    notes = tuple(own_word_notes(job.method, keep))
    return tuple(f"{len(own):,} rows are the student's own samples: {note}" for note in notes)


def rounds_in_words(job: Job) -> str:
    """What the rounds of a run train on, for who looks at the run before it; "" where it has none."""
    if job.rounds is None:
        return ""
    options, number = job.sampling, job.rounds.number
    drawn = f"{options.k} samples" if options.k is not None else "samples"
    asked = f"each question of {options.task}" if options.task is not None else "each prompt"
    beside = ", and on these rows" if options.with_rows else " instead of these rows"
    start = "the model" if job.rounds.start == "base" else "the last round's student"
    return (
        f"{number} × (draw {drawn} of {asked}, keep {options.kept}, train {start} on them{beside}): rows and "
        "steps here are those of one training on the rows as they are"
    )
