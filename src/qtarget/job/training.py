"""`qtarget train`: prepare a run, train, and save the model with its record."""

from pathlib import Path

from transformers.trainer_utils import get_last_checkpoint

from qtarget.disk.files import replace_text, write_json
from qtarget.job.build import JobTrainer, build_trainer, remove_if_empty
from qtarget.job.card import configuration
from qtarget.job.config.checked_job import Job
from qtarget.outcomes import Interruption
from qtarget.teacher.served.transport import TeacherUnavailableError
from qtarget.train import NonFiniteLossError

METRICS, CONFIGURATION = "metrics.json", "train.yaml"


def prepare_training(job: Job) -> JobTrainer:
    """The run's trainer, after everything that can be checked before the first step.

    Raises:
        ValueError: the output directory holds another run, there is nothing to resume, or rows and models do not fit.
    """
    check_output(job)
    with remove_if_empty(job.output):
        return build_trainer(job)


def check_output(job: Job) -> None:
    """Refuse an output directory that holds an earlier run, and to resume a run that does not exist.

    Raises:
        ValueError: either of the two.
    """
    resume, checkpoint = job.args.resume_from_checkpoint, last_checkpoint(job.output)
    if isinstance(resume, str) and not Path(resume).is_dir():
        hint = _resume_hint(checkpoint) if checkpoint else f"{job.output} has no checkpoint, so leave the key out"
        raise ValueError(f"`resume_from_checkpoint: {resume}` is not there; {hint}.")
    if resume is True and checkpoint is None:
        raise ValueError(f"there is no checkpoint in {job.output} to resume from; leave `resume_from_checkpoint` out.")
    models = [name for name in ("config.json", "adapter_config.json") if (job.output / name).is_file()]
    if not resume and (checkpoint is not None or models):
        hint = f"{_resume_hint(checkpoint)}, or" if checkpoint else "it has no checkpoint to go on from, so"
        raise ValueError(f"`output_dir: {job.output}` holds an earlier run; {hint} write another `output_dir`.")


def _resume_hint(checkpoint: Path) -> str:
    return f"write `resume_from_checkpoint: {checkpoint}` to go on from its newest checkpoint"


def last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint in a run's output directory, if there is one."""
    newest = get_last_checkpoint(str(folder)) if folder.is_dir() else None
    return Path(newest) if newest else None


def run_training(trainer: JobTrainer) -> None:
    """Train; measure the loss on the evaluation rows, where there are some; save model, tokenizer, card and record.

    Raises:
        NonFiniteLossError: the message says where the last good weights were saved.
        TeacherUnavailableError: the message names the checkpoint to resume from.
        Interruption: on Ctrl-C; the message does too.
    """
    try:
        trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    except NonFiniteLossError as error:
        raise NonFiniteLossError(f"{error} {_save_last_good(trainer)}") from error
    except TeacherUnavailableError as error:
        raise TeacherUnavailableError(f"{error} {_save_checkpoint(trainer)}") from error
    except KeyboardInterrupt as stopped:
        raise Interruption(_resume_message(trainer)) from stopped
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
    """Write card, metrics and configuration beside the model."""
    trainer.create_model_card()
    if trainer.is_world_process_zero():
        output = Path(trainer.args.output_dir)
        record = {"steps": trainer.state.global_step, **trainer.measures()}
        write_json(output / METRICS, record, indent=2)
        replace_text(output / CONFIGURATION, configuration(trainer.facts))


def _save_last_good(trainer: JobTrainer) -> str:
    """Save the weights of the last finite step in a folder of their own, and say where."""
    step = trainer.state.global_step
    if not step:
        return "No step was taken, so nothing was saved."
    folder = Path(trainer.args.output_dir) / f"last-good-{step}"
    trainer.save_model(str(folder))
    return f"The weights after step {step} are in {folder}."


def _save_checkpoint(trainer: JobTrainer) -> str:
    """Save a checkpoint of this step and say how to resume. With several ranks none is saved: all would have to take
    part, and the others may not have stopped."""
    step = trainer.state.global_step
    newest = last_checkpoint(Path(trainer.args.output_dir))
    if step and trainer.accelerator.num_processes == 1 and (newest is None or newest.name != f"checkpoint-{step}"):
        trainer.save_checkpoint()
    return "Training " + _resume_message(trainer)


def _resume_message(trainer: JobTrainer) -> str:
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
