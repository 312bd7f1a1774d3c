"""What of the configuration of a model, and of the adapters in it, decides what it computes."""

from collections.abc import Mapping
from typing import Any

from accelerate.utils import is_peft_model

WITHOUT_EFFECT = frozenset(
    {
        "transformers_version",
        "architectures",
        "torch_dtype",
        "dtype",
        "use_cache",
        "return_dict",
        "output_attentions",
        "output_hidden_states",
        "chunk_size_feed_forward",
        "id2label",
        "label2id",
        "problem_type",
        "bos_token_id",
        "eos_token_id",
    }
)
"""Fields of a configuration that decide no loss: names, versions, what is returned; or that stand elsewhere."""
ADAPTER_WITHOUT_EFFECT = (
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "auto_mapping",
    "peft_version",
)


def model_settings(model: Any) -> dict[str, Any] | None:
    """The fields of a model's configuration, and of adapters that stand in it outside of a peft model; None without."""
    config: Any = getattr(model, "config", None)
    if not hasattr(config, "to_dict"):
        return None
    settings = _with_effect(config.to_dict())
    if "pad_token_id" in settings:  # the Trainer changes that of the configuration, and not what was built by it
        settings["pad_token_id"] = getattr(model.get_input_embeddings(), "padding_idx", None)
    inside = {} if is_peft_model(model) else getattr(model, "peft_config", None) or {}
    return {
        **settings,
        **({"adapters": {name: adapter_settings(each) for name, each in inside.items()}} if inside else {}),
    }


def adapter_settings(config: Any) -> dict[str, Any]:
    """The fields of a peft configuration that are set."""
    fields = config.to_dict().items()
    return {name: value for name, value in fields if name not in ADAPTER_WITHOUT_EFFECT and value is not None}


def generation_settings(model: Any) -> dict[str, Any] | None:
    """What is set of a model's generation configuration, which its result carries; None without. The Trainer gives it
    the tokenizer's special tokens."""
    config: Any = getattr(model, "generation_config", None)
    if not hasattr(config, "to_diff_dict"):
        return None
    return {name: value for name, value in _with_effect(config.to_diff_dict()).items() if name != "pad_token_id"}


def _with_effect(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        str(name): _with_effect(value) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if name not in WITHOUT_EFFECT and not str(name).startswith("_")
    }
