"""The student as its own teacher: as it was at first, with its adapter off, or as an average over its steps.

It is another model only where it reads another prompt, or is older than the student.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import is_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainerCallback

import qtarget as qt
from qtarget.models.causal_lm import hidden_states
from qtarget.teacher import eval_mode, head_of

AVERAGE_FILE = "teacher_average.safetensors"


@dataclass(frozen=True, eq=False)
class AdapterOff:
    """Evidence from the base under the student's adapter, which is switched off meanwhile.

    Args:
        student: the peft model.
    """

    student: Any

    @torch.no_grad()
    def evidence(self, inputs: Mapping[str, Any], labels: Tensor) -> qt.Dense:
        base = self.student.get_base_model()
        with self.student.disable_adapter(), eval_mode(self.student):
            return qt.Dense(hidden_states(base, inputs, self.student), head_of(base))


@dataclass(eq=False)
class StudentAverage:
    """An exponential average of the student's weights, moved a little towards them after every optimizer step.

    Holds the trainable weights only, in float32, where a thousandth part of a step is not rounded away. Its evidence
    comes from the student's own forward with the averages put in place of the weights.

    Attributes:
        decay: the part of the average that stays at a step, 0 ≤ decay < 1; 0 is the student itself.
        weights: the averages, by name.
    """

    student: nn.Module
    decay: float
    weights: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.weights = {name: weight.detach().float().clone() for name, weight in self._trainable()}

    def _trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, weight) for name, weight in self.student.named_parameters() if weight.requires_grad)

    @torch.no_grad()
    def follow(self) -> None:
        """Take the student of this moment into the average."""
        for name, weight in self._trainable():
            own = self.weights[name] = self.weights[name].to(weight.device)
            own.lerp_(weight.float(), 1 - self.decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which the student has the averages for its weights; each bit of these comes back."""
        before = {name: weight.detach().clone() for name, weight in self._trainable()}
        self._put(self.weights)
        try:
            yield
        finally:
            self._put(before)

    @torch.no_grad()
    def _put(self, weights: Mapping[str, Tensor]) -> None:
        for name, weight in self._trainable():
            weight.copy_(weights[name])

    @torch.no_grad()
    def evidence(self, inputs: Mapping[str, Any], labels: Tensor) -> qt.Dense:
        is_peft = is_peft_model(self.student)
        base: PreTrainedModel = self.student.get_base_model() if is_peft else self.student  # type: ignore[assignment]
        with self.in_place(), eval_mode(self.student):
            hidden = hidden_states(base, inputs, self.student if is_peft else None)
            return qt.Dense(hidden, _kept(head_of(base)))

    def save(self, folder: Path, *, writes: bool) -> None:
        """Write to `folder` on the rank that `writes`; every rank has the same averages."""
        if writes:
            save_file({name: weight.contiguous().cpu() for name, weight in self.weights.items()}, folder / AVERAGE_FILE)

    def load(self, folder: Path) -> None:
        path = folder / AVERAGE_FILE
        if not path.is_file():
            raise ValueError(
                f"The checkpoint {folder} has no {AVERAGE_FILE}, so the average that its student was taught by is "
                "lost; resume from a checkpoint of the same run, saved with save_only_model: false."
            )
        for name, saved in load_file(path).items():
            self.weights[name].copy_(saved)


@dataclass(eq=False)
class FollowStudent(TrainerCallback):
    """Moves an average after every optimizer step."""

    average: StudentAverage

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.average.follow()


def _kept(head: qt.Head) -> qt.Head:
    """An output layer that stays as it is when the weights of the student come back."""
    if not head.weight.requires_grad and not (head.bias is not None and head.bias.requires_grad):
        return head
    return head._replace(
        weight=head.weight.detach().clone(), bias=None if head.bias is None else head.bias.detach().clone()
    )
