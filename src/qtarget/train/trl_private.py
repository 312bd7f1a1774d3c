"""Everything private in TRL and transformers that the trainer leans on, under names of our own.

A release that moves one of these is refused in words when a trainer is built (`probes`); beside that module, nothing
else in the package names them.
"""

import copy
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerState
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import SaveStrategy, has_length, rotate_checkpoints
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer
from trl.trainer.utils import create_model_from_path as create_model_from_path

from qtarget.data import Asker
from qtarget.train.instance_forward import ForwardBeforeTRL
from qtarget.train.missed_evaluation import evaluation_missed
from qtarget.train.probes import check_hooks, check_label_count, check_state

Prepare = Callable[[Any, SFTConfig, bool], Any]
UNFINISHED = ".unfinished"
"""Folder in an output directory that holds the checkpoint being written; it is renamed once it is whole."""


class Preparation(NamedTuple):
    """A data set to prepare, and how its rows are rendered as text.

    Attributes:
        name: of the data set, "train" or "eval".  chat_template: the one in the place of the tokenizer's own, or None.
        has_formatter: whether a function of the user turns rows into text first.
        asker: in whose language errors say what to write.
        only_turns: whether `assistant_only_loss` was given, which rows without turns contradict.
    """

    name: str
    tokenizer: PreTrainedTokenizerBase
    chat_template: str | None
    has_formatter: bool
    asker: Asker = Asker.PYTHON
    only_turns: bool = False


