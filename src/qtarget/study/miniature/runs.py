"""A run of the study: its questions, its models, and what is measured besides accuracy."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedModel

from qtarget import lab
from qtarget.evaluate.effects import calibration, forgetting, token_row
from qtarget.lab import LabQuestion, World
from qtarget.study.experiment import LabModels, conduct_run, protocol_of
from qtarget.study.fine_tuning import StepCallback
from qtarget.study.miniature.model_folders import model_path
from qtarget.study.run_record import Outcome, Run, save_outcome, saved_outcome
from qtarget.study.scoring import score_model

QUESTIONS_SEED = 0
CLEAN_SEED = 10_000
"""Of the demonstrations without a wrong step."""


def path_of(run: Run, results: Path) -> Path:
    """The file of a run's outcome."""
    return results / run.setting / f"{run.name}.json"


def finished_outcome(run: Run, results: Path) -> Outcome | None:
    """The run's outcome, if it is among the results.

    Raises:
        ValueError: its file holds something else.
    """
    return saved_outcome(run, path_of(run, results))


def study_outcome(run: Run, world: World, models: Path, results: Path, step: StepCallback) -> Outcome:
    """The run's outcome: read from the results where it is there, else made and saved there."""
    if (finished := finished_outcome(run, results)) is not None:
        return finished
    measure = partial(_measure, run=run, world=world, models=models)
    questions, folders = split_questions(run, world), lab_models(world, models)
    with TemporaryDirectory(prefix="qtarget-study-") as scratch:  # another for each run that trains at the same time
        outcome = conduct_run(run, world, folders, questions, Path(scratch), step, measure=measure)
    save_outcome(outcome, path_of(run, results))
    return outcome


def lab_models(world: World, models: Path) -> LabModels:
    """The world's student and teacher: those that ship where they are the ones described, else in `models`."""
    return LabModels(model_path(world.student, "student", models), model_path(world.teacher, "teacher", models))


def split_questions(run: Run, world: World) -> Sequence[LabQuestion]:
    """The split's questions: development's come first, and the two share none."""
    both = lab.questions(world, run.budget.development + run.budget.test, seed=QUESTIONS_SEED)
    return both[: run.budget.development] if run.split == "development" else both[run.budget.development :]


def _measure(model: PreTrainedModel, run: Run, world: World, models: Path) -> dict[str, Any]:
    """Accuracy at temperature 0, and the effects."""
    greedy = replace(protocol_of(run), k=1, temperature=0.0)
    once = score_model(model, lab.tokenizer(world), split_questions(run, world), greedy)
    return {"greedy": round(once.average.mean, 4), "effects": run_effects(model, run, world, models)}


def run_effects(model: PreTrainedModel, run: Run, world: World, models: Path) -> dict[str, float]:
    """Forgetting on text that the student wrote before training, calibration on demonstrations without a wrong step."""
    tokenizer, student = lab.tokenizer(world), lab.load(lab_models(world, models).student)
    prompts = [question["prompt"] for question in split_questions(run, world)]
    forgotten = forgetting(model, student, tokenizer, prompts, max_new_tokens=run.budget.max_new_tokens)
    clean = replace(world, demonstrator=replace(world.demonstrator, slips=0.0), demonstrations=len(prompts))
    rows = [token_row(tokenizer, row["prompt"], row["completion"]) for row in lab.demonstrations(clean, CLEAN_SEED)]
    calibrated = calibration(model, rows)
    effects = {
        "forgetting_kl": forgotten.kl,
        "forgetting_nll": forgotten.nll - forgotten.base_nll,
        "ece": calibrated.ece,
        "overconfidence": calibrated.overconfidence,
        "true_nll": calibrated.nll,
    }
    return {name: round(value, 5) for name, value in effects.items()}
