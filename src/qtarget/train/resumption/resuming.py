"""Whether a run may go on from a checkpoint: which is the newest whole one, and whether it is of the same run."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from qtarget.disk.seal import SEAL, read_seal
from qtarget.train.resumption.branches import Branch, Line, branches_to
from qtarget.train.resumption.run_history import ResumeRequest, RunPart, check_same_run, parts_of_history, unknown_then
from qtarget.train.resumption.run_identity import not_compared
from qtarget.train.resumption.whole_checkpoints import (
    checkpoint_fault,
    checkpoints_in,
    numbered_checkpoints,
    step_of,
)

Told = TypeVar("Told")


def checkpoint_to_resume(
    given: str | bool | None, args: Any, accelerator: Accelerator, verified: Path | None = None
) -> Path | None:
    """The folder that a run goes on from; None for a new run. The first rank looks, for all.

    Args:
        given: a folder, or True for the newest whole checkpoint in `args.output_dir`.
        verified: a folder whose files were hashed by now.

    Raises:
        ValueError: there is no whole checkpoint, or the named one is not whole.
    """
    if not given:
        return None
    if given is True:
        return on_first_rank(accelerator, lambda: _newest(Path(args.output_dir), args.resume_unsealed))
    return on_first_rank(accelerator, lambda: _named(Path(given), args.resume_unsealed, Path(given) != verified))


def _newest(run: Path, accepts_unsealed: bool) -> Path:
    found = checkpoints_in(run, accepts_unsealed)
    passed_over = ", ".join(map(str, found.skipped))
    if found.newest is None:
        reason = f"; not whole: {passed_over}" if passed_over else ""
        raise ValueError(f"there is no checkpoint in {run} to resume from{reason}.")
    if passed_over:
        warnings.warn(f"passed over {passed_over}; training goes on from {found.newest}.", stacklevel=6)
    return found.newest


def _named(folder: Path, accepts_unsealed: bool, hashed: bool) -> Path:
    if not folder.is_dir():
        raise ValueError(f"the checkpoint {folder} is not there.")
    if reason := checkpoint_fault(folder, accepts_unsealed, hashed):
        raise ValueError(f"the checkpoint {folder} is not whole ({reason}), so training cannot go on from it.")
    return folder


def history_behind(
    checkpoint: Path | None, identity: dict[str, Any], request: ResumeRequest, accelerator: Accelerator
) -> list[RunPart]:
    """The history of the run that begins now, behind a checkpoint or anew.

    Raises:
        ValueError: the checkpoint is of another run, and the difference is not allowed.
    """
    if checkpoint is None:
        return [RunPart(0, identity)]
    return on_first_rank(accelerator, lambda: _continued(checkpoint, identity, request))


def _continued(checkpoint: Path, identity: dict[str, Any], request: ResumeRequest) -> list[RunPart]:
    if not (checkpoint / SEAL).is_file():
        warnings.warn(unsealed_sentence(checkpoint), stacklevel=6)
        return [RunPart(step_of(checkpoint), identity)]
    history = parts_of_history(read_seal(checkpoint).facts)
    unwritten = unknown_then(history[-1].identity, identity) if history else []
    if unseen := [*not_compared(identity), *unwritten]:
        warnings.warn(f"Not compared with the run that wrote {checkpoint}: {', '.join(unseen)}.", stacklevel=6)
    if history and not check_same_run(history[-1].identity, identity, request):
        return history
    return [*history, RunPart(step_of(checkpoint), identity)]


def line_behind(checkpoint: Path | None, run: Path, accelerator: Accelerator) -> Line:
    """The line of branches of the run that begins now: the checkpoint's own if that is the newest in the output
    directory, else with a new branch."""
    return on_first_rank(accelerator, lambda: _line_behind(checkpoint, run))


def _line_behind(checkpoint: Path | None, run: Path) -> Line:
    before = () if checkpoint is None else branches_to(checkpoint) or (Branch(0, 0),)
    newest = checkpoints_in(run, accepts_unsealed=True, hashed=False).newest
    if checkpoint is not None and newest is not None and newest.samefile(checkpoint):
        return before
    others = [branches_to(each) or () for _, each in numbered_checkpoints(run)]
    number = 1 + max((branch.number for line in (before, *others) for branch in line), default=0)
    return (*before, Branch(number, 0 if checkpoint is None else step_of(checkpoint)))


def unsealed_sentence(checkpoint: Path) -> str:
    """What is not known of a checkpoint without a manifest."""
    return (
        f"{checkpoint} has no {SEAL}: whether its files are as they were written, and of this model, these rows and "
        "these settings, cannot be checked."
    )


def on_first_rank(accelerator: Accelerator, ask: Callable[[], Told]) -> Told:
    """What `ask` gives on the first rank, on every rank; a ValueError of it is raised on all."""
    told: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            told = [ask(), None]
        except ValueError as error:
            told = [None, error]
    if accelerator.num_processes > 1:
        broadcast_object_list(told, from_process=0)
    answer, error = told
    if error is not None:
        raise error
    return answer
