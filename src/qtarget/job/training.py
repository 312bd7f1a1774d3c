"""The run itself."""

from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

from qtarget.disk.files import replace_text, write_json
from qtarget.job.build import JobTrainer, build_trainer, removed_if_empty
from qtarget.job.card import configuration
from qtarget.job.config.job import Job
from qtarget.job.validate import Rehearsal, rehearse
from qtarget.outcomes import Interrupted
from qtarget.teacher.served.transport import TeacherUnavailableError
from qtarget.train import NonFiniteLossError

METRICS, CONFIGURATION = "metrics.json", "train.yaml"


def prepare_training(job: Job) -> JobTrainer:
    """Everything that can be refused before the first step.

    Raises:
        ValueError: the output directory holds another run, there is nothing to resume, or data and models do not fit.
    """
    check_output(job)
    with removed_if_empty(job.output):
        return build_trainer(job)


def rehearsed(job: Job) -> tuple[Job, Rehearsal]:
    """The run checked and its first step tried, with nothing left behind.

    Raises:
        ValueError: as `prepare`, or the first step is not finite.
    """
    check_output(job)
    with removed_if_empty(job.output):
        return job, rehearse(build_trainer(job))


def check_output(job: Job) -> None:
    """Refuse to write over an earlier run, and to resume one that is not there."""
    resume, checkpoint = job.args.resume_from_checkpoint, last_checkpoint(job.output)
    if isinstance(resume, str) and not Path(resume).is_dir():
        raise ValueError(f"`resume_from_checkpoint: {resume}` is not there; {_resume_hint(checkpoint)}")
    if resume is True and checkpoint is None:
        raise ValueError(f"there is no checkpoint in {job.output} to resume from; leave `resume_from_checkpoint` out.")
    results = [name for name in ("config.json", "adapter_config.json") if (job.output / name).is_file()]
    if not resume and (checkpoint is not None or results):
        raise ValueError(
            f"`output_dir: {job.output}` holds an earlier run; {_resume_hint(checkpoint)} "
            "Or write another `output_dir`."
        )


def _resume_hint(checkpoint: Path | None) -> str:
    return f"`resume_from_checkpoint: {checkpoint}` goes on from it." if checkpoint else "It has no checkpoint."


def last_checkpoint(folder: Path) -> Path | None:
    found = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    return Path(found) if found else None


def run_training(trainer: JobTrainer) -> None:
    """Train, save model, tokenizer, card, metrics and configuration, and evaluate where there are rows to.

    Raises:
        NonFiniteLossError: saying where the last good weights were saved.
        TeacherUnavailableError: saying from where to go on.
        Interrupted: on Ctrl-C.
    """
    try:
        trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    except NonFiniteLossError as error:
        raise NonFiniteLossError(f"{error} {_keep_last_good(trainer)}") from error
    except TeacherUnavailableError as error:
        raise TeacherUnavailableError(f"{error} {_keep_where_it_stands(trainer)}") from error
    except KeyboardInterrupt as stopped:
        raise Interrupted(_where_it_stands(trainer)) from stopped
    trainer.save_model()
    if trainer.eval_dataset is not None:
        trainer.evaluate()
    trainer.save_state()
    write_record(trainer)
    if trainer.args.push_to_hub:
        trainer.push_to_hub()
    if hasattr(trainer, "end"):  # transformers 5.18 and later: trackers and process group
        trainer.end()


def write_record(trainer: JobTrainer) -> None:
    """Card, metrics and configuration beside the model."""
    trainer.create_model_card()
    if trainer.is_world_process_zero():
        output = Path(trainer.args.output_dir)
        record = {"steps": trainer.state.global_step, **trainer.measures()}
        write_json(output / METRICS, record, indent=2)
        replace_text(output / CONFIGURATION, configuration(trainer.facts))


def _keep_last_good(trainer: JobTrainer) -> str:
    step = trainer.state.global_step
    if not step:
        return "No step was taken, so nothing was saved."
    folder = Path(trainer.args.output_dir) / f"last-good-{step}"
    trainer.save_model(str(folder))
    return f"The weights after step {step} are in {folder}."


def _keep_where_it_stands(trainer: JobTrainer) -> str:
    """A checkpoint of this moment, unless other ranks would have to write it too; they may not have stopped."""
    step = trainer.state.global_step
    written = last_checkpoint(Path(trainer.args.output_dir))
    if step and trainer.accelerator.num_processes == 1 and (written is None or written.name != f"checkpoint-{step}"):
        trainer.save_checkpoint()
    return "Training " + _where_it_stands(trainer)


def _where_it_stands(trainer: JobTrainer) -> str:
    step, checkpoint = trainer.state.global_step, last_checkpoint(Path(trainer.args.output_dir))
    if checkpoint is None:
        return (
            f"stopped after step {step}. No checkpoint was written yet (`save_steps: {trainer.args.save_steps:g}`), "
            "so nothing of it is kept."
        )
    return (
        f"stopped after step {step}. The last checkpoint is {checkpoint}; the same command with "
        "`--resume-from-checkpoint` goes on from it."
    )
