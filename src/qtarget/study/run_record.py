"""A run of the demo, and its outcome, which is kept as a JSON file."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from qtarget.evaluate.confidence import Estimate, average_at_k
from qtarget.study.kept_outcomes import values_of_outcome, write_outcome

UNTRAINED = ("base", "teacher")
"""Names in the place of a method: the student and the teacher as they come."""


@dataclass(frozen=True)
class Budget:
    """How much of everything a run gets.

    Attributes:
        demonstrations: rows to train on; steps: optimizer steps, each of `batch_size` rows.
        test: questions; samples: answers to each question; max_new_tokens: the longest answer.
    """

    demonstrations: int
    steps: int
    batch_size: int
    learning_rate: float
    test: int
    samples: int
    max_new_tokens: int


@dataclass(frozen=True)
class Run:
    """What is run. Two runs that are equal give the same outcome.

    Attributes:
        setting: name of the world.
        method: of the catalogue, or one of `UNTRAINED`.
        seed: of the demonstrations, their order, and the samples.
    """

    setting: str
    method: str
    hyperparameters: dict[str, Any]
    seed: int
    budget: Budget

    @property
    def label(self) -> str:
        """For a table: the method and its η."""
        eta = self.hyperparameters.get("eta")
        return self.method if eta is None else f"{self.method} η={eta:g}"

    @property
    def trains(self) -> bool:
        return self.method not in UNTRAINED


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        right: right answers of `budget.samples`, by question.
        truncated_share: share of answers cut off at the length limit.
        mean_tokens: of an answer.
        distinct: different final answers to a question, on average.
        losses: the objective's value in ten parts of the training.
        seconds: the run took.
        made_with: versions of the libraries, and the machine.
    """

    run: Run
    right: list[int]
    truncated_share: float
    mean_tokens: float
    distinct: float
    losses: list[float]
    seconds: float
    made_with: dict[str, str] = field(default_factory=dict)

    @property
    def shares(self) -> list[float]:
        """Share of right answers, by question."""
        return [right / self.run.budget.samples for right in self.right]

    @property
    def mean(self) -> float:
        return fmean(self.shares)

    @property
    def correct(self) -> list[list[bool]]:
        """Grades, [questions][samples]; within a question the right ones come first."""
        samples = self.run.budget.samples
        return [[True] * right + [False] * (samples - right) for right in self.right]

    @property
    def average(self) -> Estimate:
        """Average@k with its 95 % interval by question."""
        return average_at_k(self.correct, self.run.budget.samples)


def save_outcome(outcome: Outcome, path: Path) -> None:
    """Write the outcome as JSON."""
    write_outcome(outcome, path)


def read_outcome(path: Path) -> Outcome:
    """An outcome that was saved.

    Raises:
        ValueError: the file holds something else, as that of another version of qtarget does.
    """
    values = values_of_outcome(path, ("run", "right"), "a run")
    try:
        run = Run(**{**values["run"], "budget": Budget(**values["run"]["budget"])})
        outcome = Outcome(**{**values, "run": run})
        _check_numbers(outcome)
        return outcome
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not an outcome as this version writes it; remove it to run it again.") from error


def _check_numbers(outcome: Outcome) -> None:
    """Refuse figures that no run gives: counts that are none, or more right answers than there are."""
    samples = outcome.run.budget.samples
    if not outcome.right or any(type(right) is not int or not 0 <= right <= samples for right in outcome.right):
        raise ValueError(f"right answers of {samples}")
    figures = [outcome.truncated_share, outcome.mean_tokens, outcome.distinct, outcome.seconds, *outcome.losses]
    if not all(isinstance(figure, int | float) for figure in figures):
        raise ValueError("a figure that is no number")


def saved_outcome(run: Run, path: Path) -> Outcome | None:
    """The outcome at `path`, if there is one of this very run.

    Raises:
        ValueError: as `read_outcome`.
    """
    outcome = read_outcome(path) if path.is_file() else None
    return outcome if outcome is not None and outcome.run == run else None
