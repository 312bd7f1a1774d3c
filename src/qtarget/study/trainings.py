"""The arms of a study: one fine-tuning each, through the trainer that users get, scored and kept on disk."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

import qtarget as qt
from qtarget import lab
from qtarget.evaluate.nouns import SamplingProtocol
from qtarget.evaluate.store import write_json
from qtarget.lab import World
from qtarget.study.fine_tuning import StepCallback, lab_trainer
from qtarget.study.scoring import score_model


@dataclass(frozen=True)
class DemoArm:
    """A model to score: the untouched base or teacher (method None), or the base fine-tuned by a method."""

    name: str
    method: str | None = None
    hyperparameters: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DemoBudget:
    """How much of everything; the whole of it is part of a result's identity."""

    world: str
    seed: int
    demonstrations: int
    steps: int
    batch_size: int
    learning_rate: float
    questions: int
    samples: int
    max_new_tokens: int

    @staticmethod
    def of(world: World, seed: int, questions: int = 120, quick: bool = False) -> "DemoBudget":
        """The world's own budget; `quick` is a tenth of it, to see that everything works."""
        part = 10 if quick else 1
        return DemoBudget(
            world=world.name,
            seed=seed,
            demonstrations=world.demonstrations // part,
            steps=max(world.fine_tuning_steps // part, 2),
            batch_size=world.batch_size,
            learning_rate=world.learning_rate,
            questions=questions // part,
            samples=16 if not quick else 4,
            max_new_tokens=world.max_new_tokens,
        )


@dataclass(frozen=True)
class Score:
    """What an arm reached. `correct` is [questions][samples]."""

    arm: DemoArm
    budget: DemoBudget
    mean: float
    low: float
    high: float
    truncated_share: float
    mean_tokens: float
    seconds: float
    log: list[dict[str, float]]
    correct: list[list[bool]]


def score_arm(arm: DemoArm, world: World, budget: DemoBudget, folder: Path, step: StepCallback) -> Score:
    """The arm's score: read from `folder` if it is there for this very budget, else made and saved.

    A fine-tuned model and its tokenizer are saved beside the score, which is written last: a run that was interrupted
    takes up where it stopped.
    """
    saved = folder / "score.json"
    if saved.is_file() and (found := _read(saved)).budget == budget and found.arm == arm:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    model, log = _model(arm, world, budget, folder, step)
    result = score_model(
        model,
        lab.tokenizer(world),
        lab.questions(world, budget.questions, seed=budget.seed),
        SamplingProtocol("plain", budget.samples, max_new_tokens=budget.max_new_tokens, seed=budget.seed),
        step,
    )
    average = result.average
    score = Score(
        arm, budget, average.mean, average.low, average.high, result.truncated_share, result.mean_tokens,
        time.monotonic() - started, log, result.correct,
    )  # fmt: skip
    write_json(saved, asdict(score))
    return score


def _model(
    arm: DemoArm, world: World, budget: DemoBudget, folder: Path, step: StepCallback
) -> tuple[PreTrainedModel, list[dict[str, float]]]:
    if arm.method is None:
        return (lab.load_teacher if arm.name == "teacher" else lab.load_student)(world), []
    trainer = lab_trainer(
        qt.method(arm.method, **arm.hyperparameters),
        lab.load_student(world),
        world,
        lab.demonstrations(world, seed=budget.seed)[: budget.demonstrations],
        lab.teacher_path(world),
        folder / "run",
        step,
        steps=budget.steps,
        batch_size=budget.batch_size,
        learning_rate=budget.learning_rate,
        seed=budget.seed,
    )
    trainer.train()
    trainer.save_model(str(folder / "model"))
    return trainer.model.eval(), [entry for entry in trainer.state.log_history if "loss" in entry]


def _read(path: Path) -> Score:
    values = json.loads(path.read_text())
    return Score(**{**values, "arm": DemoArm(**values["arm"]), "budget": DemoBudget(**values["budget"])})


def world_fingerprint(world: World) -> str:
    """sha256 of the shipped student and teacher, to tell results of different builds apart."""
    digest = hashlib.sha256()
    for folder in (lab.student_path(world), lab.teacher_path(world)):
        digest.update((folder / "model.safetensors").read_bytes())
    return digest.hexdigest()[:12]