class OpenSFTTrainer(SFTTrainer):
    """`SFTTrainer` with its private hooks as public methods, for a subclass to fill in."""

    model: Any
    args: Any
    carried_columns: tuple[str, ...] = ()
    """Columns beside `input_ids`, `labels` and `seq_lengths` that reach the collator."""
    asker: Asker = Asker.PYTHON
    """In whose language errors say what to write."""
    only_turns = False
    """Whether rows without turns of a conversation are refused."""

    def __init__(self, *args: Any, callbacks: list[TrainerCallback] | None = None, **kwargs: Any) -> None:
        check_hooks()
        before = ForwardBeforeTRL()
        super().__init__(*args, callbacks=[*(callbacks or []), before], **kwargs)
        self.remove_callback(before)
        before.restore()
        check_state(self)

    def prepare_rows(self, dataset: Any, prepare: Prepare, args: SFTConfig, packing: bool, request: Preparation) -> Any:
        """A raw data set tokenised, labelled, truncated or packed. `prepare(dataset, args, packing)` is TRL's
        way to do so."""
        return prepare(dataset, args, packing)

    _draft: Path | None = None
    _is_finished_before = False

    def save_checkpoint(self) -> None:
        """Write `checkpoint-N` of this moment, from which training goes on, whatever `save_strategy` says."""
        self._save_checkpoint(self.model_wrapped, trial=None)

    def evaluate_in_training(self) -> None:
        """Evaluate as the training loop does after a step: schedulers and the choice of the best see the result."""
        metrics = self._evaluate(None, None)
        is_best = self._determine_best_metric(metrics=metrics, trial=None)
        if is_best and self.args.save_strategy == SaveStrategy.BEST:
            self.save_checkpoint()

    @property
    def log_window(self) -> tuple[torch.Tensor, int]:
        """The sum of this rank's losses since the last log, and the step of that log."""
        return self._tr_loss, self._globalstep_last_logged

    @log_window.setter
    def log_window(self, window: tuple[torch.Tensor, int]) -> None:
        self._tr_loss, self._globalstep_last_logged = window

    def save_beside(self, folder: Path) -> None:
        """Called after a checkpoint is written to `folder`, on every rank."""

    def load_beside(self, folder: Path) -> None:
        """Called after the model's weights are read from a checkpoint, on every rank."""

    @property
    def is_vision(self) -> bool:
        return self._is_vlm or self._is_vision_dataset

    @property
    def text_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, out of a processor too."""
        return self._tokenizer

    @property
    def aux_loss_weight(self) -> float | None:
        """Coefficient of the load-balancing loss; None where there is none."""
        return self.router_aux_loss_coef if self.aux_loss_enabled else None

    def leave_balancing_out(self, config: Any) -> None:
        """Train without a load-balancing loss; `config` is the text model's."""
        self.aux_loss_enabled = config.output_router_logits = False

    def count_labels(self) -> None:
        """Have the Trainer count the labels of a whole accumulated batch, whatever the model's forward accepts."""
        self.model_accepts_loss_kwargs = True
        self._loss_shifts_labels = True
        check_label_count(self)

    def _prepare_dataset(self, dataset, processing_class, args, packing, formatting_func, dataset_name):
        def prepare(dataset: Any, args: SFTConfig, packing: bool) -> Any:
            with self._completions_of(dataset, args):
                return super(OpenSFTTrainer, self)._prepare_dataset(
                    dataset, processing_class, args, packing, formatting_func, dataset_name
                )

        has_formatter = formatting_func is not None
        request = Preparation(
            dataset_name, self._tokenizer, self.chat_template, has_formatter, self.asker, self.only_turns
        )
        return self.prepare_rows(dataset, prepare, args, packing, request)

    @contextmanager
    def _completions_of(self, dataset: Any, args: SFTConfig) -> Iterator[None]:
        """While the block runs, completions alone are learned of a data set that has some, where the configuration does
        not say: TRL decides that by the first training row, for all data sets."""
        before = self.completion_only_loss
        if args.completion_only_loss is None:
            self.completion_only_loss = {"prompt", "completion"} <= next(iter(dataset), {}).keys()
        try:
            yield
        finally:
            self.completion_only_loss = before

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        missing = [name for name in self.carried_columns if name not in self._signature_columns]
        self._signature_columns = [*self._signature_columns, *missing]

    def _save_checkpoint(self, model, trial) -> None:
        """A checkpoint appears whole or not at all: written to `UNFINISHED`, and renamed once all ranks are done."""
        run, name = Path(self._get_output_dir(trial=trial)), f"checkpoint-{self.state.global_step}"
        limit = self.args.save_total_limit
        with self._drafting(run):
            self.args.save_total_limit = None  # old checkpoints go once the new one is there
            super()._save_checkpoint(model, trial)
            self.args.save_total_limit = limit
            if not self.args.save_only_model:
                self.save_beside(run / UNFINISHED / name)
            if self.args.should_save:
                self._name_best(run, name)
            self.accelerator.wait_for_everyone()
            if self.args.should_save:
                _move(run / UNFINISHED / name, run / name)
            self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(run / name))
        if self.args.should_save:
            rotate_checkpoints(str(run), limit, self.state.best_model_checkpoint, use_mtime=True)

    @contextmanager
    def _drafting(self, run: Path) -> Iterator[None]:
        """While the block runs, checkpoints are written below `UNFINISHED`, which is empty before and gone after."""
        limit = self.args.save_total_limit
        if self.args.should_save:
            shutil.rmtree(run / UNFINISHED, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._draft = run / UNFINISHED
        try:
            yield
        finally:
            self._draft, self.args.save_total_limit = None, limit
            if self.args.should_save:
                shutil.rmtree(run / UNFINISHED, ignore_errors=True)

    def _name_best(self, run: Path, name: str) -> None:
        """Where this checkpoint is the best so far, its state names it by the path that it will have."""
        if self.state.best_model_checkpoint == str(run / UNFINISHED / name):
            self.state.best_model_checkpoint = str(run / name)
            self.state.save_to_json(str(run / UNFINISHED / name / "trainer_state.json"))

    def _get_output_dir(self, trial) -> str:
        return super()._get_output_dir(trial) if self._draft is None else str(self._draft)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._draft is None:  # not before it has its name
            super()._push_from_checkpoint(checkpoint_folder)

    def _run_epoch(self, *args, **kwargs) -> None:
        """As the Trainer's, which takes a step too many of a run that is resumed at its end."""
        if self.state.global_step < self.state.max_steps:
            return super()._run_epoch(*args, **kwargs)
        if evaluation_missed(self.args, self.state):
            self.evaluate_in_training()
        self.control.should_training_stop = self._is_finished_before = True

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As the Trainer's, without its mean loss over no step at all."""
        if "train_loss" in logs and self._is_finished_before:
            del logs["train_loss"]
            self._is_finished_before = False
        super().log(logs, start_time)

    def _init_training_state(
        self, max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
    ) -> tuple[int, int]:
        begun = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        if self.state.global_step == 0 or has_length(self.train_dataset) or self.args.ignore_data_skip:
            return begun
        file = Path(str(resume_from_checkpoint)) / TRAINER_STATE_NAME
        return place_in_stream(TrainerState.load_from_json(str(file)), self.args.gradient_accumulation_steps)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.load_beside(Path(resume_from_checkpoint))


def _move(draft: Path, folder: Path) -> None:
    """Give a finished checkpoint its name. An earlier one of the same step goes."""
    if folder.exists():
        shutil.rmtree(folder)
    draft.replace(folder)


def place_in_stream(state: TrainerState, accumulation: int) -> tuple[int, int]:
    """Where in a data set without a length a run stopped: passes over it that were begun before the last one, and
    micro-batches of that one.

    The Trainer takes such a set to be as long as the run, so its own count points past the end of a shorter one. It
    writes the place into `state.epoch`: the passes, and micro-batches over those of the whole run.
    """
    passes, part = divmod(state.epoch or 0.0, 1)
    of_run = state.max_steps * accumulation
    if part == 0 and passes:  # the whole run was one pass
        return int(passes) - 1, of_run
    return int(passes), round(part * of_run)


def without_cutting(args: SFTConfig) -> SFTConfig:
    """A copy of the configuration under which TRL tokenises and labels rows but neither cuts nor shuffles them."""
    whole = copy.copy(args)
    whole.max_length, whole.shuffle_dataset = None, False
    return whole
