"""From a GGUF file to a folder as `save_pretrained` writes it: weights in float32, tokenizer, chat template.

transformers reads the file. What its reader leaves out or gets wrong is mended here: weights that stay quantised, tied
embeddings that come out as two, ids of control tokens, and how some tokenizers split text.
"""

from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedModel
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

from qtarget.models.drawn_weights import refuse_drawn_weights
from qtarget.models.gguf_tokenizer import GgufTokens, mended_tokenizer

NO_MODELS = {"general", "tokenizer", "t5", "umt5"}
"""What stands in transformers' list of architectures and is no causal language model."""
TIED_DIFFERENCE = 0.15
"""Two quantisations of one matrix differ by less than this share of its norm."""


def convert(file: Path, folder: Path) -> None:
    """Write the model and the tokenizer of a GGUF file into a folder.

    Raises:
        ValueError: the file is damaged, of an architecture that transformers does not read, or its tokenizer does not
            give texts back.
    """
    reader = _opened(file)
    tokens = GgufTokens.of(reader)
    _check_architecture(file, tokens.architecture)
    tokenizer = mended_tokenizer(
        AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False), tokens, file
    )
    model = _dequantised(file)
    _tie(model)
    model.config.name_or_path = ""
    for config in (model.config, model.generation_config or GenerationConfig()):
        config.bos_token_id, config.pad_token_id = tokenizer.bos_token_id, tokenizer.pad_token_id
        config.eos_token_id = tokenizer.eos_token_id
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokens.ends()
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _opened(file: Path) -> Any:
    from gguf import GGUFReader  # pyright: ignore[reportMissingImports]

    try:
        return GGUFReader(file)
    except (ValueError, OSError, IndexError, KeyError) as error:
        raise ValueError(f"{file} cannot be read as a GGUF file ({error}); download or copy it again.") from error


def _check_architecture(file: Path, architecture: str | None) -> None:
    known = sorted(set(GGUF_SUPPORTED_ARCHITECTURES) - NO_MODELS)
    if architecture not in known:
        raise ValueError(
            f"{file} is of the architecture {architecture!r}, which the GGUF reader of transformers "
            f"{transformers.__version__} does not know (it knows {', '.join(known)}); name the original checkpoint, a "
            "folder or hub name, in its place."
        )


def _dequantised(file: Path) -> PreTrainedModel:
    """The model in float32. Newer releases of transformers leave the weights quantised unless told otherwise."""
    settings = getattr(transformers, "GgufConfig", None)
    whole = {} if settings is None else {"quantization_config": settings(dequantize=True)}
    try:
        with refuse_drawn_weights(str(file)):
            model = AutoModelForCausalLM.from_pretrained(
                file.parent,
                gguf_file=file.name,
                dtype=torch.float32,
                device_map="cpu",
                trust_remote_code=False,
                **whole,
            )
    except (RuntimeError, KeyError, ValueError, NotImplementedError) as error:
        raise ValueError(
            f"{file} cannot be converted: {str(error).strip()}. Name the original checkpoint in its place."
        ) from error
    for holder in (model, model.config):
        for name in ("quantization_config", "hf_quantizer", "is_quantized", "quantization_method"):
            if name in vars(holder):
                delattr(holder, name)
    return model.float()


def _tie(model: PreTrainedModel) -> None:
    """Make embeddings and output layer one matrix where they are two quantisations of one.

    The output layer's is kept, which the makers of such files store more finely.
    """
    embedding: Any = model.get_input_embeddings()
    head: Any = model.get_output_embeddings()
    if head.weight is embedding.weight or not _nearly_equal(embedding.weight.data, head.weight.data):
        return
    embedding.weight.data = head.weight.data
    model.config.get_text_config().tie_word_embeddings = True
    model.config.tie_word_embeddings = True
    model.tie_weights()


def _nearly_equal(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and bool((first - second).norm() < TIED_DIFFERENCE * second.norm())
