"""A run of the study and what it gave, which is kept as a JSON file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from qtarget.study.kept_outcomes import values_of_outcome, write_outcome
from qtarget.study.tuned.tuned_arms import Configuration, Decoding


@dataclass(frozen=True)
class StudyRun:
    """A training, or a model as it comes, and how its answers are drawn. Equal runs give the same outcome.

    Attributes:
        place: the folder of its outcome: the setting, or what of it the run depends on.
        method: of the catalogue, "base" or "teacher".
        knobs, rate, steps: as in `tuned_arms.Configuration`; {}, 0 and 0 where nothing is trained.
        seed: of the demonstrations, their order and the samples.
        split: "development" or "test".
        models: seed of the pre-training of student and teacher.
    """

    place: str
    method: str
    knobs: Mapping[str, Any]
    rate: float
    steps: int
    seed: int
    split: str
    models: int
    decodings: tuple[Decoding, ...]

    @property
    def name(self) -> str:
        """A name for the run's file, unique within its place."""
        words = [Configuration(self.rate, self.steps, self.knobs).label] if self.steps else []
        end = [self.split] if self.split == "development" else [self.split, str(self.seed)]
        return "-".join([self.method, *words, *end])

    @property
    def trains(self) -> bool:
        return self.steps > 0

    def with_decodings(self, decodings: tuple[Decoding, ...]) -> "StudyRun":
        return replace(self, decodings=decodings)


@dataclass(frozen=True)
class DrawnAnswers:
    """Grades of the answers drawn in one way.

    Attributes:
        right: right answers of k, by question.
        truncated_share: share of answers cut off at the length limit.
        mean_tokens: of an answer.
    """

    right: list[int]
    k: int
    truncated_share: float
    mean_tokens: float


@dataclass(frozen=True)
class StudyOutcome:
    """What a run gave.

    Attributes:
        answers: by the label of the decoding.
        effects: what else was measured, by name; of the test only.
        losses: the objective's value in ten parts of the training.
        seconds: of one processor.
        made_with: versions of the libraries, and the machine.
    """

    run: StudyRun
    answers: dict[str, DrawnAnswers]
    effects: dict[str, float]
    losses: list[float]
    seconds: float
    made_with: dict[str, str]

    def shares(self, decoding: Decoding) -> list[float]:
        """Share of right answers, by question."""
        drawn = self.answers[decoding.label]
        return [right / drawn.k for right in drawn.right]

    def pass_at_k(self, decoding: Decoding) -> float:
        """Share of questions with one right answer at least."""
        return fmean(right > 0 for right in self.answers[decoding.label].right)


def path_of(run: StudyRun, results: Path) -> Path:
    """The file of a run's outcome."""
    return results / run.place / f"{run.name}.json"


def keep_outcome(outcome: StudyOutcome, results: Path) -> None:
    """Write the outcome as JSON."""
    write_outcome(outcome, path_of(outcome.run, results))


def read_study_outcome(path: Path) -> StudyOutcome:
    """An outcome that was kept.

    Raises:
        ValueError: the file holds something else, as that of another version of qtarget does.
    """
    values = values_of_outcome(path, ("run", "answers"), "a study")
    try:
        decodings = tuple(Decoding(*each) for each in values["run"]["decodings"])
        run = StudyRun(**{**values["run"], "decodings": decodings})
        answers = {label: DrawnAnswers(**drawn) for label, drawn in values["answers"].items()}
        outcome = StudyOutcome(**{**values, "run": run, "answers": answers})
        _check_figures(outcome)
        return outcome
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is not an outcome as this version writes it; remove it to run it again.") from error


def _check_figures(outcome: StudyOutcome) -> None:
    """Refuse figures that no run can give: a decoding without answers, more right answers than were drawn, or a value
    that is no number."""
    if missing := {each.label for each in outcome.run.decodings} - outcome.answers.keys():
        raise ValueError(f"no answers of {missing}")
    for drawn in outcome.answers.values():
        if not drawn.right or any(type(right) is not int or not 0 <= right <= drawn.k for right in drawn.right):
            raise ValueError(f"right answers of {drawn.k}")
    measured: Sequence[Any] = (*outcome.effects.values(), *outcome.losses, outcome.seconds)
    if not all(isinstance(figure, int | float) for figure in measured):
        raise ValueError("a figure that is no number")


def known_outcome(run: StudyRun, results: Path) -> StudyOutcome | None:
    """The run's outcome, if it is among the results; it may hold further decodings.

    Raises:
        ValueError: its file holds something else.
    """
    path = path_of(run, results)
    if not path.is_file():
        return None
    outcome = read_study_outcome(path)
    is_it = replace(outcome.run, decodings=run.decodings) == run and set(run.decodings) <= set(outcome.run.decodings)
    return outcome if is_it else None


def check_study_outcomes(results: Path) -> None:
    """Refuse a folder of outcomes in which one is damaged, or stands at another run's place.

    Raises:
        ValueError: names the file.
    """
    for path in sorted(results.glob("*/*.json")):
        outcome = read_study_outcome(path)
        if path_of(outcome.run, results) != path:
            raise ValueError(
                f"{path} holds the outcome of {outcome.run.place}/{outcome.run.name}; remove it to run it again."
            )
