"""The engine of the demo: a student fine-tuned by one method, or a model as it comes, answers questions."""

import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from transformers import PreTrainedModel

import qtarget as qt
from qtarget import lab
from qtarget.disk.held_folders import check_not_replaced
from qtarget.evaluate.nouns import SamplingProtocol
from qtarget.lab import LabQuestion, World
from qtarget.study.fine_tuning import StepCallback, lab_trainer
from qtarget.study.run_record import Outcome, Run
from qtarget.study.scoring import ModelScore, score_model

_PACKAGES = ("qtarget", "torch", "transformers", "trl")


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
) -> Outcome:
    """Fine-tune, where the run does; answer the questions; grade.

    Args:
        scratch: folder for what the trainer writes while it trains.
        step: hears of every optimizer step, and then of every answer.
        save_to: folder for the fine-tuned model and its tokenizer.
    """
    started = time.monotonic()
    model, losses = _model(run, world, models, scratch, step, save_to)
    answered = score_model(model, lab.tokenizer(world), questions, protocol_of(run), step)
    return Outcome(
        run=run,
        right=[sum(row) for row in answered.correct],
        truncated_share=answered.truncated_share,
        mean_tokens=round(answered.mean_tokens, 2),
        distinct=_distinct(answered),
        losses=losses,
        seconds=round(time.monotonic() - started, 1),
        made_with={**{name: version(name) for name in _PACKAGES}, "machine": platform.machine()},
    )


def protocol_of(run: Run) -> SamplingProtocol:
    """How answers of a run are drawn: at temperature 1."""
    return SamplingProtocol("plain", run.budget.samples, max_new_tokens=run.budget.max_new_tokens, seed=run.seed)


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
        check_not_replaced(save_to)
        trainer.save_model(str(save_to))
    return trainer.model, [float(f"{entry['loss']:.6g}") for entry in trainer.state.log_history if "loss" in entry]


def _distinct(score: ModelScore) -> float:
    """Final answers to a question that differ, on average."""
    final = [{completion.text.rpartition("answer")[2] for completion in row} for row in score.completions]
    return round(fmean(len(answers) for answers in final), 3)
