"""A run whose checkpoints say what they are: it begins anew or goes on, and seals what it writes."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from qtarget.disk.one_writer import one_writer
from qtarget.disk.os_errors import write_fault
from qtarget.disk.seal import seal
from qtarget.outcomes import FinishedRunError
from qtarget.train.resumption.best_checkpoint import BestCheckpointError, best_beside, best_fault
from qtarget.train.resumption.branches import BRANCHES, Line
from qtarget.train.resumption.identity_now import IdentityNow
from qtarget.train.resumption.other_runs import refuse_other_run
from qtarget.train.resumption.resuming import checkpoint_to_resume, history_behind, line_behind, on_first_rank
from qtarget.train.resumption.run_history import ResumeRequest, RunPart, changes_without_steps, history_until
from qtarget.train.resumption.run_identity import keys_of
from qtarget.train.resumption.set_aside import bring_back
from qtarget.train.resumption.whole_checkpoints import checkpoints_in, refuse_taken_names, step_of


class SaveError(ValueError):
    """A checkpoint could not be written; the last whole one is there as it was."""


def _without_lock() -> None:
    """Nothing is checked by a rank, or at a time, that holds no lock."""


class SealedRun:
    """The run of a trainer.

    Attributes:
        identity: what the run is, as it was when it began; see `run_identity`. Empty before.
        history: which steps were run as what; empty before the run begins.
        line: the branches that led to it, in its folder; empty before the run begins.
        start: the checkpoint that it goes on from, if any.
        check_writer: raises a SecondWriterError if `args.output_dir` is no longer the folder that this run locked.
        verified: a checkpoint whose files were hashed by now, and are not hashed again.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.identity: dict[str, Any] = {}
        self._identity_now = IdentityNow(trainer)
        self._is_begun_ahead = False
        self.history: list[RunPart] = []
        self.line: Line = ()
        self.start: Path | None = None
        self.verified: Path | None = None
        self._is_writing = False
        self.check_writer = _without_lock

    def begin(self, resume: str | bool | None) -> Path | None:
        """Begin anew, or behind a checkpoint, which is returned. On all ranks together.

        Raises:
            ValueError: the checkpoint is not whole, or is of another run, as the best one is that the run would take
                for its result, or what the output directory holds.
        """
        args = self.trainer.args
        accelerator = self.trainer.accelerator
        on_first_rank(accelerator, lambda: refuse_taken_names(Path(str(args.output_dir))))
        found = checkpoint_to_resume(resume, args, accelerator, self.verified)
        if found is not None:
            run, unsealed, asker = Path(str(args.output_dir)), args.resume_unsealed, self.trainer.asker
            on_first_rank(accelerator, lambda: refuse_other_run(run, found, unsealed, asker))
        self.identity = self.identity if self._is_begun_ahead else self._identity_now(found is not None)
        self._is_begun_ahead = False
        self.history = history_behind(found, self.identity, self._request(found), accelerator)
        self.start, self.line = found, line_behind(found, Path(str(args.output_dir)), accelerator)
        if found is not None and args.max_steps > 0:
            self.begin_steps(step_of(found), args.max_steps)
        if found is not None and args.load_best_model_at_end:
            on_first_rank(accelerator, lambda: self._check_best(best_beside(found), ""))
        return found

    def begin_ahead(self, resume: str) -> None:
        """As `begin`, which is called next, and then does not look again at what the run is."""
        self.begin(resume)
        self._is_begun_ahead = True

    def end(self) -> None:
        """Training has ended, or was broken off; the trainer may train again."""
        self._identity_now.note_made()

    def begin_steps(self, done: int, last: int) -> None:
        """Refuse changes of a run that has no steps left: what is done was not done as they say.

        Raises:
            FinishedRunError: lists the changes.
        """
        if done < last or len(self.history) < 2 or self.history[-1].after < done:
            return
        if changed := changes_without_steps(self.history):
            line, words = self.trainer.asker.line, ", ".join(map(str, changed))
            raise FinishedRunError(
                f"{self.start} is of step {done}, and the run ends at step {last}: no step is left that would be run "
                f"with the changes ({words}), and card and manifest would tell what was not done. To train on with "
                f"them, write a larger {line('max_steps', done + last)} and allow it by `resume_changed`; else leave "
                f"them out, or take the model in {self.start} as it is."
            )
        self.history.pop()

    def newest(self) -> Path | None:
        """The newest whole checkpoint that this run has written, else the one that it began from, if that is there."""
        written = checkpoints_in(Path(str(self.trainer.args.output_dir)), hashed=False, line=self.line).newest
        return written or (self.start if self.start is not None and self.start.is_dir() else None)

    def check_best(self, best: Path) -> None:
        """Refuse to take a checkpoint's weights for the result if it is not whole, or is of another run.

        Raises:
            BestCheckpointError: says what is kept.
        """
        newest = self.newest()
        kept = f" All steps are done, and {newest} holds the last of them." if newest else ""
        on_first_rank(self.trainer.accelerator, lambda: self._check_best(best, kept))

    def _check_best(self, best: Path | None, kept: str) -> None:
        fault = None if best is None else best_fault(best, self.history, self.trainer.args.resume_unsealed)
        if fault is not None:
            key, line = "load_best_model_at_end", self.trainer.asker.line
            follow = [key, "greater_is_better", "metric_for_best_model"]  # which the Trainer sets by the key
            raise BestCheckpointError(
                f"the run's best checkpoint {best} {fault}, and `{key}` would take its weights.{kept} To take "
                f"the last weights, go on with {line(key, False)} and {line('resume_changed', follow)}."
            )

    def _request(self, checkpoint: Path | None) -> ResumeRequest:
        args = self.trainer.args
        settings = [field.name for field in fields(args)]
        allowed, keys = args.resume_changed or (), keys_of(args).keys()
        return ResumeRequest(checkpoint or Path(), allowed, keys, settings, self.trainer.asker)

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """While the block runs, no other process may train into `args.output_dir`; blocks may stand in each other.

        Raises:
            ValueError: another process does so now.
        """
        if self._is_writing or not self.trainer.args.should_save:
            yield
            return
        folder = Path(str(self.trainer.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        with one_writer(folder) as check_writer:
            self._is_writing, self.check_writer = True, check_writer
            try:
                bring_back(folder)
                yield
            finally:
                self._is_writing, self.check_writer = False, _without_lock

    def seal(self, folder: Path, kind: str, left_out: Sequence[str] = ()) -> None:
        """Seal a "checkpoint" or a "result" with the step, the number of ranks and the run's history up to that step.

        Of weights of the best checkpoint that is its step, and `run_steps` tells how many the run took.

        Raises:
            SecondWriterError: the output directory was removed or replaced since the run began to write.
        """
        self.check_writer()
        taken, best = self.trainer.state.global_step, self.trainer.best_taken
        parts = self.history if best is None else history_until(self.history, best)
        history = [{"after": each.after, "identity": each.identity} for each in parts]
        steps = {"step": taken} if best is None else {"step": best, "run_steps": taken}
        ranks = self.trainer.accelerator.num_processes
        seal(
            folder,
            {"kind": kind, **steps, "ranks": ranks, "history": history, BRANCHES: [*map(list, self.line)]},
            left_out,
        )

    def lose(self, folder: Path, error: Exception, was_best: bool) -> None:
        """A checkpoint could not be written: warn, or stop, as `args.on_save_error` says.

        Args:
            was_best: its evaluation was the best so far, and its weights would have become the result.

        Raises:
            SaveError: says what is kept.
        """
        fault = write_fault(error)
        said = f"{folder} could not be written, and nothing of it is kept. {fault.words if fault else error}"
        if was_best and self.trainer.args.load_best_model_at_end:
            best = self.trainer.state.best_model_checkpoint
            said += f" It was the best so far; now {best or 'no checkpoint'} is, for `load_best_model_at_end`."
        if self.trainer.args.on_save_error == "continue":
            if self.trainer.accelerator.is_main_process:
                warnings.warn(f"{said} Training goes on.", stacklevel=2)
            return
        newest = self.newest()
        kept = f"The last whole checkpoint is {newest}." if newest else "No checkpoint was written before it."
        line = self.trainer.asker.line("on_save_error", "continue")
        raise SaveError(f"{said} {kept} To train on without a checkpoint, write {line}.") from error
