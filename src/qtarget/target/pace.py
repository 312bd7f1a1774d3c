"""How far an adaptive schedule has come: a state that the last step's loss moves, beside the steps that are done."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple


class PaceState(NamedTuple):
    """Where an adaptive schedule stands.

    Attributes:
        progress: the share of its way that is done, 0 to 1: what the loss is given as `progress`.
        momentum: of the relative fall of the loss.  last_loss: of the last step; None before the first.
    """

    progress: float = 0.0
    momentum: float = 0.0
    last_loss: float | None = None


@dataclass(frozen=True)
class AdaptivePace:
    """TAID's pace, arXiv 2501.16937 (algorithm 1): at least in step with the run, and faster while the loss falls.

        δ = (loss before − loss)/loss before,  m ← β·m + (1−β)·δ,  t ← min(end, max(linear, t + α·σ(m)·(1−t)))

    The official code updates at every forward pass with the rank's own micro-batch, and the linear part lags one step
    behind; here it is once an optimizer step, with the loss over all ranks and accumulated batches, and
    without the lag. A loss that is not finite, or not above zero (no token of the step weighs anything), has
    no relative fall: it moves the linear part alone and is no loss before the next. The official code (SakanaAI/TAID at
    a062892, `distil_losses.taid`) adds 1e-15 to the loss before, as here, and divides by that alone where the loss
    before is zero, after which σ(m) is zero for thousands of steps.

    Attributes:
        start, end: t goes from start to end.  step_size: α.  momentum: β.
    """

    start: float
    end: float
    step_size: float
    momentum: float

    def after(self, state: PaceState, loss: float, done: float) -> PaceState:
        """The state after a step.

        Args:
            loss: of the step.  done: the share of the run's steps that are done by then.
        """
        if not 0 < loss < math.inf:
            return state._replace(progress=max(state.progress, done))
        if state.last_loss is None:
            return PaceState(max(state.progress, done), state.momentum, loss)
        fall = (state.last_loss - loss) / (state.last_loss + 1e-15)
        momentum = self.momentum * state.momentum + (1 - self.momentum) * fall
        t = self.start + (self.end - self.start) * state.progress
        t += self.step_size * (1 - t) * _sigmoid(momentum)
        ahead = (t - self.start) / (self.end - self.start)
        return PaceState(min(1.0, max(done, ahead)), momentum, loss)


def _sigmoid(value: float) -> float:
    """1/(1 + e^−value), of any size of value."""
    return (1 + math.tanh(value / 2)) / 2
