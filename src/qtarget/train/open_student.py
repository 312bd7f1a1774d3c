"""Opens a student that a path names and TRL would open as something else: a text model inside a vision checkpoint, or a
GGUF file."""

import copy
from collections.abc import Mapping
from typing import Any

from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM

from qtarget.data import Asker
from qtarget.models.drawn_weights import refuse_drawn_weights
from qtarget.models.gguf_file import checkpoint_folder
from qtarget.models.loading import tokenizer_of
from qtarget.models.loading_arguments import BITSANDBYTES, check_arguments
from qtarget.models.model_config import check_model_config
from qtarget.models.named_kernels import refuse_named_kernels
from qtarget.models.pickled_weights import ALLOW
from qtarget.models.sharding import read_whole
from qtarget.models.weight_files import safe_loading
from qtarget.train.target_sft_config import TargetSFTConfig
from qtarget.train.trl_private import create_model_from_path


def open_student(
    model: Any, processing_class: Any, args: TargetSFTConfig, quantization_config: Any, asker: Asker = Asker.PYTHON
) -> tuple[Any, Any, TargetSFTConfig]:
    """Model, tokenizer and configuration to train with; as given, unless `model` names one of the two kinds.

    A checkpoint of a vision model whose family has a text-only causal language model too (Qwen3.5) is that text model,
    as it is for a teacher.

    Raises:
        ValueError: a folder's weights are a pickle, and `allow_pickled_weights` is off; or arguments lead elsewhere.
    """
    if not isinstance(model, str):
        return model, processing_class, args
    folder = checkpoint_folder(model)
    kwargs: dict[str, Any] = {**args.model_init_kwargs} if isinstance(args.model_init_kwargs, dict) else {}
    key = "model_init_kwargs"
    refuse_quantisation(kwargs, asker)
    refuse_named_kernels(folder, {"trust_remote_code": args.trust_remote_code, **kwargs})
    check_arguments(folder, kwargs, f"`{key}`", lambda known: f"write {asker.line(key, known)}")
    kwargs = safe_loading(folder, kwargs, args.allow_pickled_weights, asker.line(ALLOW, True))
    if not args.trust_remote_code:
        check_model_config(folder)
    if kwargs:
        args = copy.copy(args)
        args.model_init_kwargs = dict(kwargs)
    if not _is_text_inside(folder, kwargs, args):
        return folder, processing_class, args
    if quantization_config is not None:
        kwargs["quantization_config"] = quantization_config
    if getattr(args.distributed_state, "distributed_type", None) in ("MULTI_GPU", "DEEPSPEED"):
        kwargs["device_map"] = None
    kwargs.setdefault("trust_remote_code", args.trust_remote_code)
    opened = copy.copy(args)
    opened.model_init_kwargs = None  # they have had their effect
    architecture: Any = AutoModelForCausalLM
    with read_whole(), refuse_drawn_weights(folder):
        text = create_model_from_path(folder, architecture, **kwargs)
    return text, tokenizer_of(folder, args.trust_remote_code) if processing_class is None else processing_class, opened


def refuse_quantisation(given: Mapping[str, Any], asker: Asker) -> None:
    """Refuse settings of bitsandbytes among the arguments of a student, which stand elsewhere.

    Raises:
        ValueError: names them, and says where.
    """
    if settings := {name: value for name, value in given.items() if name.startswith(BITSANDBYTES)}:
        rest = {name: value for name, value in given.items() if name not in settings}
        written = ", ".join(f"{name}={value!r}" for name, value in settings.items())
        line = f"`quantization_config=BitsAndBytesConfig({written})` beside it"
        if asker is Asker.COMMAND_LINE:
            line = " and ".join(asker.line(name, value) for name, value in settings.items()) + " instead"
        raise ValueError(
            f"`model_init_kwargs` holds {', '.join(settings)}, which are no arguments of a student's loading; write "
            f"{asker.line('model_init_kwargs', rest or None)}, and {line}."
        )


def _is_text_inside(folder: str, kwargs: dict[str, Any], args: TargetSFTConfig) -> bool:
    """Whether a checkpoint is of more than text, and `AutoModelForCausalLM` takes the text model out of it."""
    hub = {name: kwargs[name] for name in ("revision", "trust_remote_code") if name in kwargs}
    try:
        config = AutoConfig.from_pretrained(folder, **{"trust_remote_code": args.trust_remote_code, **hub})
    except (OSError, ValueError):  # TRL says what is wrong
        return False
    text, kind = config.get_text_config(), type(config)
    if text is config or kind not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return False
    model: Any = MODEL_FOR_CAUSAL_LM_MAPPING[kind]
    return model.config_class is type(text)
