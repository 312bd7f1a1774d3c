"""Everything private in TRL and transformers that the trainer leans on, under names of our own.

A release that moves one of these is refused in words when a trainer is built (`probes`); beside that module, nothing
else in the package names them.
"""

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import gather_object
from torch.distributed.checkpoint.api import CheckpointException
from transformers import PreTrainedTokenizerBase, TrainerCallback, TrainerState
from transformers import trainer as trainer_module
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import SaveStrategy, has_length
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer
from trl.trainer.utils import create_model_from_path as create_model_from_path

from qtarget.data import Asker
from qtarget.disk.files import make_json_valid, sync_folder
from qtarget.disk.os_errors import write_fault
from qtarget.disk.seal import SEAL
from qtarget.models.pickle_contents import check_pickles
from qtarget.models.pickled_weights import ALLOW, pickles_of_checkpoint, refuse_pickled_checkpoint
from qtarget.models.shard_index import refuse_shards_outside
from qtarget.train.checkpoint_pickles import OTHER_CHECKPOINT, check_checkpoint_pickles
from qtarget.train.finite_weights import NonFiniteWeightsError, check_finite_weights
from qtarget.train.instance_forward import ForwardBeforeTRL
from qtarget.train.missed_evaluation import evaluation_missed
from qtarget.train.probes import check_hooks, check_label_count, check_state
from qtarget.train.process_group import whole_weights
from qtarget.train.resumption.best_checkpoint import best_beside
from qtarget.train.resumption.pruning import prune_checkpoints

Prepare = Callable[[Any, SFTConfig, bool], Any]
CARD = "README.md"
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


