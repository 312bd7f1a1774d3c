"""From a checked run to its trainer."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from trl import get_peft_config, get_quantization_config  # pyright: ignore[reportPrivateImportUsage]

from qtarget.disk.files import replace_text
from qtarget.job.card import model_card
from qtarget.job.config.job import Job
from qtarget.job.config.paths import not_found
from qtarget.job.facts import Facts, facts_of
from qtarget.job.rows.layout import evaluation_rows, training_rows
from qtarget.teacher import SourceKind, SourceName
from qtarget.train import TargetSFTTrainer

NOT_MEASURES = ("epoch", "step", "total_flos", "learning_rate", "eval_num_tokens")
RENAMED = {"train_loss": "mean_loss", "train_runtime": "runtime"}
CARD = "README.md"


class JobTrainer(TargetSFTTrainer):
    """The trainer of a run, whose cards (at checkpoints, at the end and on the hub) are ours.

    Attributes:
        facts: what the card states. Set when the trainer is built.
    """

    facts: Facts

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        if self.is_world_process_zero():
            card = model_card(self.facts, self.measures(), self.state.global_step)
            folder = Path(str(self.args.output_dir))
            folder.mkdir(parents=True, exist_ok=True)  # the first checkpoint's card comes before the checkpoint
            replace_text(folder / CARD, card)

    def measures(self) -> dict[str, dict[str, float]]:
        """The newest training and evaluation numbers logged, by part and name."""
        parts: dict[str, dict[str, float]] = {"train": {}, "eval": {}}
        for logged in self.state.log_history:
            for name, value in logged.items():
                part = "eval" if name.startswith("eval_") else "train"
                if name not in NOT_MEASURES and not name.endswith("_per_second"):
                    parts[part][RENAMED.get(name, name.removeprefix("eval_"))] = float(value)
        return {part: values for part, values in parts.items() if values}


def build_trainer(job: Job) -> JobTrainer:
    """Rows and models opened and checked.

    Raises:
        ValueError: what cannot be trained.
    """
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
        raise ValueError(_unreachable(job, error)) from error
    except SafetensorError as error:
        raise ValueError(f"weights of {', '.join(_models(job))} are damaged ({error}); copy them again.") from error
    trainer.facts = facts_of(job, train.taken, None if evaluation is None else evaluation.taken)
    return trainer


def _models(job: Job) -> list[str]:
    """Names of everything that is loaded: directories as absolute paths, hub names."""
    given = job.args.teacher if job.args.teacher_cache is None else None
    teachers = given if isinstance(given, list) else [given]
    reference = job.args.reference if "reference" in job.method.needs else None
    names = [name for name in (job.model, *teachers, reference) if name]
    return [name for name in names if SourceName.parse(name).kind is SourceKind.MODEL]


def _unreachable(job: Job, error: OSError) -> str:
    """What transformers says of a model it cannot open, and which names went to the hub."""
    sent = [not_found(Path(name), "the directory") for name in _models(job) if not Path(name).is_absolute()]
    return "\n".join([str(error), *sent])


def _model_kwargs(job: Job) -> dict[str, Any]:
    """As TRL's own script gives them, what the user wrote last."""
    asked, written = job.model_args, job.args.model_init_kwargs
    mine = {"revision": asked.model_revision, "attn_implementation": asked.attn_implementation, "dtype": asked.dtype}
    return {**mine, **(written if isinstance(written, dict) else {})}


@contextmanager
def removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder after the block, if the block made it and left it empty, as building a trainer does."""
    before = folder.exists()
    try:
        yield
    finally:
        if not before:
            with suppress(OSError):  # not empty, or another rank was here first
                folder.rmdir()
