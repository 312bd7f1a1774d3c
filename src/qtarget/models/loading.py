"""From what a configuration file says to a causal language model."""

import json
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

from qtarget.models.sharding import OVER_RANKS, OverRanks, is_sharded

BITSANDBYTES = ("load_in_4bit", "load_in_8bit", "bnb_4bit_", "llm_int8_")
"""How the names of bitsandbytes' settings begin."""
EFFICIENT = "FSDP_CPU_RAM_EFFICIENT_LOADING"


def split_over_ranks(init_kwargs: Mapping[str, Any]) -> tuple[OverRanks | None, dict[str, Any]]:
    """A `device_map` that means ranks rather than devices, and the other arguments."""
    rest = dict(init_kwargs)
    place = rest.get("device_map")
    if isinstance(place, str) and place in OVER_RANKS:
        return rest.pop("device_map"), rest
    return None, rest


def causal_lm_from(source: str, init_kwargs: Mapping[str, Any]) -> PreTrainedModel:
    """`AutoModelForCausalLM.from_pretrained` with the settings of bitsandbytes wherever they stand."""
    own = {name: value for name, value in init_kwargs.items() if name.startswith(BITSANDBYTES)}
    rest = {name: value for name, value in init_kwargs.items() if name not in own}
    if own and "quantization_config" in rest:
        raise ValueError(
            f"{sorted(own)} stand beside quantization_config, which holds settings of the same kind; write them into "
            "`quantization_config: {...}`."
        )
    if own:
        rest["quantization_config"] = BitsAndBytesConfig(**own)
    with _whole_on_every_rank():
        return AutoModelForCausalLM.from_pretrained(source, **rest)


@contextmanager
def _whole_on_every_rank() -> Iterator[None]:
    """Read the weights on every rank. Under an FSDP launch transformers leaves them out on all ranks but the first, for
    accelerate to hand over when it wraps the student; no one would hand over another model's."""
    before = os.environ.pop(EFFICIENT, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[EFFICIENT] = before


def is_placed(model: PreTrainedModel) -> bool:
    """Whether a model lies where it should already: by a device map, quantisation or cut over ranks."""
    devices = getattr(model, "hf_device_map", None)
    return bool(devices) or bool(getattr(model, "is_quantized", False)) or is_sharded(model)


def adapter_config(source: str) -> dict[str, Any] | None:
    """What peft wrote beside an adapter's weights; None for a model that is no adapter."""
    path = find_adapter_config_file(source)
    return None if path is None else json.loads(Path(path).read_text(encoding="utf-8"))


def tokenizer_of(given: str | PreTrainedModel) -> PreTrainedTokenizerBase | None:
    """The tokenizer saved beside a model, or beside an adapter's base. A model given as an object may have none, and is
    taken at its word."""
    path = given if isinstance(given, str) else given.config._name_or_path
    if path and not _is_bare(Path(path)):
        return AutoTokenizer.from_pretrained(path)
    if not isinstance(given, str):
        return None
    if (adapter := adapter_config(given)) is not None:
        return tokenizer_of(adapter["base_model_name_or_path"])
    raise ValueError(
        f"{given} holds no tokenizer, so nothing says whether its tokens are the student's; save it beside the "
        f"model: `tokenizer.save_pretrained('{given}')`."
    )


def _is_bare(folder: Path) -> bool:
    """Whether a model lies in a folder alone; transformers would make up an empty tokenizer for it."""
    return folder.is_dir() and not any(any(folder.glob(name)) for name in ("tokenizer*", "vocab*", "*.model"))
