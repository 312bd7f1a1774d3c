"""From a name and keyword arguments, as a configuration file gives them, to a model and its tokenizer."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils.peft_utils import find_adapter_config_file

from qtarget.disk.files import read_json_object
from qtarget.models.drawn_weights import refuse_drawn_weights
from qtarget.models.gguf_file import checkpoint_folder
from qtarget.models.loading_arguments import BITSANDBYTES, check_arguments
from qtarget.models.model_config import check_model_config
from qtarget.models.named_kernels import refuse_named_kernels
from qtarget.models.pickled_weights import ALLOW
from qtarget.models.sharding import OVER_RANKS, OverRanks, is_sharded, read_whole
from qtarget.models.weight_files import PASSED, safe_loading

LOAD_ON_FIRST_RANK = "FSDP_CPU_RAM_EFFICIENT_LOADING"
"""The environment variable by which accelerate tells transformers to read weights on the first rank only."""


def split_over_ranks(init_kwargs: Mapping[str, Any]) -> tuple[OverRanks | None, dict[str, Any]]:
    """The `device_map`, if it means ranks rather than devices ("fsdp", "zero3"), and the other arguments."""
    rest = dict(init_kwargs)
    place = rest.get("device_map")
    if isinstance(place, str) and place in OVER_RANKS:
        return rest.pop("device_map"), rest
    return None, rest


def causal_lm_from(source: str, init_kwargs: Mapping[str, Any]) -> PreTrainedModel:
    """`AutoModelForCausalLM.from_pretrained`, of a GGUF file too; settings of bitsandbytes may be arguments.

    With `allow_pickled_weights` among them, weights may be a pickle.

    Raises:
        ValueError: a folder's weights are a pickle, or not all that the model needs, arguments lead elsewhere or are
            not known, or settings contradict each other.
    """
    given = {name: value for name, value in init_kwargs.items() if name != ALLOW}
    init_kwargs = safe_loading(checkpoint_folder(source), given, bool(init_kwargs.get(ALLOW)))
    quantisation = {name: value for name, value in init_kwargs.items() if name.startswith(BITSANDBYTES)}
    rest = {name: value for name, value in init_kwargs.items() if name not in quantisation}
    if quantisation and "quantization_config" in rest:
        raise ValueError(
            f"{sorted(quantisation)} stand beside quantization_config, which holds settings of the same kind; write "
            "them into `quantization_config: {...}`."
        )
    if (Path(source).expanduser() / "adapter_config.json").is_file():
        adapter_config(source)  # says what is wrong with it
    rest.setdefault("trust_remote_code", False)  # or transformers asks the user
    refuse_named_kernels(checkpoint_folder(source), given)
    if not rest["trust_remote_code"]:
        check_model_config(checkpoint_folder(source))
    check_arguments(source, given, PASSED, lambda known: "remove it")
    if quantisation:
        rest["quantization_config"] = BitsAndBytesConfig(**quantisation)
    with _whole_on_every_rank(), read_whole(), refuse_drawn_weights(source):
        return AutoModelForCausalLM.from_pretrained(checkpoint_folder(source), **rest)


@contextmanager
def _whole_on_every_rank() -> Iterator[None]:
    """Read the weights on every rank.

    Under an FSDP launch transformers reads them on the first rank only, and accelerate distributes the student's when
    it wraps it. It wraps no other model, so nobody would distribute another's.
    """
    before = os.environ.pop(LOAD_ON_FIRST_RANK, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[LOAD_ON_FIRST_RANK] = before


def is_placed(model: PreTrainedModel) -> bool:
    """Whether a model is on its devices already: by a device map, by quantisation, or cut over ranks."""
    devices = getattr(model, "hf_device_map", None)
    return bool(devices) or bool(getattr(model, "is_quantized", False)) or is_sharded(model)


def adapter_config(source: str) -> dict[str, Any] | None:
    """The adapter_config.json of an adapter; None for a model that is no adapter."""
    path = find_adapter_config_file(source)
    if path is None:
        return None
    config = read_json_object(Path(path), "copy the adapter again")
    if not isinstance(config.get("base_model_name_or_path"), str):
        raise ValueError(f"{path} is damaged (it names no base_model_name_or_path); copy the adapter again.")
    return config


def tokenizer_of(given: str | PreTrainedModel, trust_remote_code: bool = False) -> PreTrainedTokenizerBase | None:
    """The tokenizer saved beside a model, or beside an adapter's base.

    Args:
        trust_remote_code: whether code of the folder's own may run.

    Returns:
        None for a model given as an object that came from no folder with a tokenizer: nothing can be compared.

    Raises:
        ValueError: a folder without a tokenizer.
    """
    path = checkpoint_folder(given) if isinstance(given, str) else given.config._name_or_path
    if path and not _is_bare(Path(path)):
        return AutoTokenizer.from_pretrained(path, trust_remote_code=trust_remote_code)
    if not isinstance(given, str):
        return None
    if (adapter := adapter_config(given)) is not None:
        return tokenizer_of(adapter["base_model_name_or_path"], trust_remote_code)
    raise ValueError(
        f"{given} holds no tokenizer, so nothing says whether its tokens are the student's; save it beside the "
        f"model: `tokenizer.save_pretrained('{given}')`."
    )


def _is_bare(folder: Path) -> bool:
    """Whether a folder holds no tokenizer; transformers would make up an empty one."""
    return folder.is_dir() and not any(any(folder.glob(name)) for name in ("tokenizer*", "vocab*", "*.model"))
