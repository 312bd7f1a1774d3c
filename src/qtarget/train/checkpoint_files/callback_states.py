"""The states of callbacks that a checkpoint holds, given back to the callbacks of the run that goes on from it."""

import warnings
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from transformers import EarlyStoppingCallback, TrainerState
from transformers.trainer_callback import ExportableState


def restore_callbacks(callbacks: Iterable[Any], state: TrainerState, restores: bool = True) -> None:
    """Give callbacks what they counted in the run that wrote a checkpoint. How they were made stays as it is given.

    Args:
        state: of the checkpoint. What it holds of callbacks that are there becomes fit to be written again.
        restores: False where the Trainer has done so.
    """
    held: dict[str, Any] = state.stateful_callbacks or {}  # pyright: ignore[reportAssignmentType]
    for name, alike in _by_name(callbacks).items():
        told = held.get(name) or []
        states = told if isinstance(told, list) else [told]
        for callback, each in zip(alike, states[-len(alike) :] if restores else (), strict=False):
            for attribute, value in each.get("attributes", {}).items():
                setattr(callback, attribute, value)
        held[name] = {} if len(alike) == 1 else []  # the Trainer adds to a list, and needs an entry
    state.stateful_callbacks = held  # pyright: ignore[reportAttributeAccessIssue]


def _by_name(callbacks: Iterable[Any]) -> dict[str, list[Any]]:
    """Callbacks that tell their state, by the name that the Trainer writes it under."""
    named: dict[str, list[Any]] = defaultdict(list)
    for each in callbacks:
        if isinstance(each, ExportableState):
            named[type(each).__name__].append(each)
    return named


def is_ended_early(callbacks: Iterable[Any]) -> bool:
    """Whether a callback of transformers has ended a run by the state that was restored; says so."""
    for each in callbacks:
        if isinstance(each, EarlyStoppingCallback) and each.early_stopping_patience_counter >= (
            each.early_stopping_patience
        ):
            warnings.warn(
                f"{type(each).__name__} ended the run at the step of the checkpoint, after "
                f"{each.early_stopping_patience_counter} evaluations without an improvement, so no step is taken. To "
                "train on, give it a larger `early_stopping_patience` and name `code` in `resume_changed`.",
                stacklevel=4,
            )
            return True
    return False
