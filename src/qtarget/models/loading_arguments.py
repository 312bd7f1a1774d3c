"""Arguments of `from_pretrained` that nothing takes: found before weights are read, where it would raise a `TypeError`
without the name of the key that holds them."""

import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from transformers import AutoConfig, BitsAndBytesConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from qtarget.console import shortened
from qtarget.models.config_overrides import model_class, override_fault
from qtarget.models.gguf_file import checkpoint_folder
from qtarget.models.pickled_weights import ALLOW, chain_of_bases

_TAKEN = re.compile(r'\bkwargs(?:_orig)?\.(?:pop|get)\(\s*"(\w+)"')
"""How `from_pretrained` takes an argument by name out of those that its signature does not name."""
_LISTED = re.compile(r"(?:_names|for name in|valid_fields)\b[^\[]{0,9}\[([^\]]*)\]")
"""Where it lists several."""
_NAME = re.compile(r'"(\w+)"')
_OF_HUB = ("revision", "trust_remote_code", "subfolder", "cache_dir", "local_files_only")
BITSANDBYTES = ("load_in_4bit", "load_in_8bit", "bnb_4bit_", "llm_int8_")
"""How the names of bitsandbytes' settings begin."""
_OWN = (ALLOW, *BITSANDBYTES, "_")
"""How names begin that are no arguments of a model, or not a user's."""
_RETURNED = ("output_loading_info", "return_unused_kwargs")
"""What makes `from_pretrained` return something else than a model."""
_OF_CALL = ("pretrained_model_name_or_path", "model_args", "args", "kwargs")
"""Parameters of `from_pretrained` that no argument by name can be."""
_DTYPES = ("dtype", "torch_dtype")
"""A name and its older one."""


def check_arguments(source: str, given: Mapping[str, Any], key: str, line: Callable[[Any], str]) -> None:
    """Refuse arguments that neither `from_pretrained` takes, nor the model's configuration, nor the model itself.

    Args:
        source: the model's folder or hub name. Of one that cannot be looked at nothing is said here.
        key: what holds the arguments, at the beginning of the error.
        line: what to write, from the arguments that are known; of None where there are none.

    Raises:
        ValueError: the names, each with the closest that there is, and the line; or what the arguments would make of
            the model, where that is no longer the model of the folder.
    """
    if unknown := unknown_arguments(source, given):
        named = ", ".join(f"`{shortened(name)}`{_near(name)}" for name in unknown)
        raise ValueError(
            f"{key} holds {named}, which loading {source} does not take; {_without(given, unknown, line)}."
        )
    if all(given.get(name) is not None for name in _DTYPES) and len({_dtype_name(given[name]) for name in _DTYPES}) > 1:
        held = " and ".join(f"`{name}: {_dtype_name(given[name])}`" for name in _DTYPES)
        raise ValueError(f"{key} holds {held}, two values of one thing; {_without(given, ['torch_dtype'], line)}.")
    if returned := [name for name in _RETURNED if given.get(name)]:
        held = f"`{returned[0]}: {shortened(str(given[returned[0]]))}`"
        raise ValueError(f"{key} holds {held}, which asks for more than the model; {_without(given, returned, line)}.")
    _check_quantisation(given, key, line)
    _check_overrides(source, given, key, line)


def check_dtype(name: Any) -> None:
    """Refuse a text that names no dtype of torch's, and is not "auto"; ValueError with those that are usual."""
    if isinstance(name, str) and name != "auto" and not isinstance(getattr(torch, name, None), torch.dtype):
        raise ValueError(f"{name!r} is no dtype of torch's; write float32, bfloat16, float16, or auto.")


