"""What of a run is given as a function or an object: what is compared of it when the run goes on, and what is not."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from transformers import TrainerControl
from transformers.trainer_callback import ExportableState

from qtarget.data import PerTokenCollator
from qtarget.train.resumption.own_code import Content, full_name, is_own, python_version

CODE_PART, NOT_COMPARED = "code", "not_compared"
"""Parts of a run's identity: digests of what is given as code, by its place; and what of a run is not compared."""
_PROGRESS = frozenset(
    {"base_lrs", "last_epoch", "_step_count", "_last_lr", "_is_initial", "_get_lr_called_within_step"}
)
"""Where a schedule stands, which is not how it was given."""
_WITHOUT_STATE = ("qtarget", "transformers")
"""Libraries whose callbacks tell their state to a checkpoint, or have none that decides anything."""
_NUMBERS = bool | int | float | str


def code_parts(trainer: Any) -> dict[str, Any]:
    """The parts of a run's identity that tell of functions and objects.

    "code": a text with a sha256 for each place; "optimizer_settings" and "lr_scheduler": of objects that were given;
    "not_compared": names, and what cannot be looked into.
    """
    known = {id(trainer): "the trainer", id(trainer.args): "the configuration", id(trainer.model): "the student"}
    told, unseen = {}, []
    for place, given in _given(trainer):
        content = Content(given, known)
        told[place] = f"Python {python_version()}, sha256 {content.digest}"
        unseen += [f"{each} ({place})" for each in content.unseen]
    return {
        CODE_PART: told,
        "optimizer_settings": _optimizer_settings(trainer.optimizer),
        "lr_scheduler": _schedule_settings(trainer.lr_scheduler),
        NOT_COMPARED: [*unseen, *_unlooked(trainer)],
    }


def _given(trainer: Any) -> Iterator[tuple[str, Any]]:
    """What is compared by its content, by place."""
    yield "method", trainer.method
    if kinds := _own_kinds(trainer.model):
        yield "model", kinds
    given = trainer.optimizer_cls_and_kwargs if trainer.optimizer is None else (type(trainer.optimizer),)
    if given is not None and is_own(given[0]):
        yield "optimizer", given[0]
    if trainer.lr_scheduler is not None:
        yield "lr_scheduler", _functions_of(trainer.lr_scheduler)
    if trainer.has_given_collator:  # the Trainer's own follows from the configuration
        collator = trainer.data_collator
        yield "data_collator", collator.inner if isinstance(collator, PerTokenCollator) else collator
    for name in ("compute_metrics", "preprocess_logits_for_metrics"):
        if (function := getattr(trainer, name, None)) is not None:
            yield name, function
    for name, source in trainer.sources.items():
        if is_own(type(source)):
            yield name, source
        elif kinds := _own_kinds(getattr(source, "model", None)):
            yield name, kinds
    yield from _settings_of_callbacks(trainer.callback_handler.callbacks)


def _own_kinds(model: Any) -> list[type]:
    """The classes of the user's in a model."""
    modules = model.modules() if isinstance(model, torch.nn.Module) else ()
    return sorted({type(each) for each in modules if is_own(type(each))}, key=full_name)


def _settings_of_callbacks(callbacks: list[Any]) -> Iterator[tuple[str, Any]]:
    """How the callbacks of libraries that end a run early were made."""
    for each in callbacks:
        if isinstance(each, ExportableState) and not isinstance(each, TrainerControl) and not is_own(type(each)):
            yield type(each).__name__, each.state()["args"]


def _unlooked(trainer: Any) -> Iterator[str]:
    """What may do anything, and is known by its name alone: a callback, a trainer's own methods."""
    if is_own(type(trainer)):
        yield f"the code of {full_name(type(trainer))}"
    for each in trainer.callback_handler.callbacks:
        if is_own(type(each)):
            yield f"the callback {full_name(type(each))}"
        elif type(each).__module__.partition(".")[0] not in _WITHOUT_STATE and not isinstance(each, ExportableState):
            yield f"the callback {full_name(type(each))}, whose state no checkpoint holds"


def _functions_of(schedule: Any) -> list[Any]:
    """The class of a schedule and all it holds but numbers, which a checkpoint keeps, and the optimizer."""
    held = {name: each for name, each in vars(schedule).items() if name not in ("optimizer", *_PROGRESS)}
    functions = {name: each for name, each in held.items() if each is not None and not isinstance(each, _NUMBERS)}
    inner = [_functions_of(each) for each in held.get("_schedulers", [])]
    return [type(schedule), {name: each for name, each in functions.items() if name != "_schedulers"}, inner]


def _schedule_settings(schedule: Any) -> Any:
    """The class and the numbers of a schedule that was given, which a checkpoint holds."""
    if schedule is None:
        return None
    held = {name: each for name, each in vars(schedule).items() if name not in _PROGRESS and isinstance(each, _NUMBERS)}
    inner = [_schedule_settings(each) for each in getattr(schedule, "_schedulers", [])]
    return {"class": full_name(type(schedule)), **held, **({"schedules": inner} if inner else {})}


def _optimizer_settings(optimizer: Any) -> Any:
    """Each group of weights of an optimizer that was given: how many tensors, and by what numbers they are trained."""
    if optimizer is None:
        return None
    return {f"group {number}": _group(group) for number, group in enumerate(optimizer.param_groups)}


def _group(group: Mapping[str, Any]) -> dict[str, Any]:
    rate = group.get("initial_lr", group.get("lr"))  # a schedule that was given has changed the other by now
    numbers = {
        name: _number(each) for name, each in group.items() if name not in ("params", "param_names", "initial_lr")
    }
    return {**numbers, "lr": _number(rate), "tensors": len(group["params"])}


def _number(value: Any) -> Any:
    return value.tolist() if isinstance(value, torch.Tensor) else value
