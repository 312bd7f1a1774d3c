"""How much of a run is done, as schedules of a method read it: the same at every micro-batch of an optimizer step."""

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerState

import qtarget as qt
from qtarget.disk.files import read_json_object, reading_fields, write_json
from qtarget.target.pace import PaceState
from qtarget.train.forward import TargetOutput

SCHEDULE_FILE = "schedule.json"


class ScheduledTrainer(Protocol):
    """The part of a trainer that its steps are counted by."""

    method: qt.Method
    args: Any
    accelerator: Any
    state: TrainerState


class RunProgress(TrainerCallback):
    """Steps done over the schedule's length, or, where the method has a pace of its own, what the losses made of it.

    The length is `args.schedule_steps`, else that of the run that began: a run that goes on with another `max_steps`
    keeps it, and schedules stay at their end behind it.

    Attributes:
        used: what the loss of the last training batch was computed with; `now` is what the next one's will be.
    """

    def __init__(self, trainer: ScheduledTrainer) -> None:
        self.trainer = trainer
        self._kept_length: int | None = None
        self._pace = PaceState()
        self._sums: Tensor | None = None
        self.used = 0.0

    @property
    def length(self) -> int:
        """Optimizer steps from 0 to 1; at least 1."""
        return max(self.trainer.args.schedule_steps or self._kept_length or self.trainer.state.max_steps, 1)

    @property
    def now(self) -> float:
        """0 before the first step, 1 when `length` steps are done."""
        return self._done if self.trainer.method.pace is None else self._pace.progress

    @property
    def _done(self) -> float:
        return min(self.trainer.state.global_step / self.length, 1.0)

    def add(self, out: TargetOutput, labels: Tensor, num_items: Tensor | int | None) -> None:
        """Add a micro-batch to the loss of the step under way, which a method's pace may read."""
        self.used = self.now
        if self.trainer.method.pace is None:
            return
        count = (labels[:, 1:] != -100).sum()
        total = out.loss.detach().double() * (count if num_items is None else num_items)
        sums = torch.stack([total, count.to(total)])
        self._sums = sums if self._sums is None else self._sums + sums

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self._sums = None
        if state.global_step == 0:
            self._kept_length, self._pace = None, PaceState()

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if self.trainer.method.pace is None or self._sums is None:
            return
        total, count = self.trainer.accelerator.reduce(self._sums, "sum").tolist()
        self._sums = None
        self._pace = self.trainer.method.pace.after(self._pace, total / count if count else float("nan"), self._done)

    # ---- in checkpoints

    def save(self, folder: Path) -> None:
        """Write length and pace to `folder`."""
        if "progress" in self.trainer.method.needs:
            write_json(folder / SCHEDULE_FILE, {"steps": self.length, **self._pace._asdict()})

    def load(self, folder: Path) -> None:
        """Go on from what `save` wrote.

        Raises:
            ValueError: a method whose pace reads the losses, and a checkpoint without what they came to.
        """
        path, method = folder / SCHEDULE_FILE, self.trainer.method
        self._kept_length, self._pace = None, PaceState()
        if path.is_file():
            remedy = "resume from another checkpoint"
            held = read_json_object(path, remedy, ("steps", *PaceState._fields))
            with reading_fields(path, remedy):
                self._kept_length, self._pace = held.pop("steps"), PaceState(**held)
        elif method.pace is not None:
            raise ValueError(
                f'The checkpoint {folder} has no {SCHEDULE_FILE}, so how far the schedule of "{method.name}" had come '
                "is lost; resume from a checkpoint of the same method, or write `method_kwargs: {adaptive: false}`, "
                "whose schedule follows from the steps that are done."
            )
