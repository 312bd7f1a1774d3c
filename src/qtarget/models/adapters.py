"""A LoRA adapter as a teacher on the base that the student's own adapter is trained on: no second model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qtarget import Dense
from qtarget.models.causal_lm import eval_mode, head_of, hidden_states
from qtarget.models.drawn_weights import refuse_partial_adapter
from qtarget.models.loading import adapter_config

BASE_KEEPING_INITS = (True, False, "gaussian", "eva", "orthogonal")
"""Values of peft's `init_lora_weights` that leave the base's weights as they were. PiSSA, OLoRA and CorDA do not."""


@dataclass(frozen=True, eq=False)
class SecondAdapter:
    """Evidence from a frozen adapter on the student's base, beside the adapter that is trained.

    Args:
        student: the peft model.  adapter: the frozen adapter's name in it.
        vocab: leading rows of the output layer that stand for tokens; None for all.
    """

    student: Any
    adapter: str
    vocab: int | None = None

    @torch.no_grad()
    def evidence(self, inputs: Mapping[str, Any], labels: Tensor | None = None) -> Dense:
        base = self.student.get_base_model()
        with other_adapter(self.student, self.adapter), eval_mode(self.student):
            return Dense(hidden_states(base, inputs, self.student), head_of(base), self.vocab)


@contextmanager
def other_adapter(model: Any, adapter: str) -> Iterator[None]:
    """Make another adapter active for a while. `requires_grad`, which peft would change, stays as it is."""
    trained, flags = model.active_adapter, [(weight, weight.requires_grad) for weight in model.parameters()]
    model.set_adapter(adapter)
    try:
        yield
    finally:
        model.set_adapter(trained)
        for weight, flag in flags:
            weight.requires_grad_(flag)


def shares_base(source: str, student: Any) -> bool:
    """Whether `source` is an adapter of the same type and on the same base as that of the peft model `student`."""
    theirs, ours = adapter_config(source), student.active_peft_config
    if theirs is None or theirs["peft_type"] != ours.peft_type.value or ours.is_prompt_learning:
        return False
    base_is_kept = getattr(ours, "init_lora_weights", True) in BASE_KEEPING_INITS
    return base_is_kept and _same_place(
        theirs["base_model_name_or_path"], student.get_base_model().config._name_or_path
    )


def _same_place(first: str, second: str) -> bool:
    are_folders = Path(first).is_dir() and Path(second).is_dir()
    return first == second or (are_folders and Path(first).samefile(second))


def add_adapter(source: str, student: Any, vocab: int | None) -> SecondAdapter:
    """Load a frozen adapter beside the trained one. Checkpoints still hold the trained one alone."""
    trained, training = student.active_adapter, student.training
    name = f"frozen_{len(student.peft_config)}"
    read = student.load_adapter(source, name, is_trainable=False, torch_device=str(student.device))
    refuse_partial_adapter(source, read.missing_keys, read.unexpected_keys)
    student.train(training)
    if not isinstance(student.save_pretrained, partial):
        student.save_pretrained = partial(student.save_pretrained, selected_adapters=[trained])
    return SecondAdapter(student, name, vocab)
