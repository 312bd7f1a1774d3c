"""Which checkpoint is the best so far, noted so that it can be the best again."""

from pathlib import Path
from typing import NamedTuple

from transformers import TrainerState

from qtarget.train.resumption.best_checkpoint import best_beside


class BestSoFar(NamedTuple):
    """What a Trainer's state says of the best checkpoint."""

    metric: float | None
    step: int | None
    checkpoint: str | None

    @classmethod
    def of(cls, state: TrainerState) -> "BestSoFar":
        return cls(state.best_metric, state.best_global_step, state.best_model_checkpoint)

    def put_back(self, state: TrainerState) -> None:
        """Let the state say this again."""
        state.best_metric, state.best_global_step, state.best_model_checkpoint = self


def recall_best(state: TrainerState, checkpoint: Path) -> None:
    """Let the state of a run that goes on from a checkpoint name the best one where it lies now; none where it is
    gone."""
    best = best_beside(checkpoint)
    state.best_model_checkpoint = str(best) if best is not None and best.is_dir() else None