def one_dtype(given: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with `dtype` under its newer name."""
    older, rest = given.get("torch_dtype"), {name: value for name, value in given.items() if name != "torch_dtype"}
    return dict(given) if older is None or rest.get("dtype") is not None else {**rest, "dtype": older}


def _without(given: Mapping[str, Any], names: Sequence[str], line: Callable[[Any], str]) -> str:
    return line({name: value for name, value in given.items() if name not in names} or None)


def _dtype_name(value: Any) -> str:
    return str(value).removeprefix("torch.")


def _check_quantisation(given: Mapping[str, Any], key: str, line: Callable[[Any], str]) -> None:
    settings = {name: value for name, value in given.items() if name.startswith(BITSANDBYTES)}
    if not settings:
        return
    try:
        if unknown := settings.keys() - inspect.signature(BitsAndBytesConfig).parameters.keys():  # passed over there
            raise TypeError(f"it has no {', '.join(sorted(unknown))}")
        BitsAndBytesConfig(**settings)
    except ImportError:  # who loads the model says what is missing
        return
    except (TypeError, ValueError, AttributeError) as error:
        held = ", ".join(f"`{name}: {shortened(str(value))}`" for name, value in settings.items())
        raise ValueError(
            f"{key} holds {held}, which bitsandbytes does not take ({error}); {_without(given, [*settings], line)}, or "
            "give it a value that it takes (`load_in_4bit: true`)."
        ) from error


def _check_overrides(source: str, given: Mapping[str, Any], key: str, line: Callable[[Any], str]) -> None:
    changes = {name: value for name, value in given.items() if _is_override(name)}
    hub = {name: given[name] for name in _OF_HUB if name in given}
    config = _config_of(source, hub) if changes else None
    changes = {name: value for name, value in changes.items() if hasattr(config, name)}
    if changes and (fault := override_fault(lambda new: _open_config(source, {**hub, **new}), changes)):
        held = ", ".join(f"`{name}: {shortened(str(value))}`" for name, value in changes.items())
        raise ValueError(
            f"{key} holds {held}, {fault}; {_without(given, [*changes], line)}, or save the model that you mean in a "
            "folder of its own first and name that."
        )


def _is_override(name: str) -> bool:
    return name not in _names_in_loading() and not name.startswith(_OWN)


def _near(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), _names_in_loading(), n=1, cutoff=0.6)
    return f" (did you mean `{near[0]}`?)" if near else ""


def unknown_arguments(source: str, given: Mapping[str, Any]) -> list[str]:
    """The names among `given` that nothing takes."""
    names = [name for name in given if not name.startswith(_OWN) and name not in _names_in_loading()]
    config = _config_of(source, {name: given[name] for name in _OF_HUB if name in given}) if names else None
    if config is None or (taken := _taken_by_model(config)) is None:
        return []
    return [name for name in names if name not in taken and not _is_field(config, name)]


def _is_field(config: PreTrainedConfig, name: str) -> bool:
    return hasattr(config, name) and not callable(getattr(config, name))


def _config_of(source: str, given: Mapping[str, Any]) -> PreTrainedConfig | None:
    try:
        return _open_config(source, given)
    except (OSError, ValueError, TypeError):  # whoever loads the model says what is wrong
        return None


def _open_config(source: str, given: Mapping[str, Any]) -> PreTrainedConfig:
    asked = {"trust_remote_code": False, **given}  # or it asks the user
    return AutoConfig.from_pretrained(chain_of_bases(checkpoint_folder(source))[-1], **asked)


def _taken_by_model(config: PreTrainedConfig) -> set[str] | None:
    """The arguments of the model's own constructor; None where it takes any, or the model is not known."""
    kind = model_class(config)
    if kind is None or kind.from_pretrained.__func__ is not PreTrainedModel.from_pretrained.__func__:
        return None
    parameters = inspect.signature(kind.__init__).parameters
    return None if any(each.kind is each.VAR_KEYWORD for each in parameters.values()) else set(parameters)


@cache
def _names_in_loading() -> frozenset[str]:
    """The arguments of `from_pretrained`: those of its signature, and what its source takes out of the others."""
    loading: list[Any] = [PreTrainedModel.from_pretrained, _BaseAutoModelClass.from_pretrained]
    loading += [AutoConfig.from_pretrained, PreTrainedConfig.from_pretrained, PreTrainedConfig.get_config_dict]
    sources = [inspect.getsource(each) for each in loading]
    listed = " ".join(names for each in sources for names in _LISTED.findall(each))
    return frozenset(
        {name for each in loading for name in inspect.signature(each).parameters if name not in _OF_CALL}
        | {name for each in sources for name in _TAKEN.findall(each)}
        | {*_NAME.findall(listed)}
    )
