"""Tries what the trainer leans on in TRL and transformers and what is private there, whenever a trainer is built.

A release that moved one of these is refused in words, in the place of an error from the depths or of a wrong loss.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel, Trainer
from trl.trainer import sft_trainer
from trl.trainer.base_trainer import _BaseTrainer
from trl.trainer.sft_trainer import SFTTrainer

from qtarget.models.drawn_weights import READS_WEIGHTS
from qtarget.train.versions import moved


class Hook(NamedTuple):
    """A method of TRL's or transformers' trainer that is overridden or called, and its parameters."""

    owner: type
    name: str
    parameters: tuple[str, ...]

    def fault(self) -> str | None:
        """What is wrong with it now; None if nothing is."""
        method = getattr(self.owner, self.name, None)
        if method is None:
            return f"{self.owner.__name__}.{self.name} is gone"
        found = tuple(inspect.signature(method).parameters)[1:]
        if found == self.parameters:
            return None
        return f"{self.owner.__name__}.{self.name} takes ({', '.join(found)}), not ({', '.join(self.parameters)})"


HOOKS = (
    Hook(
        SFTTrainer,
        "_prepare_dataset",
        ("dataset", "processing_class", "args", "packing", "formatting_func", "dataset_name"),
    ),
    Hook(SFTTrainer, "_set_signature_columns_if_needed", ()),
    Hook(SFTTrainer, "_save_checkpoint", ("model", "trial")),
    Hook(SFTTrainer, "compute_loss", ("model", "inputs", "return_outputs", "num_items_in_batch")),
    Hook(Trainer, "_load_from_checkpoint", ("resume_from_checkpoint", "model")),
    Hook(Trainer, "_load_best_model", ()),
    Hook(Trainer, "_get_output_dir", ("trial",)),
    Hook(Trainer, "_push_from_checkpoint", ("checkpoint_folder",)),
    Hook(Trainer, "_evaluate", ("trial", "ignore_keys_for_eval", "skip_scheduler")),
    Hook(Trainer, "_determine_best_metric", ("metrics", "trial")),
    Hook(Trainer, "_get_grad_norm", ("model", "grad_norm")),
    Hook(Trainer, "_get_train_sampler", ("train_dataset",)),
    Hook(Trainer, "_save", ("output_dir", "state_dict")),
    Hook(Trainer, "save_model", ("output_dir", "_internal_call")),
    Hook(Trainer, "_get_num_items_in_batch", ("batch_samples", "device")),
    Hook(
        Trainer,
        "_init_training_state",
        ("max_steps", "num_update_steps_per_epoch", "num_train_epochs", "resume_from_checkpoint", "trial"),
    ),
)

STATE_KINDS: dict[str, Callable[[Any], bool]] = {
    "_tokenizer": lambda value: hasattr(value, "decode"),
    "_is_vlm": lambda value: isinstance(value, bool),
    "_is_vision_dataset": lambda value: isinstance(value, bool),
    "padding_free": lambda value: isinstance(value, bool),
    "chat_template": lambda value: value is None or isinstance(value, str),
    "aux_loss_enabled": lambda value: isinstance(value, bool),
    "router_aux_loss_coef": lambda value: isinstance(value, int | float),
    "model_accepts_loss_kwargs": lambda value: isinstance(value, bool),
    "_loss_shifts_labels": lambda value: isinstance(value, bool),
    "_signature_columns": lambda value: value is None or isinstance(value, list),
    "model_wrapped": lambda value: callable(value),
    "get_tp_size": lambda value: value() >= 1,
}
"""Attributes of a trainer that TRL has built, and what must hold of each."""


def check_hooks() -> None:
    """Try the methods that are overridden or called, before anything is built.

    Raises:
        ImportError: names what moved, what is installed, what is tested and the pip line.
    """
    _refuse([fault for hook in HOOKS if (fault := hook.fault())] + list(_loop_faults()))


def check_state(trainer: Any) -> None:
    """Try what a trainer keeps and how it counts labels, once TRL has built it.

    Raises:
        ImportError: as for `check_hooks`.
    """
    missing = object()
    values = {name: getattr(trainer, name, missing) for name in STATE_KINDS}
    faults = [f"a trainer has no `{name}`" for name, value in values.items() if value is missing]
    faults += [
        f"a trainer's `{name}` is {value!r}"
        for name, value in values.items()
        if value is not missing and not STATE_KINDS[name](value)
    ]
    _refuse(faults)


def check_label_count(trainer: Any) -> None:
    """Try whether the labels of an accumulated batch are counted as the loss needs: without the first of each row.

    One process only: over several the count is a sum over ranks.

    Raises:
        ImportError: as for `check_hooks`.
    """
    labels = torch.tensor([[5, 6, -100], [5, 6, 7]])
    if trainer.accelerator.num_processes > 1:
        return
    counted = trainer._get_num_items_in_batch([{"labels": labels}] * 2, labels.device)
    number = int(counted) if isinstance(counted, Tensor | int) else counted
    _refuse([] if number == 6 else [f"6 labels of two batches are counted as {number}"])


def _loop_faults() -> Iterator[str]:
    """What the training loop reads and sets, seen in the names its code uses."""
    reader = Trainer.training_step if hasattr(Trainer, "loss_is_scaled_for_ga") else _BaseTrainer.__init__
    if not _names(reader, "loss_is_scaled_for_ga"):
        yield f"{reader.__qualname__} reads no `loss_is_scaled_for_ga`"
    for name in ("current_gradient_accumulation_steps", "_tr_loss", "_get_grad_norm", "on_pre_optimizer_step"):
        if not _names(getattr(Trainer, "_run_epoch", None), name):
            yield f"Trainer._run_epoch uses no `{name}`"
    for name in ("_save", "_push_from_checkpoint"):
        if not _names(getattr(Trainer, name, None), "TRAINING_ARGS_NAME"):
            yield f"Trainer.{name} uses no `TRAINING_ARGS_NAME`"
    if not hasattr(sft_trainer, "create_model_from_path"):
        yield "trl.trainer.sft_trainer has no `create_model_from_path`"
    if not hasattr(PreTrainedModel, READS_WEIGHTS):
        yield f"PreTrainedModel.{READS_WEIGHTS} is gone"
    if not _names(getattr(Trainer, "_inner_training_loop", None), "_globalstep_last_logged"):
        yield "Trainer._inner_training_loop sets no `_globalstep_last_logged`"


def _names(function: Any, name: str) -> bool:
    """Whether the code of a function, or of one inside it, uses a name."""
    code = getattr(inspect.unwrap(function), "__code__", None) if function is not None else None
    codes = [code] if code else []
    for each in codes:
        codes += [inner for inner in each.co_consts if inspect.iscode(inner)]
        if name in (*each.co_names, *each.co_varnames, *each.co_consts):
            return True
    return False


def _refuse(faults: list[str]) -> None:
    if faults:
        raise moved(faults)
