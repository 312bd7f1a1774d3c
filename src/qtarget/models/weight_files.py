"""Which files `from_pretrained` may take weights from: its arguments keep it to those that were looked at."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

from qtarget.models.loading_arguments import one_dtype
from qtarget.models.model_seal import refuse_damaged_model
from qtarget.models.pickle_contents import check_pickles
from qtarget.models.pickled_weights import (
    LINE,
    NAMED_IN_CONFIG,
    path_of_model,
    pickles_of_model,
    refuse_pickled_weights,
)
from qtarget.models.shard_index import refuse_shards_outside

PASSED = "model_init_kwargs, teacher_init_kwargs or reference_init_kwargs"
_POINT_ELSEWHERE = ("config", "state_dict", NAMED_IN_CONFIG, "_adapter_model_path")
_OF_ADAPTERS = ("revision", "token")
"""What `adapter_kwargs` may say: neither moves an adapter to another folder."""


def safe_loading(folder: str, init_kwargs: Mapping[str, Any], pickles: bool, line: str = LINE) -> dict[str, Any]:
    """The arguments to load a model with; `use_safetensors` is among them unless pickles may be read.

    Args:
        folder: the model's, as `checkpoint_folder` gives it; or a name on the hub.
        init_kwargs: for `from_pretrained`.
        pickles: whether weights may be a pickle.
        line: what lets them be read, as the user writes it.

    Raises:
        ValueError: the arguments lead to files that were not looked at or to code, or the folder that they mean is
            damaged, holds its weights as a pickle that may not be read, or names files outside of it.
    """
    given = one_dtype(init_kwargs)  # TRL would pass over the older name
    given.pop("torch_dtype", None)
    _check_arguments(given, pickles, line)
    subfolder, variant = str(given.get("subfolder") or ""), given.get("variant")
    if subfolder and path_of_model(folder).is_dir():
        inside = path_of_model(folder) / subfolder
        refuse_damaged_model(str(inside))
        refuse_shards_outside(inside)
    if pickles:
        check_pickles(pickles_of_model(folder, subfolder, variant), "take the weights from where they came once more")
        return given
    refuse_pickled_weights(folder, line, subfolder, variant)
    return {**given, "use_safetensors": True}


def _check_arguments(given: Mapping[str, Any], pickles: bool, line: str) -> None:
    elsewhere = [name for name in _POINT_ELSEWHERE if given.get(name) is not None]
    elsewhere = [name for name in elsewhere if not isinstance(given[name], PreTrainedConfig)]
    elsewhere += [f"adapter_kwargs.{name}" for name in given.get("adapter_kwargs") or () if name not in _OF_ADAPTERS]
    if elsewhere:
        raise ValueError(
            f"{', '.join(elsewhere)} among the arguments of a model ({PASSED}) would take it from other files than "
            "those that are looked at; remove it, and name the folder that holds the model."
        )
    if given.get("weights_only") not in (None, True):
        raise ValueError(
            f"`weights_only: {given['weights_only']}` among the arguments of a model ({PASSED}) would run what a "
            f"pickle says; remove it. Weights that are a pickle are read without it, if you write {line}."
        )
    if given.get("use_safetensors") is False and not pickles:
        raise ValueError(
            f"`use_safetensors: false` among the arguments of a model ({PASSED}) asks for weights that are a pickle, a "
            f"format that can carry code; remove it or, if you trust where they are from, write {line} too."
        )
