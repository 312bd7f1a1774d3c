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
from qtarget.models.causal_lm import evaluating, head_of, hidden_states
from qtarget.models.loading import adapter_config

KEEPS_BASE = (True, False, "gaussian", "eva", "orthogonal")
"""Ways to begin a LoRA adapter that leave the base's weights as they were. PiSSA, OLoRA and CorDA change them."""


@dataclass(frozen=True, eq=False)
class SecondAdapter:
    """A frozen adapter that speaks through the student's base, beside the one that is trained.

    Args:
        student: the peft model.  adapter: the frozen one's name in it.
        vocab: leading rows of the head that stand for tokens; None for all.
    """

    student: Any
    adapter: str
    vocab: int | None = None

    @torch.no_grad()
    def evidence(self, inputs: Mapping[str, Any], labels: Tensor | None = None) -> Dense:
        base = self.student.get_base_model()
        with spoken_by(self.student, self.adapter), evaluating(self.student):
            return Dense(hidden_states(base, inputs, self.student), head_of(base), self.vocab)


@contextmanager
def spoken_by(model: Any, adapter: str) -> Iterator[None]:
    """Another adapter is active for a while. Which weights are trained does not change, though peft would have it."""
    trained, flags = model.active_adapter, [(weight, weight.requires_grad) for weight in model.parameters()]
    model.set_adapter(adapter)
    try:
        yield
    finally:
        model.set_adapter(trained)
        for weight, flag in flags:
            weight.requires_grad_(flag)


def shares_base(source: str, student: Any) -> bool:
    """Whether `source` is an adapter of the kind and on the base that the peft model `student` has."""
    theirs, ours = adapter_config(source), student.active_peft_config
    if theirs is None or theirs["peft_type"] != ours.peft_type.value or ours.is_prompt_learning:
        return False
    untouched = getattr(ours, "init_lora_weights", True) in KEEPS_BASE
    return untouched and _same_place(theirs["base_model_name_or_path"], student.get_base_model().config._name_or_path)


def _same_place(one: str, other: str) -> bool:
    folders = Path(one).is_dir() and Path(other).is_dir()
    return one == other or (folders and Path(one).samefile(other))


def add_adapter(source: str, student: Any, vocab: int | None) -> SecondAdapter:
    """Load an adapter beside the trained one. Checkpoints go on holding the trained one alone."""
    trained, training = student.active_adapter, student.training
    name = f"frozen_{len(student.peft_config)}"
    student.load_adapter(source, name, is_trainable=False, torch_device=str(student.device))
    student.train(training)
    if not isinstance(student.save_pretrained, partial):
        student.save_pretrained = partial(student.save_pretrained, selected_adapters=[trained])
    return SecondAdapter(student, name, vocab)
