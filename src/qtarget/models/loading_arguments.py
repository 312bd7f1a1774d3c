"""Arguments of `from_pretrained` that nothing takes: found before weights are read, where it would raise a `TypeError`
without the name of the key that holds them."""

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import transformers
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from qtarget.console import shortened
from qtarget.models.gguf_file import checkpoint_folder
from qtarget.models.pickled_weights import ALLOW, chain_of_bases

_NAME = re.compile(r'"([a-z_]{3,})"')
_OF_HUB = ("revision", "trust_remote_code", "subfolder", "cache_dir", "local_files_only")
_OWN = (ALLOW, "load_in_4bit", "load_in_8bit", "bnb_4bit_", "llm_int8_", "_")
"""How names begin that are no arguments of a model, or not a user's."""


def check_arguments(source: str, given: Mapping[str, Any], key: str, line: Callable[[Any], str]) -> None:
    """Refuse arguments that neither `from_pretrained` takes, nor the model's configuration, nor the model itself.

    Args:
        source: the model's folder or hub name. Of one that cannot be looked at nothing is said here.
        key: what holds the arguments, at the beginning of the error.
        line: what to write, from the arguments that are known; of None where there are none.

    Raises:
        ValueError: the names, each with the closest that there is, and the line.
    """
    if unknown := unknown_arguments(source, given):
        known = {name: value for name, value in given.items() if name not in unknown}
        named = ", ".join(f"`{shortened(name)}`{_near(name)}" for name in unknown)
        raise ValueError(f"{key} holds {named}, which loading {source} does not take; {line(known or None)}.")


def _near(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), _names_in_loading(), n=1, cutoff=0.6)
    return f" (did you mean `{near[0]}`?)" if near else ""


def unknown_arguments(source: str, given: Mapping[str, Any]) -> list[str]:
    """The names among `given` that nothing takes."""
    names = [name for name in given if not name.startswith(_OWN) and name not in _names_in_loading()]
    config = _config_of(source, {name: given[name] for name in _OF_HUB if name in given}) if names else None
    if config is None or (taken := _taken_by_model(config)) is None:
        return []
    return [name for name in names if name not in taken and not hasattr(config, name)]


def _config_of(source: str, given: Mapping[str, Any]) -> PreTrainedConfig | None:
    try:
        asked = {"trust_remote_code": False, **given}  # or it asks the user
        return AutoConfig.from_pretrained(chain_of_bases(checkpoint_folder(source))[-1], **asked)
    except (OSError, ValueError, TypeError):  # whoever loads the model says what is wrong
        return None


def _taken_by_model(config: PreTrainedConfig) -> set[str] | None:
    """The arguments of the model's own constructor; None where it takes any, or the model is not known."""
    name = (config.architectures or [""])[0]
    kind: Any = getattr(transformers, name, None)
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        kind = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if kind is None or kind.from_pretrained.__func__ is not PreTrainedModel.from_pretrained.__func__:
        return None
    parameters = inspect.signature(kind.__init__).parameters
    return None if any(each.kind is each.VAR_KEYWORD for each in parameters.values()) else set(parameters)


@cache
def _names_in_loading() -> frozenset[str]:
    """The arguments of `from_pretrained`: those of its signature, and what its source takes out of the others."""
    loading: list[Any] = [PreTrainedModel.from_pretrained, _BaseAutoModelClass.from_pretrained]
    loading += [AutoConfig.from_pretrained, PreTrainedConfig.from_pretrained, PreTrainedConfig.get_config_dict]
    return frozenset(
        {name for each in loading for name in inspect.signature(each).parameters}
        | {name for each in loading for name in _NAME.findall(inspect.getsource(each))}
    )
