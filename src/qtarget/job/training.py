"""`qtarget train`: prepare a run, train, and save the model with its record."""

import math
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtarget.disk.files import replace_text, write_json
from qtarget.disk.os_errors import FullDiskError, write_fault
from qtarget.job.beside_result import FileState, beside_result, file_states
from qtarget.job.build import CONFIGURATION, METRICS, JobTrainer, build_trainer, remove_if_empty
from qtarget.job.card import configuration
from qtarget.job.config.checked_job import Job
from qtarget.job.output_folder import check_output
from qtarget.job.training_picture import draw_training
from qtarget.outcomes import Interruption
from qtarget.teacher.served.transport import TeacherUnavailableError
from qtarget.train import NonFiniteLossError, NonFiniteWeightsError, SaveError, stop_with_checkpoint
from qtarget.train.missed_evaluation import is_evaluated
from qtarget.train.resumption.whole_checkpoints import last_checkpoint, step_of
from qtarget.train.stopping import StopAtStepEnd

LAST_GOOD = "last-good-{}"
"""The folder of the weights before a step that was not finite."""
NOT_OF_THE_RESULT = ("checkpoint-*", LAST_GOOD.format("*"), ".*", "*.log", "runs", "logs")
"""What else stands in an output directory, by patterns: no part of the trained model."""
SAYING_WHAT_IS_KEPT = (Interruption, NonFiniteLossError, NonFiniteWeightsError, SaveError, TeacherUnavailableError)
"""Errors whose messages say which checkpoint is kept."""
GoOn = Callable[[str], str]
"""The command that goes on with a run, for messages: from a checkpoint that it names, or from the newest one, ""."""


def go_on_with(checkpoint: str) -> str:
    """The words for a command that is not known, such as one under a launcher; see `GoOn`."""
    return f"the same command and `{f'--resume-from-checkpoint {checkpoint}'.rstrip()}`"


def prepare_training(job: Job) -> JobTrainer:
    """The run's trainer, after everything that can be checked before the first step.

    Raises:
        ValueError: the output directory holds another run or cannot be written to, there is nothing to resume, or rows
            and models do not fit.
    """
    start = check_output(job)
    with remove_if_empty(job.output):
        trainer = build_trainer(job)
    trainer.start_from(start)
    return trainer


@dataclass
class StopNotice:
    """Tells the user at once, when the first signal comes, what the run does before it ends.

    Attributes:
        say: prints a line; it is called inside a signal handler.
        promise: what is done first; it changes as the run goes on.
    """

    say: Callable[[str], None]
    promise: str = "the step under way is finished and a checkpoint is written"
    is_model_saved: bool = False

    def __call__(self, name: str) -> None:
        self.say(f"{name}: {self.promise}; a second one ends at once.")


def run_training(trainer: JobTrainer, go_on: GoOn = go_on_with, say: Callable[[str], None] = lambda line: None) -> None:
    """Train; measure the loss on the evaluation rows, where there are some; save model, tokenizer, card and record.

    Args:
        go_on: the command that resumes the run, for messages.
        say: prints a line to the user at once, on the first rank.

    Raises:
        NonFiniteLossError: the message says where the last good weights were saved.
        NonFiniteWeightsError: the weights themselves are lost; the message names the last whole checkpoint.
        TeacherUnavailableError: the message names the checkpoint to resume from.
        Interruption: on Ctrl-C or SIGTERM; the message says what is kept.
        ValueError: another process trains into the same folder, or has done so in the meantime.
    """
    with claimed_output(trainer):
        _run(trainer, go_on, say)


@contextmanager
def claimed_output(trainer: JobTrainer) -> Iterator[None]:
    """While the block runs, no other process may train into the run's output directory.

    Raises:
        ValueError: another process does so, or has begun and ended a run there since the trainer was prepared.
    """
    with trainer.sealed_run.only_writer():
        job, start = trainer.facts.job, trainer.start.newest
        if start is None and not trainer.state.global_step:
            check_output(job)
        yield


def _run(trainer: JobTrainer, go_on: GoOn, say: Callable[[str], None]) -> None:
    notice = StopNotice(say if trainer.is_world_process_zero() else lambda line: None)
    with stop_with_checkpoint(trainer, lambda newest: _line(trainer, newest, go_on), notice) as stop:
        try:
            _train(trainer, go_on)
            notice.promise = "the model is saved first"
            _finish(trainer, stop, notice)
        except KeyboardInterrupt as second:
            raise Interruption(_ended_at_once(trainer, notice, go_on), stop.signals.received) from second
        except SAYING_WHAT_IS_KEPT:
            raise
        except Exception as error:
            if (fault := write_fault(error)) is not None and fault.is_full:
                said = f"{trainer.args.output_dir} could not be written to. {fault.words} {_kept(trainer, go_on)}"
                raise FullDiskError(said) from error
            if trainer.accelerator.num_processes > 1:
                error.add_note(_kept(trainer, go_on))
            raise


def _train(trainer: JobTrainer, go_on: GoOn) -> None:
    try:
        trainer.train(resume_from_checkpoint=trainer.args.resume_from_checkpoint)
    except NonFiniteLossError as error:
        raise NonFiniteLossError(f"{error} {_save_last_good(trainer, go_on)}") from error
    except NonFiniteWeightsError as error:
        raise NonFiniteWeightsError(f"{error} {_kept(trainer, go_on)}") from error
    except TeacherUnavailableError as error:
        raise TeacherUnavailableError(f"{error} {_save_checkpoint(trainer, go_on)}") from error


