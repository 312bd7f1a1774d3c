"""From a checked `Job` to its trainer: rows and models are opened here."""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from trl import get_peft_config, get_quantization_config  # pyright: ignore[reportPrivateImportUsage]

from qtarget.data import Asker
from qtarget.data.user_files.paths import unopened_models
from qtarget.disk.files import replace_text
from qtarget.disk.os_errors import DISK_FULL
from qtarget.job.card import BestWeights, model_card
from qtarget.job.config.checked_job import Job
from qtarget.job.facts import Facts, facts_of
from qtarget.job.resume_checks import check_checkpoint_fits
from qtarget.job.rows.layout import evaluation_rows, training_rows
from qtarget.job.training_picture import PICTURE
from qtarget.models.loading_arguments import check_arguments, one_dtype
from qtarget.teacher import SourceKind, SourceName
from qtarget.train import TargetSFTTrainer
from qtarget.train.checkpoint_files.hub_push import CARD
from qtarget.train.open_student import refuse_quantisation
from qtarget.train.resumption.whole_checkpoints import Checkpoints

ASKER = Asker.COMMAND_LINE
NOT_FIGURES = ("epoch", "step", "total_flos", "learning_rate", "eval_num_tokens")
FIGURE_NAMES = {"train_loss": "mean_loss", "train_runtime": "runtime"}
"""transformers' names of figures, and ours."""
SINCE_RESUME = {**FIGURE_NAMES, "train_runtime": "runtime_since_resume"}
"""Likewise for a run that was resumed: the time before that is not counted."""
METRICS, CONFIGURATION = "metrics.json", "train.yaml"
RECORD_FILES = (CARD, METRICS, CONFIGURATION, PICTURE)
"""Files beside a model that tell of the run that made it."""


class JobTrainer(TargetSFTTrainer):
    """The trainer of a `Job`. Every model card, at checkpoints, at the end and on the hub, is `qtarget.job.card`'s.

    Attributes:
        facts: what the card states. `build_trainer` sets it.
        start: the checkpoint that training goes on from, and those that were skipped.
    """

    facts: Facts
    start: Checkpoints = Checkpoints(None)
    asker = ASKER

    def start_from(self, start: Checkpoints) -> None:
        """Go on from a checkpoint that was found whole, and refuse it if it is of another run.

        Raises:
            ValueError: lists what differs.
        """
        self.start, self.sealed_run.verified = start, start.newest
        if (
            start.newest is not None and self.facts.job.row_limit is None
        ):  # the first rows alone are never those of the run
            self.sealed_run.begin_ahead(str(start.newest))

    @property
    def stream_settings(self) -> Mapping[str, Any]:
        job = self.facts.job
        shares = {", ".join(each.names): each.share for each in job.train.sets} if job.train.sets else None
        rows = None if job.layout is None else job.layout.take
        return {"train_rows": rows, "shares": shares, "mixture_stopping": job.mixture_stopping}

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        if self.is_world_process_zero():
            run_steps, metric = self.state.global_step, str(self.args.metric_for_best_model)
            best = None if self.best_taken is None else BestWeights(run_steps, f"eval_{metric.removeprefix('eval_')}")
            figures = self.measures(), self.best_taken or run_steps, self.sealed_run.history
            card = model_card(self.facts, *figures, self.card_folder, best)
            self.card_folder.mkdir(parents=True, exist_ok=True)  # a checkpoint's card comes before the checkpoint
            replace_text(self.card_folder / CARD, card)

    def replaced(self, folder: Path) -> None:
        for name in RECORD_FILES:  # of the model that was there before
            (folder / name).unlink(missing_ok=True)

    def measures(self) -> dict[str, dict[str, float]]:
        """The latest figures in the log, by part ("train" or "eval") and name."""
        parts: dict[str, dict[str, float]] = {"train": {}, "eval": {}}
        names = FIGURE_NAMES if self.sealed_run.start is None else SINCE_RESUME
        for logged in self.state.log_history:
            for name, value in logged.items():
                part = "eval" if name.startswith("eval_") else "train"
                if name not in NOT_FIGURES and not name.endswith("_per_second"):
                    number = math.nan if value is None else float(value)  # null in a checkpoint's log
                    parts[part][names.get(name, name.removeprefix("eval_"))] = number
        return {part: values for part, values in parts.items() if values}


