"""One run of an experiment on the lab, which the demo and the study share: a student fine-tuned by one method, or a
model as it comes, answers questions. What it gave is kept as a JSON file."""

import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, NamedTuple

from transformers import PreTrainedModel

import qtarget as qt
from qtarget import lab
from qtarget.evaluate import Evaluation, Sampling, evaluate
from qtarget.evaluate.statistics import Estimate, average_at_k
from qtarget.evaluate.store import replace_file
from qtarget.lab import LabQuestion, World
from qtarget.study.fine_tuning import StepCallback, lab_trainer

Split = Literal["development", "test"]
UNTRAINED = ("base", "teacher")
"""Names in the place of a method: the student and the teacher as they come."""
_PACKAGES = ("qtarget", "torch", "transformers", "trl")


@dataclass(frozen=True)
class Budget:
    """How much of everything a run gets.

    Attributes:
        demonstrations: rows to train on; steps: optimizer steps, each of `batch_size` rows.
        development: questions that hyperparameters are chosen on; test: questions that results are reported on.
        samples: answers to each question; max_new_tokens: the longest answer.
    """

    demonstrations: int
    steps: int
    batch_size: int
    learning_rate: float
    development: int
    test: int
    samples: int
    max_new_tokens: int


@dataclass(frozen=True)
class Run:
    """What is run. Two runs that are equal give the same outcome.

    Attributes:
        setting: name of the study's setting, or of the demo's world.
        method: of the catalogue, or one of `UNTRAINED`.
        seed: of the demonstrations, their order, and the samples.
        split: the questions that are answered.
    """

    setting: str
    method: str
    hyperparameters: dict[str, Any]
    seed: int
    split: Split
    budget: Budget

    @property
    def name(self) -> str:
        """Unique within a setting and budget, for a file."""
        values = [f"{key}{value:g}" for key, value in self.hyperparameters.items()]
        return "-".join([self.method, *values, self.split, str(self.seed)])

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
        greedy: share of questions whose likeliest answer (temperature 0) is right.
        effects: what else was measured, by name.
        made_with: versions of the libraries, and the machine.
    """

    run: Run
    right: list[int]
    truncated_share: float
    mean_tokens: float
    distinct: float
    losses: list[float]
    seconds: float
    greedy: float | None = None
    effects: dict[str, float] = field(default_factory=dict)
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


class LabModels(NamedTuple):
    """Folders of a world's student and teacher."""

    student: Path
    teacher: Path


def conduct_run(
    run: Run,
    world: World,
    models: LabModels,
    questions: Sequence[LabQuestion],
    scratch: Path,
    step: StepCallback,
    *,
    save_to: Path | None = None,
    measure: Callable[[PreTrainedModel], dict[str, Any]] | None = None,
) -> Outcome:
    """Fine-tune, where the run does; answer the questions; grade.

    Args:
        scratch: folder for what the trainer writes while it trains.
        step: hears of every optimizer step, and then of every answer.
        save_to: folder for the fine-tuned model and its tokenizer.
        measure: further fields of the outcome, from the model.
    """
    started = time.monotonic()
    model, losses = _model(run, world, models, scratch, step, save_to)
    answered = evaluate(model, lab.tokenizer(world), questions, lab.grade, sampling_of(run), step)
    further = {} if measure is None else measure(model)
    return Outcome(
        run=run,
        right=[sum(row) for row in answered.correct],
        truncated_share=answered.truncated_share,
        mean_tokens=round(answered.mean_tokens, 2),
        distinct=_distinct(answered),
        losses=losses,
        seconds=round(time.monotonic() - started, 1),
        made_with={**{name: version(name) for name in _PACKAGES}, "machine": platform.machine()},
        **further,
    )


def sampling_of(run: Run) -> Sampling:
    """How answers of a run are drawn: at temperature 1."""
    return Sampling(k=run.budget.samples, max_new_tokens=run.budget.max_new_tokens, seed=run.seed)


def _model(
    run: Run, world: World, models: LabModels, scratch: Path, step: StepCallback, save_to: Path | None
) -> tuple[PreTrainedModel, list[float]]:
    """The run's model, and the losses of its training."""
    if not run.trains:
        return lab.load(models.teacher if run.method == "teacher" else models.student), []
    budget = run.budget
    trainer = lab_trainer(
        qt.method(run.method, **run.hyperparameters),
        lab.load(models.student),
        world,
        lab.demonstrations(replace(world, demonstrations=budget.demonstrations), seed=run.seed),
        models.teacher,
        scratch,
        step,
        steps=budget.steps,
        batch_size=budget.batch_size,
        learning_rate=budget.learning_rate,
        seed=run.seed,
    )
    trainer.train()
    if save_to is not None:
        trainer.save_model(str(save_to))
    return trainer.model, [float(f"{entry['loss']:.6g}") for entry in trainer.state.log_history if "loss" in entry]


def _distinct(answered: Evaluation) -> float:
    return round(fmean(len({sample.text.rpartition("answer")[2] for sample in row}) for row in answered.samples), 3)


def save_outcome(outcome: Outcome, path: Path) -> None:
    """Write the outcome as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, (json.dumps(asdict(outcome), ensure_ascii=False) + "\n").encode())


def read_outcome(path: Path) -> Outcome:
    """An outcome that was saved.

    Raises:
        ValueError: the file holds something else, as that of another version of qtarget does.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        run = Run(**{**values["run"], "budget": Budget(**values["run"]["budget"])})
        return Outcome(**{**values, "run": run})
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not an outcome as this version writes it; remove it to run it again.") from error


def saved_outcome(run: Run, path: Path) -> Outcome | None:
    """The outcome at `path`, if there is one of this very run.

    Raises:
        ValueError: as `read_outcome`.
    """
    outcome = read_outcome(path) if path.is_file() else None
    return outcome if outcome is not None and outcome.run == run else None
