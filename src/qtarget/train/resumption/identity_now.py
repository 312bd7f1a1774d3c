"""What the run of a trainer is that begins now, of one that may have trained before."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qtarget.train.resumption.code_of_run import NOT_COMPARED
from qtarget.train.resumption.resuming import on_first_rank
from qtarget.train.resumption.run_identity import digests_of_weights, run_identity

_MADE = {"optimizer": "optimizer", "lr_scheduler": "scheduler"}
"""What the Trainer makes where none was given, and the attribute under which accelerate holds it."""
_LEFT = "the optimizer's state, which an earlier training of this trainer left"


class IdentityNow:
    """Says what a run is, by the arguments, rows and weights that the trainer has now.

    A run that begins anew in a trainer that has trained begins with trained weights. One that goes on from a checkpoint
    reads all weights from there, and began with those that the trainer had when its last run began.
    """

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self._began_with: str | None = None
        self._was_given: set[str] = set()
        self._made: dict[str, Any] = {}

    def __call__(self, resumes: bool) -> dict[str, Any]:
        """The identity of the run that begins now. To be called on every rank."""
        trainer, is_trained = self.trainer, self.trainer.state.global_step > 0
        weights = digests_of_weights(trainer, is_trained and not resumes)
        if is_trained and resumes and self._began_with is not None:
            weights["student"] = self._began_with
        self._began_with = weights.get("student")
        with self._as_given():
            self._was_given = {name for name in _MADE if getattr(trainer, name) is not None}
            identity = on_first_rank(trainer.accelerator, lambda: run_identity(trainer, weights))
        if is_trained and not resumes and self._made.get("optimizer") is not None:
            identity[NOT_COMPARED] = [*identity[NOT_COMPARED], _LEFT]
        return identity

    def note_made(self) -> None:
        """Note which optimizer and schedule the Trainer has made, and were not given."""
        for name in _MADE.keys() - self._was_given:
            self._made[name] = _unwrapped(self.trainer, name)

    @contextmanager
    def _as_given(self) -> Iterator[None]:
        """While the block runs the trainer has the optimizer and the schedule that were given, or none."""
        before = {name: getattr(self.trainer, name) for name in _MADE}
        for name in _MADE:
            there = _unwrapped(self.trainer, name)
            setattr(self.trainer, name, None if there is self._made.get(name) else there)
        try:
            yield
        finally:
            for name, there in before.items():
                setattr(self.trainer, name, there)


def _unwrapped(trainer: Any, name: str) -> Any:
    there = getattr(trainer, name)
    is_wrapped = type(there).__module__.partition(".")[0] == "accelerate"
    return getattr(there, _MADE[name], there) if is_wrapped else there
