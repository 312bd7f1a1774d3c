"""Everything private in TRL and transformers that the trainer leans on, under names of our own.

A release that moves one of these is refused in words when a trainer is built (`probes`); beside that module, nothing
else in the package names them. What is done at these hooks stands elsewhere: with checkpoints in `checkpoint_files/`.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback
from transformers import trainer as trainer_module
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.trainer_utils import SaveStrategy, has_length
from trl.trainer import sft_trainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer
from trl.trainer.utils import create_model_from_path as create_model_from_path

from qtarget.data import Asker
from qtarget.disk.files import make_json_valid
from qtarget.disk.seal import SEAL
from qtarget.models.drawn_weights import refuse_drawn_weights
from qtarget.models.sharding import is_sharded, read_whole
from qtarget.train.checkpoint_files.best_so_far import recall_best
from qtarget.train.checkpoint_files.callback_states import is_ended_early, restore_callbacks
from qtarget.train.checkpoint_files.checkpoint_pickles import check_checkpoint_pickles
from qtarget.train.checkpoint_files.checkpoint_weights import check_checkpoint_weights, dtypes_kept
from qtarget.train.checkpoint_files.checkpoint_writer import CheckpointWriter
from qtarget.train.checkpoint_files.hub_push import lay_out_card
from qtarget.train.checkpoint_files.stream_place import place_in_stream
from qtarget.train.finite_weights import check_before_writing
from qtarget.train.instance_forward import ForwardBeforeTRL
from qtarget.train.length_groups import EpochLengthGroups
from qtarget.train.missed_evaluation import ended_by_evaluation, evaluation_missed
from qtarget.train.probes import check_hooks, check_label_count, check_state
from qtarget.train.process_group import whole_weights
from qtarget.train.resumption.whole_checkpoints import step_of
from qtarget.train.trl_preparation import Preparation, Prepare, completions_learned


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
        self.checkpoint_writer = CheckpointWriter(self)
        before = ForwardBeforeTRL()
        with _whole_student():
            super().__init__(*args, callbacks=[*(callbacks or []), before], **kwargs)
        self.remove_callback(before)
        before.restore()
        check_state(self)

    def prepare_rows(self, dataset: Any, prepare: Prepare, args: SFTConfig, packing: bool, request: Preparation) -> Any:
        """A raw data set tokenised, labelled, truncated or packed. `prepare(dataset, args, packing)` is TRL's
        way to do so."""
        return prepare(dataset, args, packing)

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

    @property
    def loss_total(self) -> float:
        """The sum of the losses of all steps, up to the last log; at the end of training with those after it."""
        return self._total_loss_scalar

    @loss_total.setter
    def loss_total(self, total: float) -> None:
        self._total_loss_scalar = total

    best_taken: int | None = None
    """The step whose weights the model has, once those of the best checkpoint were taken in the place of the last."""

    gradient_norm: torch.Tensor | float | None = None
    """Of the optimizer step under way, over all weights and ranks, before it is clipped."""

    def save_beside(self, folder: Path) -> None:
        """Called after a checkpoint is written to `folder`, on every rank."""

    def seal(self, folder: Path) -> None:
        """Called on the rank that saves, when a checkpoint is written to `folder` and not yet at its place."""

    def begin_steps(self, done: int, last: int) -> None:
        """Called when training begins, with the number of steps that are done and of those that will be."""

    def check_writer(self) -> None:
        """Called before anything is written."""

    def checkpoint_lost(self, folder: Path, error: Exception, was_best: bool) -> None:
        """Called on every rank, when the checkpoint `folder`, which may have been the best, could not be written."""
        raise error

    def check_best(self, folder: Path) -> None:
        """Called on every rank, before the weights of the best checkpoint are taken for the result."""

    def load_beside(self, folder: Path) -> None:
        """Called after the model's weights are read from a checkpoint, on every rank."""

    @property
    def read_columns(self) -> list[str] | None:
        """Columns of the prepared rows that reach the collator; None for all."""
        if not self.args.remove_unused_columns:
            return None
        self._set_signature_columns_if_needed()
        return list(self._signature_columns or [])

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
            with completions_learned(self, dataset, args):
                return super(OpenSFTTrainer, self)._prepare_dataset(
                    dataset, processing_class, args, packing, formatting_func, dataset_name
                )

        has_formatter = formatting_func is not None
        request = Preparation(
            dataset_name, self._tokenizer, self.chat_template, has_formatter, self.asker, self.only_turns
        )
        return self.prepare_rows(dataset, prepare, args, packing, request)

    def _get_train_sampler(self, train_dataset=None):
        sampler = super()._get_train_sampler(train_dataset)
        if isinstance(sampler, LengthGroupedSampler):
            seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
            sampler = self._length_groups = EpochLengthGroups(sampler, seed)
        return sampler

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        missing = [name for name in self.carried_columns if name not in self._signature_columns]
        self._signature_columns = [*self._signature_columns, *missing]

    def _get_grad_norm(self, model, grad_norm=None):
        self.gradient_norm = super()._get_grad_norm(model, grad_norm)
        return self.gradient_norm

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the Trainer's.

        Raises:
            NonFiniteWeightsError: before anything is written, where a weight is NaN or infinite.
        """
        folder = Path(output_dir or str(self.args.output_dir))
        check_before_writing(folder, self.model)
        self.check_writer()
        with nullcontext() if _internal_call else whole_weights(self.accelerator):
            super().save_model(output_dir, _internal_call=_internal_call)
        if self.args.should_save and self.checkpoint_writer.draft is None:
            self.replaced(folder)
            (folder / SEAL).unlink(missing_ok=True)  # while files were replaced, it told that not all are one model's

    @property
    def card_folder(self) -> Path:
        """Where a card is written: into the checkpoint that is being written, else beside the result."""
        return self.checkpoint_writer.draft or Path(str(self.args.output_dir))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """As TRL's; the card of a checkpoint stands in it, so that none speaks of weights that it is not beside."""
        before, self.args.output_dir = self.args.output_dir, str(self.card_folder)
        try:
            super().create_model_card(*args, **kwargs)
        finally:
            self.args.output_dir = before

    def replaced(self, folder: Path) -> None:
        """Called on the rank that saves, when a model was written to `folder`, perhaps in the place of another."""

    def _save_checkpoint(self, model, trial) -> None:
        save = super()._save_checkpoint
        run, is_cut = Path(self._get_output_dir(trial=trial)), is_sharded(self.model)
        is_cut = is_cut or self.is_fsdp_enabled or self.is_deepspeed_enabled
        folder = self.checkpoint_writer.write(run, lambda: save(model, trial), is_cut)
        if folder is None:
            return
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(folder))
        self.checkpoint_writer.prune(folder)

    def _evaluate(self, trial, ignore_keys_for_eval, skip_scheduler: bool = False) -> dict[str, float]:
        """As the Trainer's, without that of `eval_on_start` where a run goes on: the unbroken run has none there."""
        if skip_scheduler and self.state.global_step:  # which only that of `eval_on_start` does
            return {}
        return super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler=skip_scheduler)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        self.checkpoint_writer.note_best()
        return super()._determine_best_metric(metrics=metrics, trial=trial)

    def save_state(self) -> None:
        """As the Trainer's, in JSON that every reader takes: a loss that is not a number is null."""
        super().save_state()
        if self.args.should_save:
            make_json_valid(Path(self.args.output_dir or ".") / TRAINER_STATE_NAME)

    def _get_output_dir(self, trial) -> str:
        draft = self.checkpoint_writer.draft
        return super()._get_output_dir(trial) if draft is None else str(draft.parent)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self.checkpoint_writer.draft is None:  # not before it has its name
            if self.is_world_process_zero():
                lay_out_card(Path(checkpoint_folder), Path(str(self.args.output_dir)))
            with _without_pickled_arguments():
                super()._push_from_checkpoint(checkpoint_folder)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with _without_pickled_arguments():
            super()._save(output_dir, state_dict)

    _is_finished_before = False
    _resumed_at = 0
    _length_groups: EpochLengthGroups | None = None

    def _is_ended_before(self) -> bool:
        """Whether a callback had ended the run when the checkpoint was written that it goes on from."""
        at_its_step = 0 < self.state.global_step == self._resumed_at
        return at_its_step and is_ended_early(self.callback_handler.callbacks)

    def _run_epoch(self, *args, **kwargs) -> None:
        """As the Trainer's, which takes a step too many of a run that is resumed at its end."""
        if self._length_groups is not None:
            self._length_groups.epoch = kwargs["epoch"]  # which accelerate does not tell it on several ranks
        if self.state.global_step < self.state.max_steps and not self._is_ended_before():
            with ended_by_evaluation():
                return super()._run_epoch(*args, **kwargs)
            self._is_finished_before = True
            return None
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
        self.best_taken = None
        begun = super()._init_training_state(
            max_steps, num_update_steps_per_epoch, num_train_epochs, resume_from_checkpoint, trial
        )
        self.state.compute_steps(self.args, max_steps)  # a checkpoint's state has those of the run that wrote it
        self._resumed_at = self.state.global_step
        self.begin_steps(self.state.global_step, max_steps)
        if resume_from_checkpoint is not None and self.state.global_step:
            recall_best(self.state, Path(str(resume_from_checkpoint)))
            restores = not self.args.restore_callback_states_from_checkpoint  # by which the Trainer does so itself
            restore_callbacks(self.callback_handler.callbacks, self.state, restores)
        if self.state.global_step == 0 or has_length(self.train_dataset):
            return begun
        return place_in_stream(Path(str(resume_from_checkpoint)), self.args.gradient_accumulation_steps)

    def _load_best_model(self) -> None:
        best = Path(str(self.state.best_model_checkpoint))
        self.check_best(best)
        check_checkpoint_weights(best, self.args, self.asker)
        with dtypes_kept(self.model):
            super()._load_best_model()
        self.best_taken = step_of(best)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        checkpoint = Path(resume_from_checkpoint)
        check_checkpoint_pickles(checkpoint)
        check_checkpoint_weights(checkpoint, self.args, self.asker)
        with dtypes_kept(model or self.model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.load_beside(checkpoint)


@contextmanager
def _whole_student() -> Iterator[None]:
    """While the block runs, TRL opens no model of which weights would be drawn at random."""

    def create_whole(source: str, *args: Any, **kwargs: Any) -> Any:
        with read_whole(), refuse_drawn_weights(source):
            return create_model_from_path(source, *args, **kwargs)

    sft_trainer.create_model_from_path = create_whole  # pyright: ignore[reportPrivateImportUsage]
    try:
        yield
    finally:
        sft_trainer.create_model_from_path = create_model_from_path  # pyright: ignore[reportPrivateImportUsage]


@contextmanager
def _without_pickled_arguments() -> Iterator[None]:
    """While the block runs, the Trainer's `training_args.bin` goes nowhere: a pickle that nothing reads, and that holds
    `hub_token` in clear."""
    name = trainer_module.TRAINING_ARGS_NAME
    trainer_module.TRAINING_ARGS_NAME = os.devnull  # an absolute path, so the folder before it is dropped
    try:
        yield
    finally:
        trainer_module.TRAINING_ARGS_NAME = name