class BestSoFar(NamedTuple):
    """What a Trainer's state says of the best checkpoint."""

    metric: float | None
    step: int | None
    checkpoint: str | None

    @classmethod
    def of(cls, state: TrainerState) -> "BestSoFar":
        return cls(state.best_metric, state.best_global_step, state.best_model_checkpoint)


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
    _best_before: BestSoFar | None = None
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

    @property
    def loss_total(self) -> float:
        """The sum of the losses of all steps, up to the last log; at the end of training with those after it."""
        return self._total_loss_scalar

    @loss_total.setter
    def loss_total(self, total: float) -> None:
        self._total_loss_scalar = total

    gradient_norm: torch.Tensor | float | None = None
    """Of the optimizer step under way, over all weights and ranks, before it is clipped."""

    def leave_step_out(self) -> None:
        """The optimizer does nothing when it is next asked for a step: weights and its state stay as they are. The
        schedule goes on. A loss scaler is asked, as it has to know, and finds no gradients."""
        optimizer: Any = self.optimizer
        self.model.zero_grad(set_to_none=True)
        if self.accelerator.scaler is None:
            self._taken_step, optimizer.step = optimizer.step, _no_step

    _taken_step: Callable | None = None

    def take_steps(self) -> None:
        """End what `leave_step_out` began."""
        optimizer: Any = self.optimizer
        if self._taken_step is not None:
            optimizer.step, self._taken_step = self._taken_step, None

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
    def read_columns(self) -> list[str]:
        """Columns of the prepared rows that reach the collator."""
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

    def _get_grad_norm(self, model, grad_norm=None):
        self.gradient_norm = super()._get_grad_norm(model, grad_norm)
        return self.gradient_norm

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the Trainer's.

        Raises:
            NonFiniteWeightsError: before anything is written, where a weight is NaN or infinite.
        """
        folder = Path(output_dir or str(self.args.output_dir))
        self._check_finite(folder, None)
        self.check_writer()
        with nullcontext() if _internal_call else whole_weights(self.accelerator):
            super().save_model(output_dir, _internal_call=_internal_call)
        if self.args.should_save and self._draft is None:
            self.replaced(folder)
            (folder / SEAL).unlink(missing_ok=True)  # while files were replaced, it told that not all are one model's

    @property
    def card_folder(self) -> Path:
        """Where a card is written: into the checkpoint that is being written, else beside the result."""
        name = f"checkpoint-{self.state.global_step}"
        return Path(str(self.args.output_dir)) if self._draft is None else self._draft / name

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """As TRL's; the card of a checkpoint stands in it, so that none speaks of weights that it is not beside."""
        before, self.args.output_dir = self.args.output_dir, str(self.card_folder)
        try:
            super().create_model_card(*args, **kwargs)
        finally:
            self.args.output_dir = before

    def replaced(self, folder: Path) -> None:
        """Called on the rank that saves, when a model was written to `folder`, perhaps in the place of another."""

    def _check_finite(self, folder: str | Path, optimizer: Any) -> None:
        try:
            check_finite_weights(self.model, optimizer)
        except NonFiniteWeightsError as error:
            raise NonFiniteWeightsError(
                f"{error} {folder} was not written. Training has diverged: lower `learning_rate` or `max_grad_norm`."
            ) from error

    def _save_checkpoint(self, model, trial) -> None:
        """A checkpoint appears whole or not at all: written to `UNFINISHED`, sealed and renamed once all ranks are
        done. What cannot be written is left to `on_save_error`."""
        run, name = Path(self._get_output_dir(trial=trial)), f"checkpoint-{self.state.global_step}"
        self._check_finite(run / name, self.optimizer)
        self.check_writer()
        with self._drafting(run):
            is_cut = self.is_fsdp_enabled or self.is_deepspeed_enabled
            error = self._attempt(lambda: self._write_draft(run / UNFINISHED / name, model, trial), is_cut)
            error = error or self._attempt(lambda: self._finish_draft(run, name))
        if error is not None:
            return self.checkpoint_lost(run / name, error, was_best=self._forget_best(run / UNFINISHED / name))
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(run / name))
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            kept = {run / name, *([Path(best)] if best else [])}
            prune_checkpoints(run, self.args.save_total_limit, kept, self.state.global_step)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        self._best_before = BestSoFar.of(self.state)
        return super()._determine_best_metric(metrics=metrics, trial=trial)

    def _forget_best(self, lost: Path) -> bool:
        """Whether the checkpoint that could not be written was to be the best: then the one before it is."""
        state = self.state
        if state.best_model_checkpoint == str(lost):
            state.best_model_checkpoint = None
        before = self._best_before if state.best_global_step == state.global_step else None
        if before is not None:
            state.best_metric, state.best_global_step = before.metric, before.step
            state.best_model_checkpoint = before.checkpoint
        return before is not None

    def _write_draft(self, draft: Path, model, trial) -> None:
        limit, self.args.save_total_limit = self.args.save_total_limit, None  # old ones go once the new one is there
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        if not self.args.save_only_model:
            self.save_beside(draft)

    def _finish_draft(self, run: Path, name: str) -> None:
        """On the rank that saves, after all ranks have written: seal the checkpoint and give it its name."""
        if self.args.should_save:
            self._name_best(run, name)
            make_json_valid(run / UNFINISHED / name / TRAINER_STATE_NAME)
            self.seal(run / UNFINISHED / name)
            _move(run / UNFINISHED / name, run / name)

    def _attempt(self, write: Callable[[], None], is_exchanging: bool = False) -> Exception | None:
        """What went wrong with files on this rank, or on another, if anything did. All ranks wait for each other.

        Args:
            is_exchanging: whether ranks exchange parts as they write. One that fails cannot wait for the others then.
        """
        error: Exception | None = None
        try:
            write()
        except (Exception, CheckpointException) as refused:  # the second, torch's of all ranks, is no Exception
            fault = write_fault(refused)
            if fault is None:
                raise
            if is_exchanging and self.accelerator.num_processes > 1:
                raise OSError(fault.words) from refused
            error = OSError(fault.words) if isinstance(refused, CheckpointException) else refused
        if self.accelerator.num_processes == 1:
            return error
        failed: Any = torch.tensor(float(error is not None), device=self.accelerator.device)
        failed = self.accelerator.reduce(failed, "sum")
        return self._first_fault(error) if failed.item() else None

    def _first_fault(self, error: Exception | None) -> OSError:
        """What went wrong on the first rank of those where something did, in the same words on every rank."""
        fault = write_fault(error)
        words = gather_object([fault and f"On rank {self.accelerator.process_index}: {fault.words}"])
        return OSError(next(each for each in words if each is not None))

    @contextmanager
    def _drafting(self, run: Path) -> Iterator[None]:
        """While the block runs, checkpoints are written below `UNFINISHED`, which is empty before and gone after."""
        if self.args.should_save:
            shutil.rmtree(run / UNFINISHED, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._draft = run / UNFINISHED
        try:
            yield
        finally:
            self._draft = None
            if self.args.should_save:
                shutil.rmtree(run / UNFINISHED, ignore_errors=True)

    def _name_best(self, run: Path, name: str) -> None:
        """Where this checkpoint is the best so far, its state names it by the path that it will have."""
        if self.state.best_model_checkpoint == str(run / UNFINISHED / name):
            self.state.best_model_checkpoint = str(run / name)
            self.state.save_to_json(str(run / UNFINISHED / name / "trainer_state.json"))

    def save_state(self) -> None:
        """As the Trainer's, in JSON that every reader takes: a loss that is not a number is null."""
        super().save_state()
        if self.args.should_save:
            make_json_valid(Path(self.args.output_dir or ".") / TRAINER_STATE_NAME)

    def _get_output_dir(self, trial) -> str:
        return super()._get_output_dir(trial) if self._draft is None else str(self._draft)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        if self._draft is None:  # not before it has its name
            output = Path(str(self.args.output_dir))
            if self.is_world_process_zero() and (card := Path(checkpoint_folder) / CARD).is_file():
                # the Trainer puts the checkpoint's weights in the result's place, which the seal does not speak of
                (output / SEAL).unlink(missing_ok=True)
                shutil.copyfile(card, output / CARD)
            with _without_pickled_arguments():
                super()._push_from_checkpoint(checkpoint_folder)

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        with _without_pickled_arguments():
            super()._save(output_dir, state_dict)

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
        self.begin_steps(self.state.global_step, max_steps)
        if resume_from_checkpoint is not None and self.state.global_step:
            best = best_beside(Path(str(resume_from_checkpoint)))
            self.state.best_model_checkpoint = str(best) if best is not None and best.is_dir() else None
        if self.state.global_step == 0 or has_length(self.train_dataset) or self.args.ignore_data_skip:
            return begun
        file = Path(str(resume_from_checkpoint)) / TRAINER_STATE_NAME
        return place_in_stream(TrainerState.load_from_json(str(file)), self.args.gradient_accumulation_steps)

    def _load_best_model(self) -> None:
        self.check_best(Path(str(self.state.best_model_checkpoint)))
        self._check_weights_of(Path(str(self.state.best_model_checkpoint)))
        with _dtypes_kept(self.model):
            super()._load_best_model()

    def _check_weights_of(self, checkpoint: Path) -> None:
        refuse_shards_outside(checkpoint)
        if getattr(self.args, ALLOW, False):
            check_pickles(pickles_of_checkpoint(checkpoint), OTHER_CHECKPOINT)
        else:
            refuse_pickled_checkpoint(checkpoint, self.asker.line(ALLOW, True))

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None) -> None:
        check_checkpoint_pickles(Path(resume_from_checkpoint))
        self._check_weights_of(Path(resume_from_checkpoint))
        with _dtypes_kept(model or self.model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.load_beside(Path(resume_from_checkpoint))


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


@contextmanager
def _dtypes_kept(model: Any) -> Iterator[None]:
    """While the block reads weights into a model they stay of the types that they had. peft reads an adapter as float32
    where TRL, for a quantised model, trains it in bfloat16."""
    before = {name: weight.dtype for name, weight in model.named_parameters()}
    yield
    for name, weight in model.named_parameters():
        if weight.dtype != before.get(name, weight.dtype):
            weight.data = weight.data.to(before[name])


def _no_step(closure: Any = None) -> None:
    """In the place of an optimizer's step that is left out."""


def _move(draft: Path, folder: Path) -> None:
    """Give a finished checkpoint its name. An earlier one of the same step goes."""
    if folder.exists():
        folder.replace(draft.with_name("replaced"))
    draft.replace(folder)
    sync_folder(folder.parent)


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