def _finish(trainer: JobTrainer, stop: StopAtStepEnd, notice: StopNotice) -> None:
    """Save the model, evaluate and write the record. A signal leaves out the evaluation, or breaks it off."""
    before = file_states(Path(trainer.args.output_dir))
    trainer.save_model()
    notice.is_model_saved, notice.promise = True, "card and record are written first"
    is_evaluated = _evaluate(trainer, stop)
    trainer.check_writer()
    trainer.save_state()
    if trainer.is_world_process_zero():
        draw_training(trainer.state.log_history, trainer.facts.job.method.name, Path(trainer.args.output_dir))
    write_record(trainer, before)
    if trainer.args.push_to_hub:
        trainer.push_to_hub()
    if hasattr(trainer, "end"):  # transformers 5.18 and later: trackers and process group
        trainer.end()
    if not is_evaluated:
        raise Interruption(
            f"stopped by {stop.name} after the last step: model, card and record are in "
            f"{trainer.args.output_dir}, without the loss on the evaluation rows.",
            stop.cause or stop.signals.received,
        )


def _evaluate(trainer: JobTrainer, stop: StopAtStepEnd) -> bool:
    """Measure the loss of the model on the evaluation rows, where there are some and the training loop has not done so
    last. False if a signal prevented it."""
    is_known = is_evaluated(trainer.state) and not trainer.args.load_best_model_at_end
    if trainer.eval_dataset is None or is_known:
        return True
    if stop.is_asked_anywhere():
        return False
    try:
        trainer.evaluate()
    except Interruption:
        return False
    return True


def write_record(trainer: JobTrainer, before: Mapping[str, FileState]) -> None:
    """Write card, metrics and configuration beside the model, and seal all of it.

    Args:
        before: `file_states` of the folder before the model was written.
    """
    trainer.check_writer()
    trainer.create_model_card()
    if trainer.is_world_process_zero():
        output = Path(trainer.args.output_dir)
        write_json(output / METRICS, _record(trainer), indent=2)
        replace_text(output / CONFIGURATION, configuration(trainer.facts))
    if trainer.args.should_save:
        output = Path(trainer.args.output_dir)
        trainer.sealed_run.seal(output, "result", (*NOT_OF_THE_RESULT, *beside_result(output, before)))


def _record(trainer: JobTrainer) -> dict[str, Any]:
    """The content of metrics.json. Figures that are no number are null, as JSON has none, and `not_finite` says what
    they were; `weights_of_step` says where the weights are those of the best checkpoint."""
    measures, best = trainer.measures(), trainer.best_taken
    strange = {
        f"{part}.{name}": str(value)
        for part, values in measures.items()
        for name, value in values.items()
        if not math.isfinite(value)
    }
    taken = {"steps": trainer.state.global_step, **({} if best is None else {"weights_of_step": best})}
    return {**taken, **measures, **({"not_finite": strange} if strange else {})}


def _save_last_good(trainer: JobTrainer, go_on: GoOn) -> str:
    """Save the weights of the last step in a folder of their own, if they are finite, and say where."""
    step = trainer.state.global_step
    if not step:
        return "No step was taken, so nothing was saved."
    folder = Path(trainer.args.output_dir) / LAST_GOOD.format(step)
    try:
        trainer.save_model(str(folder))
        if trainer.args.should_save:
            trainer.sealed_run.seal(folder, "last good weights")
    except NonFiniteWeightsError:
        return _kept(trainer, go_on)
    return f"The weights after step {step} are in {folder}."


def _save_checkpoint(trainer: JobTrainer, go_on: GoOn) -> str:
    """Save a checkpoint of this step and say how to resume. With several ranks none is saved: all would have to take
    part, and the others may not have stopped."""
    step = trainer.state.global_step
    newest = trainer.last_checkpoint()
    if step and trainer.accelerator.num_processes == 1 and (newest is None or step_of(newest) != step):
        trainer.args.save_only_model = False
        trainer.save_checkpoint()
    return f"Training stopped after step {step}. {_kept(trainer, go_on)}"


def _ended_at_once(trainer: JobTrainer, notice: StopNotice, go_on: GoOn) -> str:
    step, output = trainer.state.global_step, trainer.args.output_dir
    if notice.is_model_saved:
        return f"ended at once: the model is in {output}, its card and record may not be."
    where = "while the model was saved, so the one there is not whole" if not trainer.is_in_train else "within a step"
    return f"ended at once, after step {step}, {where}. {_kept(trainer, go_on)}"


def _kept(trainer: JobTrainer, go_on: GoOn) -> str:
    """Which checkpoint is the newest whole one, what it lacks, and how to go on from it."""
    step, checkpoint = trainer.state.global_step, trainer.last_checkpoint()
    if checkpoint is None:
        return (
            f"No checkpoint was written yet (`save_strategy: {trainer.args.save_strategy.value}`, `save_steps: "
            f"{trainer.args.save_steps:g}`), so nothing of it is kept."
        )
    saved = step_of(checkpoint)
    many = "step after it is" if step == saved + 1 else f"{step - saved} steps after it are"
    lost = f"the {many} lost" if step > saved else "nothing is lost"
    return f"The last whole checkpoint is {checkpoint}; {lost}. Go on with {_line(trainer, checkpoint, go_on)}."


def _line(trainer: JobTrainer, checkpoint: Path, go_on: GoOn) -> str:
    """The command that goes on from a checkpoint, which is named where the command would take another by itself."""
    newest = last_checkpoint(Path(trainer.args.output_dir))
    is_taken = newest is not None and newest.samefile(checkpoint)
    return go_on("" if is_taken else shlex.quote(str(checkpoint)))
