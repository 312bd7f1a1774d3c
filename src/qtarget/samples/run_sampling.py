"""`qtarget sample`: completions of a model as rows to train on."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from qtarget.disk.files import file_digest, replace_text, write_digested_json
from qtarget.disk.one_writer import one_writer
from qtarget.evaluate.run.conduct import conduct_drawing, conduct_evaluation
from qtarget.evaluate.run.progress import ProgressWatch
from qtarget.evaluate.store import answers_in
from qtarget.samples.kept_samples import SampleSummary, kept_rows
from qtarget.samples.prepare_sampling import ROWS, SUMMARY, PreparedSampling


def conduct_sampling(prepared: PreparedSampling, watch: ProgressWatch | None = None) -> SampleSummary:
    """Draw what is not there yet, grade it where there is a grader, and write the rows of what is kept.

    Killed at any moment, the same sampling goes on and ends with the same rows.

    Raises:
        ValueError: no sample is kept, or a sample on disk is damaged.
        SecondWriterError: another process is writing to the folder.
        Interruption: on Ctrl-C or SIGTERM; the samples drawn so far stay.
    """
    evaluation = prepared.evaluation
    if prepared.is_graded:
        conduct_evaluation(evaluation, watch)
    else:
        conduct_drawing(evaluation, watch)
    answers = answers_in(prepared.out / prepared.run.task.name, evaluation.facts, ungraded=not prepared.is_graded)
    rows, summary = kept_rows(prepared, answers)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return _write_rows(prepared.out, text, summary)


def _write_rows(out: Path, text: str, summary: SampleSummary) -> SampleSummary:
    """Replace the rows. At any moment there are none, or those that the summary beside them tells of."""
    rows = out / ROWS
    summary = replace(summary, rows_sha256=hashlib.sha256(text.encode()).hexdigest())
    with one_writer(out):
        is_there = rows.is_file() and file_digest(rows) == summary.rows_sha256
        if not is_there:
            rows.unlink(missing_ok=True)
        write_digested_json(out / SUMMARY, summary.as_json())
        if not is_there:
            replace_text(rows, text)
    return summary
