"""The results of an evaluation: the numbers of `results.json`, and the warnings beside them."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from qtarget.evaluate.confidence import Estimate, average_at_k, pass_at_k
from qtarget.evaluate.effects.run_effects import RunEffects
from qtarget.evaluate.grading.judge_agreement import Agreement
from qtarget.evaluate.nouns import NO_ANSWER, OWN, Answers, Record, SamplingProtocol, TaskRun
from qtarget.evaluate.store import SAMPLES, task_sha

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
        rows: where the questions come from and the sha256 of the rows, in words.
        ask: the protocol by which the task was run.
        overridden: what of the protocol and the questions is not the task's own.
        questions: their number.
        warnings: what a reader should know before believing the numbers.
        grader: its name.
        agreement: of a judge with grades given by hand, where there are some.
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
    grader: str = ""
    agreement: Agreement | None = None


@dataclass(frozen=True)
class Results:
    """All tasks of a run. `as_json` of it is plain JSON.

    Attributes:
        model, generation: the generator's fingerprint.
        notices: what was mended in the folder on the way, such as a torn line that was cut off.
        effects: what was measured besides accuracy; it has a file of its own.
    """

    folder: Path
    model: Mapping[str, Any]
    generation: Mapping[str, Any]
    tasks: tuple[TaskResult, ...]
    notices: tuple[str, ...] = ()
    effects: RunEffects | None = None

    def as_json(self) -> dict[str, Any]:
        """The content of `results.json`."""
        values = {**asdict(self), "folder": str(self.folder)}
        values.pop("effects")
        return values


def summarise(run: TaskRun, answers: Answers) -> TaskResult:
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
        task_sha=task_sha(run),
        rows=run.rows,
        ask=answers.ask,
        overridden=run.overridden,
        questions=len(answers.questions),
        average=average,
        pass_at_k=passed,
        unknown=dict(Counter(record.grade_reason for record in every if record.grade is None)),
        truncated=_share(every, lambda record: record.finish_reason == "length"),
        no_answer=_share(every, lambda record: record.grade_reason in NO_ANSWER),
        mean_tokens=fmean(record.n_tokens for record in every),
        warnings=(*run.remarks, *warnings_of(answers)),
        grader=facts.grader,
    )


def average_of(answers: Answers) -> tuple[Estimate, float]:
    """Average@k and pass@k. Questions of one cluster are resampled together.

    Raises:
        ValueError: a question that has not exactly k samples, by its name.
    """
    grades, units, k = answers.grades, answers.units, answers.ask.k
    try:
        average = average_at_k(grades, k, units=units, names=answers.qids)
    except ValueError as error:
        raise ValueError(f"{answers.task.name}/{SAMPLES}: {error}") from error
    return average, pass_at_k(grades, k, k, units=units).mean


def warnings_of(answers: Answers) -> list[str]:
    """What a reader should know before believing the numbers."""
    every = [record for records in answers.records for record in records]
    partly = "not all" if answers.task.suite == OWN else "not the task's own"
    warnings = [f"{partly} {name}" for name in answers.overridden if name.startswith("questions")]
    cut = _share(every, lambda record: record.finish_reason == "length")
    if cut == 1:
        warnings.append(
            "no completion ended by itself: the stop token was never learned, or max_new_tokens is far too low"
        )
    elif cut > TRUNCATED:
        warnings.append(f"{cut:.0%} of completions were cut off at the limit of {answers.ask.max_new_tokens} tokens")
    if same := identical(answers):
        warnings.append(
            f"all {answers.ask.k} samples of {same} of {len(answers.questions)} questions are identical at temperature "
            f"{answers.ask.temperature:g}: does the engine give every sample a seed of its own?"
        )
    if unknown := sum(record.grade is None for record in every):
        share = unknown / len(every)
        warnings.append(
            f"{unknown} samples have no known grade and count as not right: up to {share:.1%} more could be"
        )
    if failed := [record for record in every if record.grade_reason == "grader_failed"]:
        first = failed[0]
        warnings.append(f"the grader failed on {len(failed)} samples; on {first.qid!r}: {first.grade_note}")
    if answers.generation.get("version") is None:
        warnings.append("the server does not say its version, and scores change with it")
    return warnings


def identical(answers: Answers) -> int:
    """The number of questions whose k samples, drawn at random, are one and the same text."""
    if answers.ask.temperature == 0 or answers.ask.k < 2:
        return 0
    return sum(len({record.completion for record in records}) == 1 for records in answers.records)


def _share(records: list[Record], holds: Callable[[Record], bool]) -> float:
    return fmean(map(holds, records))