def build_trainer(job: Job) -> JobTrainer:
    """Open and check rows and models, and build the trainer.

    Raises:
        ValueError: rows or models that are missing, damaged, or do not fit each other or the method.
    """
    check_checkpoint_fits(job)
    check_loading(job)
    train, evaluation = training_rows(job), evaluation_rows(job)
    job.args.model_init_kwargs = _model_kwargs(job)
    try:
        trainer = JobTrainer(
            model=job.model,
            args=job.args,
            train_dataset=train.laid_out,
            eval_dataset=None if evaluation is None else evaluation.laid_out,
            peft_config=get_peft_config(job.model_args),
            quantization_config=get_quantization_config(job.model_args),
        )
    except OSError as error:
        if error.errno in DISK_FULL:
            raise
        raise ValueError(unreachable_models(job, error)) from error
    except SafetensorError as error:
        raise ValueError(f"weights of {', '.join(_models(job))} are damaged ({error}); copy them again.") from error
    facts = facts_of(job, train, evaluation, trainer.row_counts)
    trainer.facts = replace(facts, mixed_precision=_precision_of_environment(trainer))
    return trainer


def _precision_of_environment(trainer: JobTrainer) -> str:
    """The mixed precision that accelerate was told by an environment variable, which its launcher sets; "" where keys
    of the run decide."""
    by_keys = "bf16" if trainer.args.bf16 else "fp16" if trainer.args.fp16 else "no"
    used = str(trainer.accelerator.mixed_precision)
    return "" if used in (by_keys, "no") else used


def check_loading(job: Job) -> None:
    """Refuse arguments that no model takes, before rows are read.

    Raises:
        ValueError: with the line to write.
    """
    teacher = job.args.teacher if job.args.teacher_cache is None else None
    named = {"model": [job.model], "teacher": teacher if isinstance(teacher, list) else [teacher]}
    named["reference"] = [job.args.reference] if job.args.reference != "initial" else []
    for role, models in named.items():
        key = f"{role}_init_kwargs"
        given = getattr(job.args, key)
        if role == "model" and isinstance(given, dict):
            refuse_quantisation(given, ASKER)
        for model in models if isinstance(given, dict) else ():
            if model and SourceName.parse(model).kind is SourceKind.MODEL:
                check_arguments(model, given, f"`{key}`", lambda known, key=key: f"write {ASKER.line(key, known)}")


def _models(job: Job) -> list[str]:
    """Names of all models that are loaded: absolute paths of directories, and hub names."""
    teacher = job.args.teacher if job.args.teacher_cache is None else None
    teachers = teacher if isinstance(teacher, list) else [teacher]
    reference = job.args.reference if "reference" in job.method.needs else None
    names = [name for name in (job.model, *teachers, reference) if name]
    return [name for name in names if SourceName.parse(name).kind is SourceKind.MODEL]


def unreachable_models(job: Job, error: OSError) -> str:
    """What to say of an error by which transformers cannot open a model of the run."""
    return unopened_models({f"model {number}": name for number, name in enumerate(_models(job))}, error)


def _model_kwargs(job: Job) -> dict[str, Any]:
    """Arguments of `from_pretrained`, as TRL's own script gives them; the user's `model_init_kwargs` override them."""
    model, kwargs = job.model_args, job.args.model_init_kwargs
    named = {"revision": model.model_revision, "attn_implementation": model.attn_implementation, "dtype": model.dtype}
    return {**named, **one_dtype(kwargs if isinstance(kwargs, dict) else {})}


@contextmanager
def remove_if_empty(folder: Path) -> Iterator[None]:
    """At the end remove `folder` if it is new and empty: a trainer makes its output directory when it is built.

    Of several ranks one that was refused does so; else another may be about to write there.
    """
    existed, is_refused = folder.exists(), True
    try:
        yield
        is_refused = False
    finally:
        if not existed and (is_refused or os.environ.get("WORLD_SIZE", "1") == "1"):
            with suppress(OSError):  # not empty, or another rank removed it first
                folder.rmdir()
