"""A checkpoint appears whole or not at all: it is written to a draft, sealed, and given its name once all ranks are
done."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from transformers import TrainerState

from qtarget.disk.exchange import exchanged
from qtarget.disk.files import make_json_valid, sync_folder
from qtarget.train.checkpoint_files.best_so_far import BestSoFar
from qtarget.train.checkpoint_files.rank_faults import fault_on_any_rank
from qtarget.train.finite_weights import check_before_writing
from qtarget.train.resumption.pruning import prune_checkpoints
from qtarget.train.resumption.set_aside import UNFINISHED, bring_back, place_aside
from qtarget.train.resumption.whole_checkpoints import STATE


class CheckpointingTrainer(Protocol):
    """The part of a trainer that a checkpoint is written of, and that hears what became of it."""

    args: Any
    accelerator: Any
    model: Any
    optimizer: Any
    state: TrainerState

    def check_writer(self) -> None: ...
    def save_beside(self, folder: Path) -> None: ...
    def seal(self, folder: Path) -> None: ...
    def checkpoint_lost(self, folder: Path, error: Exception, was_best: bool) -> None: ...


class CheckpointWriter:
    """Writes the checkpoints of a trainer.

    Attributes:
        draft: the folder to which a checkpoint is being written, on every rank; None while none is.
    """

    def __init__(self, trainer: CheckpointingTrainer) -> None:
        self.trainer = trainer
        self.draft: Path | None = None
        self._best_before: BestSoFar | None = None

    def note_best(self) -> None:
        """Note which checkpoint is the best, before the evaluation of a step decides it anew."""
        self._best_before = BestSoFar.of(self.trainer.state)

    def write(self, run: Path, save: Callable[[], None], is_cut: bool) -> Path | None:
        """Write the checkpoint of this step into an output directory. All ranks write together.

        Args:
            save: writes the Trainer's own files into `draft`.
            is_cut: whether the model is cut over ranks, which exchange its parts as they write.

        Returns:
            The checkpoint; None where it could not be written, and `checkpoint_lost` let training go on.

        Raises:
            NonFiniteWeightsError: before anything is written, where a weight or a state is NaN or infinite.
        """
        trainer, name = self.trainer, f"checkpoint-{self.trainer.state.global_step}"
        folder, draft = run / name, run / UNFINISHED / name
        check_before_writing(folder, trainer.model, trainer.optimizer)
        trainer.check_writer()
        with self._drafting(draft):
            error = fault_on_any_rank(lambda: self._write_draft(draft, save), trainer.accelerator, is_cut)
            error = error or fault_on_any_rank(lambda: self._finish_draft(draft, folder), trainer.accelerator)
        if error is None:
            return folder
        trainer.checkpoint_lost(folder, error, was_best=self._forget_best(draft))
        return None

    def prune(self, folder: Path) -> None:
        """Delete old checkpoints beside the one that was just written, as `args.save_total_limit` says."""
        args, state = self.trainer.args, self.trainer.state
        if args.should_save:
            best = state.best_model_checkpoint
            kept = {folder, *([Path(best)] if best else [])}
            prune_checkpoints(folder.parent, args.save_total_limit, kept, state.global_step)

    @contextmanager
    def _drafting(self, draft: Path) -> Iterator[None]:
        """While the block runs, checkpoints are written to `draft`. The folder around it is empty before, and gone
        after."""
        if self.trainer.args.should_save:
            shutil.rmtree(draft.parent, ignore_errors=True)
        self.trainer.accelerator.wait_for_everyone()
        self.draft = draft
        try:
            yield
        finally:
            self.draft = None
            if self.trainer.args.should_save:
                shutil.rmtree(draft.parent, ignore_errors=True)

    def _write_draft(self, draft: Path, save: Callable[[], None]) -> None:
        args = self.trainer.args
        limit, args.save_total_limit = args.save_total_limit, None  # old ones go once the new one is there
        try:
            save()
        finally:
            args.save_total_limit = limit
        if not args.save_only_model:
            self.trainer.save_beside(draft)

    def _finish_draft(self, draft: Path, folder: Path) -> None:
        """On the rank that saves, after all ranks have written: seal the checkpoint and give it its name."""
        if self.trainer.args.should_save:
            self._name_best(draft, folder)
            make_json_valid(draft / STATE)
            self.trainer.seal(draft)
            _move(draft, folder)

    def _name_best(self, draft: Path, folder: Path) -> None:
        """Where this checkpoint is the best so far, its state names it by the path that it will have."""
        state = self.trainer.state
        if state.best_model_checkpoint == str(draft):
            state.best_model_checkpoint = str(folder)
            state.save_to_json(str(draft / STATE))

    def _forget_best(self, lost: Path) -> bool:
        """Whether the checkpoint that could not be written was to be the best: then the one before it is."""
        state = self.trainer.state
        if state.best_model_checkpoint == str(lost):
            state.best_model_checkpoint = None
        before = self._best_before if state.best_global_step == state.global_step else None
        if before is not None:
            before.put_back(state)
        return before is not None


def _move(draft: Path, folder: Path) -> None:
    """Give a finished checkpoint its name. An earlier one of the same step goes."""
    if folder.is_dir() and exchanged(draft, folder):  # at no time is there neither
        sync_folder(folder.parent)
        return
    if folder.exists():
        folder.replace(place_aside(folder))
    try:
        draft.replace(folder)
    finally:
        bring_back(folder.parent)
    sync_folder(folder.parent)
