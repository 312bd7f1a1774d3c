"""One run of the study: a fine-tuning, or an untouched model, scored and kept as one JSON file."""

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any, Literal

import qtarget as qt
from qtarget import lab
from qtarget.evaluate.effects import calibration, forgetting, token_row
from qtarget.evaluate.nouns import SamplingProtocol
from qtarget.evaluate.store import replace_file
from qtarget.lab import LabQuestion, World
from qtarget.study.fine_tuning import StepCallback, lab_trainer
from qtarget.study.miniature.model_folders import model_path
from qtarget.study.scoring import ModelScore, score_model

Split = Literal["development", "test"]
UNTOUCHED = ("base", "teacher")
QUESTIONS_SEED = 0
CLEAN_SEED = 10_000
_PACKAGES = ("qtarget", "torch", "transformers", "trl")


@dataclass(frozen=True)
class Budget:
    """How much of everything a run gets."""

    demonstrations: int
    steps: int
    batch_size: int
    learning_rate: float
    development: int  # questions that η is chosen on
    test: int
    samples: int
    max_new_tokens: int


@dataclass(frozen=True)
class Run:
    """What is run. The seed is that of demonstrations, their order, and samples; questions are the setting's own.

    Attributes:
        method: of the catalogue, or "base" or "teacher" for a model as it is.
    """

    setting: str
    method: str
    hyperparameters: dict[str, Any]
    seed: int
    split: Split
    budget: Budget

    @property
    def name(self) -> str:
        values = [f"{key}{value:g}" for key, value in self.hyperparameters.items()]
        return "-".join([self.method, *values, self.split, str(self.seed)])

    @property
    def trains(self) -> bool:
        return self.method not in UNTOUCHED


@dataclass(frozen=True)
class Outcome:
    """What a run gave.

    Attributes:
        right: of `budget.samples` answers, by question.
        greedy: share of questions whose likeliest answer, that of temperature 0, is right.
        distinct: answers to a question that differ, on average.
        losses: the objective's value in ten parts of the training.
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


def path_of(run: Run, results: Path) -> Path:
    return results / run.setting / f"{run.name}.json"


def read(path: Path) -> Outcome:
    values = json.loads(path.read_text())
    run = Run(**{**values["run"], "budget": Budget(**values["run"]["budget"])})
    return Outcome(**{**values, "run": run})


def found(run: Run, results: Path) -> Outcome | None:
    """The outcome that an earlier call kept, if it was of this very run."""
    path = path_of(run, results)
    outcome = read(path) if path.is_file() else None
    return outcome if outcome is not None and outcome.run == run else None


def score(run: Run, world: World, models: Path, results: Path, step: StepCallback) -> Outcome:
    """The run's outcome: read from `results`, or made and kept there."""
    if (kept := found(run, results)) is not None:
        return kept
    started = time.monotonic()
    model, losses = _model(run, world, models, step)
    questions, protocol = split_questions(run, world), _protocol(run)
    answered = score_model(model, lab.tokenizer(world), questions, protocol, step)
    once = score_model(model, lab.tokenizer(world), questions, replace(protocol, k=1, temperature=0.0))
    outcome = Outcome(
        run=run,
        right=[sum(row) for row in answered.correct],
        truncated_share=answered.truncated_share,
        mean_tokens=round(answered.mean_tokens, 2),
        distinct=_distinct(answered),
        losses=losses,
        greedy=round(once.average.mean, 4),
        seconds=round(time.monotonic() - started, 1),
        effects=run_effects(model, run, world, models),
        made_with={**{name: version(name) for name in _PACKAGES}, "machine": platform.machine()},
    )
    _write(path_of(run, results), outcome)
    return outcome


def split_questions(run: Run, world: World) -> Sequence[LabQuestion]:
    """The split's questions: development's come first, and the two share none."""
    both = lab.questions(world, run.budget.development + run.budget.test, seed=QUESTIONS_SEED)
    return both[: run.budget.development] if run.split == "development" else both[run.budget.development :]


def _protocol(run: Run) -> SamplingProtocol:
    return SamplingProtocol("plain", run.budget.samples, max_new_tokens=run.budget.max_new_tokens, seed=run.seed)


def _model(run: Run, world: World, models: Path, step: StepCallback) -> tuple[Any, list[float]]:
    student, teacher = model_path(world.student, "student", models), model_path(world.teacher, "teacher", models)
    if not run.trains:
        return lab.load(teacher if run.method == "teacher" else student), []
    budget = run.budget
    trainer = lab_trainer(
        qt.method(run.method, **run.hyperparameters),
        lab.load(student),
        world,
        lab.demonstrations(replace(world, demonstrations=budget.demonstrations), seed=run.seed),
        teacher,
        models.parent / "trainer",
        step,
        steps=budget.steps,
        batch_size=budget.batch_size,
        learning_rate=budget.learning_rate,
        seed=run.seed,
    )
    trainer.train()
    return trainer.model, [float(f"{entry['loss']:.6g}") for entry in trainer.state.log_history if "loss" in entry]


def run_effects(model: Any, run: Run, world: World, models: Path) -> dict[str, float]:
    """Forgetting on the student's own text, calibration on demonstrations without a wrong step."""
    tokenizer, student = lab.tokenizer(world), lab.load(model_path(world.student, "student", models))
    asked = [question["prompt"] for question in split_questions(run, world)]
    moved = forgetting(model, student, tokenizer, asked, max_new_tokens=run.budget.max_new_tokens)
    true = replace(world, demonstrator=replace(world.demonstrator, slips=0.0), demonstrations=len(asked))
    rows = [token_row(tokenizer, row["prompt"], row["completion"]) for row in lab.demonstrations(true, CLEAN_SEED)]
    sure = calibration(model, rows)
    kept = {"forgetting_kl": moved.kl, "forgetting_nll": moved.nll - moved.base_nll}
    kept |= {"ece": sure.ece, "overconfidence": sure.overconfidence, "true_nll": sure.nll}
    return {name: round(value, 5) for name, value in kept.items()}


def _distinct(answered: ModelScore) -> float:
    """Final answers to a question that differ, on average."""
    return round(
        fmean(len({completion.text.rpartition("answer")[2] for completion in row}) for row in answered.completions), 3
    )


def _write(path: Path, outcome: Outcome) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, (json.dumps(asdict(outcome), ensure_ascii=False) + "\n").encode())
