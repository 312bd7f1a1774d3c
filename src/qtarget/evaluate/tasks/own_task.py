"""A user's own questions as a task: a file of rows, a grader, and a protocol."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qtarget.data.user_files.formats import FORMATS, GZIPPED
from qtarget.evaluate.grading.grader_settings import make_grader, parse_grader
from qtarget.evaluate.nouns import OWN, RowSource, SamplingProtocol, Task
from qtarget.evaluate.tasks.catalogue import TASKS
from qtarget.evaluate.tasks.own_questions import OwnQuestions

OWN_ASK = SamplingProtocol("auto", k=4, temperature=1.0, top_p=1.0, max_new_tokens=1024)
"""How own questions are asked unless it is said: as the model was trained to answer (temperature 1, the whole softmax),
four times, since more questions say more than more samples of each."""
BOXED_GRADERS = ("math", "choice")
"""Graders that look for a box, so the prompt asks for one."""
TASK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def own_task(
    file: str | Path,
    grade: str,
    *,
    name: str = "",
    fields: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    ask: SamplingProtocol | None = None,
) -> Task:
    """Questions of a user's own as a task, which `EvaluationPlan` takes as it takes the names of others.

    Args:
        file: rows in JSON, JSON lines, CSV, TSV or Parquet, also gzipped.
        grade: "exact", "contains", "regex", "number", "choice", "math", "judge", or "python:FILE:FUNCTION".
        name: of the task; the file's, where none is given.
        fields: the names of the fields that hold question, context, answer, options, id; those not named are found.
        settings: of the grader: what its class takes.
        ask: the protocol; `OWN_ASK` where none is given, with an instruction to box for "math" and "choice".

    Raises:
        ValueError: an unknown grader, field or setting, or a name that a task of the catalogue has.
    """
    path = Path(file)
    grader, of_grade = parse_grader(grade)
    settings = {**of_grade, **(settings or {})}
    judge: Any = make_grader(grader, settings)
    read = OwnQuestions(dict(fields or {}), getattr(judge, "trouble", lambda _: None), grader == "choice")
    source, named = RowSource(file=path), checked_name(name or name_of_file(path))
    return Task(named, 1, OWN, source, None, ask or own_ask(grader), read, grader, str(path), settings)


def own_ask(grader: str) -> SamplingProtocol:
    """The protocol for own questions under a grader."""
    return replace(OWN_ASK, prompt="auto-boxed") if grader in BOXED_GRADERS else OWN_ASK


def name_of_file(path: Path) -> str:
    """A task's name made of a file's: without its endings, with hyphens for what a name cannot hold."""
    stem = path.name
    for ending in (GZIPPED, *FORMATS):
        stem = stem[: -len(ending)] if stem.lower().endswith(ending) else stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._")[:64]


def checked_name(name: str) -> str:
    """The name, if own questions may bear it.

    Raises:
        ValueError: it is no name for a folder, or a task of the catalogue has it.
    """
    if not TASK_NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name a task, whose samples stand in a folder of that name: letters, digits, `.`, `_` and "
            "`-`, at most 64. Write --questions NAME=FILE."
        )
    if name.casefold() in {task.casefold() for task in TASKS}:
        raise ValueError(
            f"{name!r} is a task of the catalogue, and questions of your own under its name would be taken for it. "
            f"Write --questions my-{name}=FILE."
        )
    return name
