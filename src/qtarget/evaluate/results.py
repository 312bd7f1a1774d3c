"""What an evaluation found: the numbers of `results.json`."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtarget.evaluate.statistics import Estimate
from qtarget.evaluate.types import Ask


@dataclass(frozen=True)
class TaskResult:
    """One task's numbers; shares are of all samples.

    Attributes:
        average: Average@k and its interval by question; samples of unknown grade count as not right.
        pass_at_k: share of questions with a right sample among the k.
        unknown: samples of unknown grade, by reason.
        truncated: share cut off at the limit.  no_answer: share in which no answer was found.
        overridden: fields of the protocol that are not the task's own.
    """

    task: str
    version: int
    suite: str
    task_sha: str
    rows: str
    ask: Ask
    overridden: tuple[str, ...]
    questions: int
    average: Estimate
    pass_at_k: float
    unknown: Mapping[str, int]
    truncated: float
    no_answer: float
    mean_tokens: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Results:
    """All tasks of a run. `dataclasses.asdict` of it is plain JSON, but for the folder.

    Attributes:
        model, generation: what the generator said of itself.
    """

    folder: Path
    model: Mapping[str, Any]
    generation: Mapping[str, Any]
    tasks: tuple[TaskResult, ...]
