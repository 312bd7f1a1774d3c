"""The user's development questions: half race, half confirm, and none of them is trained on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from qtarget.console import printable
from qtarget.data.user_files.formats import rows_of
from qtarget.disk.files import json_digest, json_text, replace_text
from qtarget.evaluate.nouns import Question
from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.run.prepare import check_grader, task_run_of
from qtarget.evaluate.tasks.own_words import OwnWords, own_tasks_asked
from qtarget.evaluate.tasks.trained_questions import QuestionIndex
from qtarget.job.config.checked_job import Job
from qtarget.job.rows.layout import tokenizer_of_run
from qtarget.job.rows.mixtures import load_sets
from qtarget.target.types import IGNORED

RACE, CONFIRMATION = "race", "confirmation"
FEWEST = 4
"""Of questions, or held-out rows: two for the race, two for its confirmation; a hundred say something."""


@dataclass(frozen=True)
class DevQuestions:
    """A file of development questions.

    Attributes:
        name: of the task.  questions: all of them.  rows: as the file has them, one a question.
        grader: its fingerprint: of one of the user's own, with the digest of its code.
    """

    name: str
    questions: tuple[Question, ...]
    rows: tuple[Mapping[str, Any], ...]
    grader: str

    @property
    def digest(self) -> str:
        return json_digest([question.as_json() for question in self.questions])


def read_dev_questions(words: OwnWords, protocol: Mapping[str, Any]) -> DevQuestions:
    """The questions that `--questions` names.

    Args:
        protocol: how they are to be asked.

    Raises:
        ValueError: as `qtarget eval` refuses them, several files, or fewer than `FEWEST`.
    """
    tasks = own_tasks_asked(words)
    if len(tasks) != 1:
        raise ValueError("`qtarget search` asks one file of questions; write --questions once, with all of them in it.")
    (task,) = tasks
    assert task.source.file is not None
    run = task_run_of(EvaluationPlan("", (task,), Path(), protocol), task)
    grader = check_grader(run)
    questions = run.questions
    if len(questions) < FEWEST:
        raise ValueError(
            f"--questions {task.source.file} has {len(questions)} questions: half of them race, half confirm, so "
            f"{FEWEST} are the least, and a hundred say something."
        )
    refuse_one_unit([question.unit for question in questions], "development questions")
    rows = tuple(placed.row for placed in rows_of(task.source.file, "the questions"))
    return DevQuestions(task.name, questions, rows, grader)


def write_parts_of(dev: DevQuestions, folder: Path, seed: int) -> None:
    """Write both halves as files of questions."""
    parts = halves([question.unit for question in dev.questions], seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, places in parts.items():
        lines = [json_text(dev.rows[place]) + "\n" for place in places]
        replace_text(folder / f"{name}.jsonl", "".join(lines))


def halves(units: Sequence[str], seed: int) -> dict[str, list[int]]:
    """Places of the race's half and of the confirmation's, each in order; what is of one unit stays together."""
    distinct = list(dict.fromkeys(units))
    order = np.random.default_rng(seed).permutation(len(distinct))
    of_race = {distinct[place] for place in order[: (len(distinct) + 1) // 2]}
    race = [place for place, unit in enumerate(units) if unit in of_race]
    rest = [place for place, unit in enumerate(units) if unit not in of_race]
    return {RACE: race, CONFIRMATION: rest}


def refuse_one_unit(units: Sequence[str], what: str) -> None:
    """Refuse what cannot be halved.

    Raises:
        ValueError: all are of one unit.
    """
    if len(set(units)) < 2:
        raise ValueError(f"all {what} are one cluster, and the race and its confirmation need others.")


def refuse_trained_questions(dev: DevQuestions, job: Job) -> None:
    """Refuse questions that training rows ask too, in whatever prompt or chat template: see `QuestionIndex`.

    Raises:
        ValueError: names the first question and the row.
    """
    by_text = {question.text: question for question in dev.questions}
    index, tokenizer = QuestionIndex(by_text), tokenizer_of_run(job)
    for rows in load_sets(job, job.train, "train_dataset").rows:
        for number, row in enumerate(rows, 1):
            for text in (*_leaves(row), *_token_texts(row, tokenizer)):
                if (found := index.found_in(text)) is not None:
                    raise ValueError(
                        f"development question {by_text[found].qid!r} ({printable(found)!r}) is also training row "
                        f"{number} of `train_dataset`, so its score would say nothing. Take it out of one of the two."
                    )


def _token_texts(row: Mapping[str, Any], tokenizer: Any) -> Iterator[str]:
    """The texts of a row of token ids: what is learned, and what is not, by themselves."""
    ids = row.get("input_ids")
    if ids is None:
        return
    labels = row.get("labels") or ids
    for _, pairs in groupby(zip(ids, labels, strict=False), key=lambda pair: pair[1] == IGNORED):
        yield str(tokenizer.decode([token for token, _ in pairs], clean_up_tokenization_spaces=False))


def _leaves(value: Any) -> Iterator[str]:
    """Every text in a row."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _leaves(each)
    elif isinstance(value, list | tuple) and not (value and isinstance(value[0], int | float)):
        for each in value:
            yield from _leaves(each)
