"""The output directory of a run before it begins: whether it can be written to, what it holds, where a run goes on."""

from pathlib import Path

from qtarget.data import Asker
from qtarget.disk.place import check_place, free_name
from qtarget.disk.seal import SEAL
from qtarget.job.config.checked_job import Job
from qtarget.train.resumption.other_runs import begins_as, sealed_history
from qtarget.train.resumption.whole_checkpoints import (
    BrokenCheckpoint,
    Checkpoints,
    checkpoint_fault,
    checkpoints_in,
    numbered_checkpoints,
    refuse_taken_names,
)

line = Asker.COMMAND_LINE.line
MODEL_FILES = ("config.json", "adapter_config.json")


def check_output(job: Job) -> Checkpoints:
    """Refuse an output directory that holds an earlier run or cannot be written to, and to resume from a checkpoint
    that is not there or not whole. `resume_from_checkpoint: true` becomes the newest whole one.

    Returns:
        The checkpoint that training goes on from, None for a new run, and newer ones that are skipped.

    Raises:
        ValueError: any of these; with the line to write.
    """
    resume = job.args.resume_from_checkpoint
    refuse_taken_names(job.output)
    found = checkpoints_in(job.output, job.args.resume_unsealed, hashed=resume is True)
    if isinstance(resume, str):
        return _named_checkpoint(Path(resume), job, found)
    if resume:
        return _newest_checkpoint(job, found)
    _refuse_earlier_run(job, found)
    check_place(job.output, f"`output_dir: {job.output}`")
    return Checkpoints(None)


def _named_checkpoint(folder: Path, job: Job, found: Checkpoints) -> Checkpoints:
    reason = checkpoint_fault(folder, job.args.resume_unsealed) if folder.is_dir() else "is not there"
    if reason is None:
        refuse_other_run(job, folder)
        check_place(job.output, f"`output_dir: {job.output}`")
        return Checkpoints(folder)
    whole = found.newest
    hint = f"write {_resume(whole)}" if whole else f"{job.output} has no whole checkpoint, so leave the key out"
    why = reason if reason == "is not there" else f"is not whole ({reason}), so training cannot go on from it"
    raise ValueError(f"`resume_from_checkpoint: {folder}` {why}; {hint}.")


def _newest_checkpoint(job: Job, found: Checkpoints) -> Checkpoints:
    if found.newest is None:
        raise ValueError(
            f"there is no checkpoint in {job.output} to resume from{_skipped(found.skipped)}; leave "
            "`resume_from_checkpoint` out"
            + (f", and write {line('output_dir', str(free_name(job.output)))}." if found.skipped else ".")
        )
    check_place(job.output, f"`output_dir: {job.output}`")
    job.args.resume_from_checkpoint = str(found.newest)
    return found


def _refuse_earlier_run(job: Job, found: Checkpoints) -> None:
    models = [name for name in MODEL_FILES if (job.output / name).is_file()]
    if not (models or found.newest or found.skipped):
        return
    other = line("output_dir", str(free_name(job.output)))
    if found.newest is not None:
        raise ValueError(
            f"`output_dir: {job.output}` holds an earlier run. To go on from its newest whole checkpoint, write "
            f"{_resume(found.newest)}; to keep it and begin anew, write {other}."
        )
    raise ValueError(
        f"`output_dir: {job.output}` holds an earlier run, which left no whole checkpoint to go on from"
        f"{_skipped(found.skipped)}; write {other}."
    )


def refuse_other_run(job: Job, checkpoint: Path) -> None:
    """Refuse to go on from a checkpoint elsewhere into an output directory that holds another run, or one of which it
    is not known.

    Raises:
        ValueError: names what is of another run, and the line to write.
    """
    if job.output.resolve() in (checkpoint.parent.resolve(), checkpoint.resolve().parent):
        return
    numbered = [each for _, each in numbered_checkpoints(job.output)]
    has_model = any((job.output / name).is_file() for name in (*MODEL_FILES, SEAL))
    held = {each: sealed_history(each) for each in [*numbered, *([job.output] if has_model else [])]}
    own, known = sealed_history(checkpoint), [each for each in held.values() if each is not None]
    if not held or (known and all(begins_as(each, own) for each in known)):
        return
    place = next(each for each, history in held.items() if history is None or not begins_as(history, own))
    what = "a model" if place == job.output else str(place)
    whole = checkpoints_in(job.output, job.args.resume_unsealed, hashed=False).newest
    instead = f"To go on from the newest whole checkpoint there, write {_resume(whole)}; to" if whole else "To"
    raise ValueError(
        f"`output_dir: {job.output}` holds {what} of another run than `resume_from_checkpoint: {checkpoint}`, and it "
        f"would be written over. {instead} keep it and go on elsewhere, write "
        f"{line('output_dir', str(free_name(job.output)))}."
    )


def _resume(checkpoint: Path) -> str:
    return line("resume_from_checkpoint", str(checkpoint))


def _skipped(broken: tuple[BrokenCheckpoint, ...]) -> str:
    return f": not whole: {', '.join(map(str, broken))}" if broken else ""
