"""Weights that a model has and its files have not: transformers draws them at random, with a warning, and goes on.

What it finds while it loads is kept in one private method's result, of which `output_loading_info` tells that of an
adapter alone where a model is one on a base; so the method is watched.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock, get_ident
from typing import Any, NamedTuple

from transformers import PreTrainedModel

from qtarget.models.pickled_weights import chain_of_bases

READS_WEIGHTS = "_load_pretrained_model"
"""The method of a model that reads its files, and the files of an adapter on it."""
_WATCHED = RLock()
_NAMED = 3
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
_LEARNED = ("weight", "bias")
"""How the names of weights end; other things in old files are tables of masks and positions."""


class Loading(NamedTuple):
    """One reading of files: into a model, or of an adapter into the model under it.

    Attributes:
        found: missing_keys, unexpected_keys, mismatched_keys and conversion_errors, as transformers tells them.
    """

    model: Any
    found: Any


@contextmanager
def refuse_drawn_weights(source: str) -> Iterator[None]:
    """Refuse a model that the block loads and that would not be the one of its files.

    Weights that transformers knows to be tied, or made anew in every model of a family, are none of these.

    Args:
        source: the model's folder or hub name.

    Raises:
        ValueError: weights are in no file, of another shape or cannot be put together, or layers of a file are left
            out; names a few, how many, and what to write.
    """
    with _watched() as loadings:
        try:
            yield
        except RuntimeError as error:  # of another shape, or not put together
            for loading in loadings:
                _refuse(loading, source, error)
            raise
        for loading in loadings:
            _refuse(loading, source)


@contextmanager
def _watched() -> Iterator[list[Loading]]:
    """What this thread loads while the block runs. Other threads that load with a watch wait."""
    loadings: list[Loading] = []
    thread = get_ident()
    with _WATCHED:
        load = getattr(PreTrainedModel, READS_WEIGHTS)

        def told(model: Any, *args: Any, **kwargs: Any) -> Any:
            found, *rest = load(model, *args, **kwargs)
            if get_ident() == thread:
                loadings.append(Loading(model, found))
            return (found, *rest)

        setattr(PreTrainedModel, READS_WEIGHTS, staticmethod(told))
        try:
            yield loadings
        finally:
            setattr(PreTrainedModel, READS_WEIGHTS, staticmethod(load))


def _refuse(loading: Loading, source: str, error: Exception | None = None) -> None:
    if not (faults := list(_faults(loading))):
        return
    *adapters, model = chain_of_bases(source)
    raise ValueError(
        f"{' on '.join((*adapters, model))} would not be opened as it was saved ({type(loading.model).__name__}): "
        f"{'; '.join(faults)}. Take the folder as it was published, or mend what its configuration says (model_type, "
        "architectures, num_hidden_layers, tie_word_embeddings, other sizes). Weights that are meant to be drawn are "
        f'drawn once: `python -c "from transformers import AutoModelForCausalLM as M; '
        f"M.from_pretrained('{model}').save_pretrained('{model}-drawn')\"`; then name that folder."
    ) from error


def _faults(loading: Loading) -> Iterator[str]:
    found = loading.found
    if drawn := drawn_weights(loading.model, found.missing_keys):
        yield f"{_counted(drawn)} in none of its files and would be drawn at random"
    if other := sorted(found.mismatched_keys):
        shapes = [f"{name}: {list(given)} in a file, {list(needed)} in the model" for name, given, needed in other]
        yield f"{_counted(shapes)} of another shape and would be drawn at random"
    if broken := sorted(getattr(found, "conversion_errors", None) or ()):
        yield f"{_counted(broken)} not to be put together from what its files hold"
    if dropped := dropped_weights(loading.model, found.unexpected_keys):
        yield f"{_counted(dropped)} in its files and would be left out"


def _counted(names: Sequence[str]) -> str:
    """How many weights, with the verb, and the names of a few."""
    few = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"{len(names)} {'weight' if len(names) == 1 else 'weights'} ({few}) {'is' if len(names) == 1 else 'are'}"


def refuse_partial_adapter(source: str, missing: Iterable[str], unexpected: Iterable[str]) -> None:
    """Refuse an adapter of which peft found weights in no file, or in no place of the model.

    Args:
        source: the adapter's folder or hub name.

    Raises:
        ValueError: names a few weights and how many.
    """
    told = {"in no file of it": sorted(missing), "in its files and in no place of the model": sorted(unexpected)}
    if faults := [f"{_counted(names)} {where}" for where, names in told.items() if names]:
        raise ValueError(
            f"{source} is no whole adapter of the model that it is put on: {'; '.join(faults)}. Take the folder as "
            "training wrote it, and put it on the base that its adapter_config.json names."
        )


def drawn_weights(model: Any, missing: set[str]) -> list[str]:
    """Those of the missing that are learned: no buffers of whole numbers, nor, of a quantised model, its scales."""
    fixed = {name for name, buffer in model.named_buffers() if not buffer.is_floating_point()}
    names = sorted(missing - fixed)
    if not getattr(model, "is_quantized", False):
        return names
    return [name for name in names if name.rpartition(".")[2] in _LEARNED]


def dropped_weights(model: Any, unexpected: set[str]) -> list[str]:
    """Those of the unexpected that belong to layers such as the model has.

    Other parts that a file may hold (a vision tower, a value head, layers that predict further tokens) are no loss to a
    causal language model.
    """
    named, given = {*model.state_dict()}, {*unexpected}
    layers = {_NUMBER.sub("#", f"{name}.") for name, _ in model.named_modules() if name.rpartition(".")[2].isdigit()}
    further = _further_layers(model)

    def is_dropped(name: str) -> bool:
        stem, _, last = name.rpartition(".")
        plain = _NUMBER.sub("#", name)
        if last not in _LEARNED or name.startswith(further) or not plain.startswith(tuple(layers)):
            return False
        return last == "weight" or f"{stem}.weight" in named | given

    return sorted(name for name in unexpected if layers and is_dropped(name))


def _further_layers(model: Any) -> tuple[str, ...]:
    """How names of layers begin that predict more than the next token: they stand behind the model's own."""
    config = model.config.get_text_config()
    own, more = (getattr(config, name, None) or 0 for name in ("num_hidden_layers", "num_nextn_predict_layers"))
    return tuple(f"model.layers.{own + each}." for each in range(more))
