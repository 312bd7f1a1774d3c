"""The reference of a method: the initial model, another one, or a snapshot of the student."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.functional import pad
from transformers import TrainerCallback

import qtarget as qt
from qtarget.teacher import eval_mode
from qtarget.train.forward import TargetCall

SNAPSHOT_FILE = "reference_snapshot.safetensors"


@dataclass(eq=False)
class Snapshot:
    """An old policy: the student as it was at the last refresh. Holds a copy of the trainable weights only.

    Its evidence comes from the student's own forward with the old weights put in place, so it costs no second model
    and works under any wrapper (DDP, FSDP, peft) that leaves weights where they are.
    """

    student: nn.Module
    every: int
    weights: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.refresh()

    def _trainable(self) -> Iterator[tuple[str, nn.Parameter]]:
        for module in self.student.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # an unsharded weight is a passing copy, and writing to it would be lost
        return ((name, weight) for name, weight in self.student.named_parameters() if weight.requires_grad)

    @torch.no_grad()
    def refresh(self) -> None:
        """Become the student of this moment."""
        self.weights = {name: weight.detach().clone() for name, weight in self._trainable()}

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self._trainable():
            current = weight.detach().clone()
            weight.copy_(_laid_like(self.weights[name], weight))
            self.weights[name] = current

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """A context in which the student has the snapshot's weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def evidence(self, inputs: Mapping[str, Any], labels: Tensor) -> qt.LabelOnly:
        """Log-probability of each next token, `[B, S]` nats; NaN at the end and where `labels` `[B, S]` is masked."""
        call = TargetCall(qt.method("sft"), diagnostics=("logp_y",), width=labels.shape[1])
        with self.in_place(), eval_mode(self.student):
            out = self.student(**inputs, labels=labels, q_target=call)
        return qt.LabelOnly(pad(out.diagnostics["logp_y"].float(), (0, 1), value=float("nan")))

    def save(self, folder: Path, *, writes: bool) -> None:
        """Write to `folder` on the rank that `writes`; sharded weights are gathered on all."""
        whole = {name: _whole(weight).contiguous().cpu() for name, weight in self.weights.items()}
        if writes:
            save_file(whole, folder / SNAPSHOT_FILE)

    def load(self, folder: Path) -> None:
        path = folder / SNAPSHOT_FILE
        if not path.is_file():
            raise ValueError(
                f"The checkpoint {folder} has no {SNAPSHOT_FILE}, so the old policy it was trained against is lost; "
                "resume from a checkpoint of the same method, saved with save_only_model: false."
            )
        for name, saved in load_file(path).items():
            self.weights[name].copy_(_laid_like(saved, self.weights[name]))


@dataclass(eq=False)
class RefreshSnapshot(TrainerCallback):
    """Refreshes a snapshot every `every` optimizer steps, counted from the start of the run."""

    snapshot: Snapshot

    def on_step_end(self, args, state, control, **kwargs) -> None:
        if state.global_step % self.snapshot.every == 0:
            self.snapshot.refresh()


def _whole(weight: Tensor) -> Tensor:
    return weight.full_tensor() if isinstance(weight, DTensor) else weight


def _laid_like(saved: Tensor, weight: Tensor) -> Tensor:
    """A weight cut up as the trained one is, which FSDP may have done since it was kept."""
    if isinstance(weight, DTensor) and not isinstance(saved, DTensor):
        return distribute_tensor(saved.to(weight.device), weight.device_mesh, weight.placements)
    return saved.to(weight.device)
