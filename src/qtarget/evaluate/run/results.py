"""What an evaluation found: the numbers of `results.json`."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from qtarget.evaluate.effects.measured import RunEffects
from qtarget.evaluate.nouns import Answers, Record, SamplingProtocol, TaskRun
from qtarget.evaluate.statistics import Estimate, average_at_k, pass_at_k
from qtarget.evaluate.store import task_sha

TRUNCATED = 0.05
"""Above this share of completions cut off at the limit, a score says little of the model."""


@dataclass(frozen=True)
class TaskResult:
    """One task's numbers; shares are of all samples.

    Attributes:
        average: Average@k and its interval by question (or cluster); samples of unknown grade count as not right.
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
    ask: SamplingProtocol
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
    """All tasks of a run. `as_json` of it is plain JSON.

    Attributes:
        model, generation: what the generator said of itself.
        notices: what happened to the folder on the way, such as a line cut off.
        effects: what else was measured; in a file of its own.
    """

    folder: Path
    model: Mapping[str, Any]
    generation: Mapping[str, Any]
    tasks: tuple[TaskResult, ...]
    notices: tuple[str, ...] = ()
    effects: RunEffects | None = None

    def as_json(self) -> dict[str, Any]:
        found = {**asdict(self), "folder": str(self.folder)}
        found.pop("effects")
        return found


def summarise(asked: TaskRun, answers: Answers) -> TaskResult:
    """A task's numbers from its answers.

    Raises:
        ValueError: a question that has not exactly k samples.
    """
    average, passed = average_of(answers)
    every = [record for records in answers.records for record in records]
    facts = answers.task
    return TaskResult(
        task=facts.name,
        version=facts.version,
        suite=facts.suite,
        task_sha=task_sha(asked),
        rows=asked.rows,
        ask=answers.ask,
        overridden=asked.overridden,
        questions=len(answers.questions),
        average=average,
        pass_at_k=passed,
        unknown=dict(Counter(record.grade_reason for record in every if record.grade is None)),
        truncated=_share(every, lambda record: record.finish_reason == "length"),
        no_answer=_share(every, lambda record: record.grade_reason == "no_answer"),
        mean_tokens=fmean(record.n_tokens for record in every),
        warnings=(*asked.remarks, *warnings_of(answers)),
    )


def average_of(answers: Answers) -> tuple[Estimate, float]:
    """Average@k and pass@k. Questions of one cluster are resampled together.

    Raises:
        ValueError: a question that has not exactly k samples, by its name.
    """
    grades, units, k = answers.grades, answers.units, answers.ask.k
    try:
        average = average_at_k(grades, k, units=units, names=answers.names)
    except ValueError as error:
        raise ValueError(f"{answers.task.name}: {error}") from error
    return average, pass_at_k(grades, k, k, units=units).mean


def warnings_of(answers: Answers) -> list[str]:
    """What a reader should know before believing the numbers."""
    every = [record for records in answers.records for record in records]
    found = []
    cut = _share(every, lambda record: record.finish_reason == "length")
    if cut == 1:
        found.append(
            "no completion ended by itself: the stop token was never learned, or max_new_tokens is far too low"
        )
    elif cut > TRUNCATED:
        found.append(f"{cut:.0%} of completions were cut off at the limit of {answers.ask.max_new_tokens} tokens")
    if same := identical(answers):
        found.append(
            f"all {answers.ask.k} samples of {same} of {len(answers.questions)} questions are identical at temperature "
            f"{answers.ask.temperature:g}: does the engine give every sample a seed of its own?"
        )
    if unknown := sum(record.grade is None for record in every):
        share = unknown / len(every)
        found.append(f"{unknown} samples have no known grade and count as not right: up to {share:.1%} more could be")
    if answers.generation.get("version") is None:
        found.append("the server does not say its version, and scores change with it")
    return found


def identical(answers: Answers) -> int:
    """Questions whose samples, drawn at random, all say the same."""
    if answers.ask.temperature == 0 or answers.ask.k < 2:
        return 0
    return sum(len({record.completion for record in records}) == 1 for records in answers.records)


def _share(records: list[Record], holds: Any) -> float:
    return fmean(map(holds, records))
