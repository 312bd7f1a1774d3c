"""The output directory of a run before it begins: whether it can be written to, what it holds, where a run goes on."""

from pathlib import Path

from qtarget.data import Asker
from qtarget.disk.place import check_place, free_name
from qtarget.job.config.checked_job import Job
from qtarget.train.resumption.other_runs import MODEL_FILES, refuse_other_run
from qtarget.train.resumption.set_aside import bring_back_of_killed
from qtarget.train.resumption.whole_checkpoints import (
    BrokenCheckpoint,
    Checkpoints,
    checkpoint_fault,
    checkpoints_in,
    refuse_taken_names,
)

line = Asker.COMMAND_LINE.line


def check_output(job: Job) -> Checkpoints:
    """Refuse an output directory that holds an earlier run or cannot be written to, and to resume from a checkpoint
    that is not there or not whole. `resume_from_checkpoint: true` becomes the newest whole one.

    Returns:
        The checkpoint that training goes on from, None for a new run, and newer ones that are skipped.

    Raises:
        ValueError: any of these; with the line to write.
    """
    resume = job.args.resume_from_checkpoint
    bring_back_of_killed(job.output)
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
        refuse_other_run(job.output, folder, job.args.resume_unsealed, Asker.COMMAND_LINE)
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


def _resume(checkpoint: Path) -> str:
    return line("resume_from_checkpoint", str(checkpoint))


def _skipped(broken: tuple[BrokenCheckpoint, ...]) -> str:
    return f": not whole: {', '.join(map(str, broken))}" if broken else ""
