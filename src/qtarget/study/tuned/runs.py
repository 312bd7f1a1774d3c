"""Making one run of the study: its model, its answers, and what is measured besides accuracy."""

import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel

import qtarget as qt
from qtarget import lab
from qtarget.disk.held_folders import check_not_replaced
from qtarget.evaluate.effects import calibration, forgetting, token_row
from qtarget.evaluate.nouns import SamplingProtocol
from qtarget.lab import Demonstration, LabQuestion
from qtarget.study.fine_tuning import lab_trainer
from qtarget.study.scoring import score_model
from qtarget.study.tuned.design import TEACHER, TunedStudy
from qtarget.study.tuned.outcome import DrawnAnswers, StudyOutcome, StudyRun, keep_outcome, known_outcome
from qtarget.study.tuned.pretrained import Pretraining
from qtarget.study.tuned.rounds_training import OwnSampling, right_rows, train_in_rounds
from qtarget.study.tuned.settings import Setting
from qtarget.study.tuned.tuned_arms import OF_THE_TRAINER, Decoding, of_the_method

CLEAN_SEED = 10_000
"""Of the demonstrations without a wrong step, on which calibration is measured."""
_PACKAGES = ("qtarget", "torch", "transformers", "trl")


def models_for(setting: Setting, seed: int) -> tuple[Pretraining, Pretraining]:
    """The student and the teacher of a setting, pre-trained from a seed."""
    world = setting.world
    return Pretraining("student", world.student, seed), Pretraining("teacher", world.teacher, seed)


def finished_run(run: StudyRun, setting: Setting, study: TunedStudy, models: Path, results: Path) -> StudyOutcome:
    """The run's outcome: read from the results where it is there, else made and kept there."""
    if (known := known_outcome(run, results)) is not None:
        return known
    outcome = made_outcome(run, setting, study, models)
    keep_outcome(outcome, results)
    return outcome


def made_outcome(
    run: StudyRun, setting: Setting, study: TunedStudy, models: Path, *, save_to: Path | None = None
) -> StudyOutcome:
    """Train, where the run does; draw answers in each of its ways; in the test, measure the effects.

    Args:
        save_to: folder for a trained model and its tokenizer.
    """
    started = time.process_time()
    student, teacher = (each.path(models) for each in models_for(setting, run.models))
    development, test = study.questions(setting.world)
    questions = development if run.split == "development" else test
    model, losses = _model(run, setting, study, student, teacher, save_to)
    answers = {each.label: _answers(model, run, setting, study, questions, each) for each in run.decodings}
    has_effects = run.split == "test" and run.method != TEACHER
    effects = run_effects(model, lab.load(student), setting, questions) if has_effects else {}
    made_with = {**{name: version(name) for name in _PACKAGES}, "machine": platform.machine()}
    return StudyOutcome(run, answers, effects, losses, round(time.process_time() - started, 1), made_with)


def _model(
    run: StudyRun, setting: Setting, study: TunedStudy, student: Path, teacher: Path, save_to: Path | None
) -> tuple[PreTrainedModel, list[float]]:
    """The run's model, and the losses of its training."""
    if not run.trains:
        return lab.load(teacher if run.method == TEACHER else student), []
    world, losses = setting.world, list[float]()

    def train(model: PreTrainedModel, rows: Sequence[Demonstration], steps: int) -> PreTrainedModel:
        model, lost = _trained(run, setting, model, rows, teacher, steps, save_to)
        losses.extend(lost)
        return model

    rows = lab.demonstrations(replace(world, demonstrations=study.demonstrations), seed=run.seed)
    if (own := OwnSampling.of(run.knobs)) is not None:
        return train_in_rounds(own, partial(lab.load, student), rows, world, run.steps, run.seed, train), losses
    return train(lab.load(student), right_rows(rows) if run.knobs.get("rows") == "right" else rows, run.steps), losses


def _trained(
    run: StudyRun, setting: Setting, model: PreTrainedModel, rows: Sequence[Demonstration], teacher: Path, steps: int,
    save_to: Path | None,
) -> tuple[PreTrainedModel, list[float]]:  # fmt: skip
    """The model after so many steps on these rows, and their losses."""
    world, own = setting.world, {name: run.knobs[name] for name in OF_THE_TRAINER if name in run.knobs}
    with TemporaryDirectory(prefix="qtarget-study-") as scratch:  # another for each run that trains at the same time
        trainer = lab_trainer(
            qt.method(run.method, **of_the_method(run.knobs)),
            model,
            world,
            rows,
            own.get("teacher", teacher),
            Path(scratch),
            steps=steps,
            batch_size=world.batch_size,
            learning_rate=run.rate * world.learning_rate,
            seed=run.seed,
            ema=own.get("ema"),
        )
        trainer.train()
        if save_to is not None:
            check_not_replaced(save_to)
            trainer.save_model(str(save_to))
    return trainer.model, [float(f"{entry['loss']:.4g}") for entry in trainer.state.log_history if "loss" in entry]


def _answers(
    model: PreTrainedModel, run: StudyRun, setting: Setting, study: TunedStudy, questions: Sequence[LabQuestion],
    decoding: Decoding,
) -> DrawnAnswers:  # fmt: skip
    k = study.samples if decoding.temperature else 1
    protocol = SamplingProtocol(
        "plain", k, decoding.temperature, decoding.top_p, setting.world.max_new_tokens, seed=run.seed
    )
    scored = score_model(model, lab.tokenizer(setting.world), questions, protocol)
    right = [sum(row) for row in scored.correct]
    return DrawnAnswers(right, k, round(scored.truncated_share, 5), round(scored.mean_tokens, 2))


def run_effects(
    model: PreTrainedModel, student: PreTrainedModel, setting: Setting, questions: Sequence[LabQuestion]
) -> dict[str, float]:
    """Forgetting on text that the student wrote before training, calibration on demonstrations without a wrong step."""
    world, prompts = setting.world, [question["prompt"] for question in questions]
    tokenizer = lab.tokenizer(world)
    forgotten = forgetting(model, student, tokenizer, prompts, max_new_tokens=world.max_new_tokens)
    clean = replace(world, demonstrator=replace(world.demonstrator, slips=0.0), demonstrations=len(prompts))
    rows = [token_row(tokenizer, row["prompt"], row["completion"]) for row in lab.demonstrations(clean, CLEAN_SEED)]
    calibrated = calibration(model, rows)
    effects = {
        "forgetting_kl": forgotten.kl,
        "ece": calibrated.ece,
        "overconfidence": calibrated.overconfidence,
        "true_nll": calibrated.nll,
    }
    return {name: round(value, 5) for name, value in effects.items()}
