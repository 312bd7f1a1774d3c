"""Arguments of a model that change its configuration: whether it takes them, and has the same weights with them."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import transformers
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig

_SHOWN = 300
_NAMED = 3
"""Weights that are named in an error."""


def override_fault(open_config: Callable[[Mapping[str, Any]], PreTrainedConfig], given: Mapping[str, Any]) -> str:
    """Why a model cannot be loaded with fields of its configuration changed; "" where it can.

    Weights of the folder that the changed model has no place for would be left out, and such as the folder lacks would
    be drawn at random: it would be another model than the one that was named.

    Args:
        open_config: the configuration, with fields changed.
        given: the fields, by name.
    """
    before = open_config({})
    kind = model_class(before)
    if kind is None or (there := _weights(kind, before)) is None:
        return ""
    try:
        config = open_config(given)
        changed = _shapes(kind, config)
    except Exception as error:  # whatever a configuration or a model raises at values that it was not made for
        return f"which its configuration does not take ({_first_line(error)})"
    if type(config) is not type(before):
        return f"which makes a {type(config).__name__} of its {type(before).__name__}"
    return _difference(there, changed)


def model_class(config: PreTrainedConfig) -> Any:
    """The class of a causal language model with this configuration; None where it is not known."""
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    return getattr(transformers, (config.architectures or [""])[0], None)


def _weights(kind: Any, config: PreTrainedConfig) -> dict[str, tuple[int, ...]] | None:
    try:
        return _shapes(kind, config)
    except Exception:  # then nothing can be compared, and who loads the model says what is wrong
        return None


def _shapes(kind: Any, config: PreTrainedConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's weights, those that are tied once. No memory is taken for them."""
    config._attn_implementation = "eager"  # no kernel of the hub is fetched
    with torch.device("meta"):
        return {name: tuple(weight.shape) for name, weight in kind(config).named_parameters()}


def _difference(before: Mapping[str, tuple[int, ...]], now: Mapping[str, tuple[int, ...]]) -> str:
    left, made = [name for name in before if name not in now], [name for name in now if name not in before]
    other = [
        f"{name} {list(before[name])} as {list(now[name])}"
        for name in before
        if before[name] != now.get(name, before[name])
    ]
    parts = [
        *([f"leave out {_counted(left)}"] if left else []),
        *([f"draw {_counted(made)} at random"] if made else []),
        *([f"take {_counted(other)}"] if other else []),
    ]
    return f"which would {', '.join(parts)}: another model than the folder's" if parts else ""


def _counted(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines)}"[:_SHOWN]
