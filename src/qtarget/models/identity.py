"""Identities of tokenizers, chat templates and weights: short texts that are equal when the things are."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file, extract_commit_hash

from qtarget.disk.files import file_digest
from qtarget.models.gguf_file import checkpoint_folder

WEIGHTS = ("config.json", "adapter_config.json", "*.safetensors", "*.bin", "*.pt", "*.pth")
NOT_WEIGHTS = ("training_args.bin", "optimizer.*", "scheduler.pt", "rng_state*")
_CHUNK_BYTES = 1 << 22


def tokenizer_identity(tokenizer: PreTrainedTokenizerBase) -> str:
    """sha256 of the token→id map."""
    return _of_json(sorted(tokenizer.get_vocab().items(), key=lambda item: (item[1], item[0])))


def tokenizer_settings(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """What beside the token→id map decides how a tokenizer reads texts: the rules of a fast one (normaliser, splitter,
    merges, what it adds) as sha256, special tokens, sides, and the longest text; its padding of the moment not."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    rules = {} if backend is None else json.loads(backend.to_str())
    rules = {name: part for name, part in rules.items() if name not in ("truncation", "padding", "version")}
    return {
        "class": type(tokenizer).__name__,
        "rules": f"sha256 {_of_json(rules)}" if rules else None,
        "special_tokens": {name: str(token) for name, token in tokenizer.special_tokens_map.items()},
        "padding_side": tokenizer.padding_side,
        "truncation_side": tokenizer.truncation_side,
        "model_max_length": tokenizer.model_max_length,
    }


def template_identity(template: str | dict[str, str] | None) -> str:
    """sha256 of a chat template, or "none"."""
    return "none" if template is None else _of_json(template)


def weights_identity(model: str | PreTrainedModel, revision: str | None = None) -> str:
    """The identity of a model's weights: sha256 over a folder's files or a model in memory, or the commit on the hub.

    Args:
        model: a folder (for a LoRA adapter its base is included), a hub name, or the model itself.

    Raises:
        ValueError: a folder without weights.
        OSError: a hub name that is not on this machine and cannot be reached.
    """
    if not isinstance(model, str):
        return _of_tensors(model)
    folder = Path(checkpoint_folder(model))
    if folder.is_dir():
        return _of_folder(folder)
    path = cached_file(model, "config.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    path = path or cached_file(model, "adapter_config.json", revision=revision)
    return f"{model}@{extract_commit_hash(path, None)}"


def _of_folder(folder: Path) -> str:
    paths = {path for pattern in WEIGHTS for path in folder.glob(pattern)}
    paths -= {path for pattern in NOT_WEIGHTS for path in folder.glob(pattern)}
    if not paths:
        raise ValueError(f"{folder} holds no weights; expected a folder as `save_pretrained` writes it.")
    files = [(path.name, file_digest(path)) for path in sorted(paths)]
    adapter = folder / "adapter_config.json"
    base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path") if adapter.is_file() else None
    return _of_json([files, weights_identity(base)] if base else files)


@torch.no_grad()
def _of_tensors(model: PreTrainedModel) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(_tensors(model)):
        whole = value.full_tensor() if isinstance(value, DTensor) else value
        digest.update(f"{name} {whole.dtype} {tuple(whole.shape)}\n".encode())
        flat = whole.detach().cpu().contiguous().flatten().view(torch.uint8)
        for start in range(0, len(flat), _CHUNK_BYTES):
            digest.update(flat[start : start + _CHUNK_BYTES].numpy().data)
    return digest.hexdigest()


def _tensors(model: PreTrainedModel) -> Iterable[tuple[str, Tensor]]:
    return ((name, value) for name, value in model.state_dict().items() if isinstance(value, Tensor))


def _of_json(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, ensure_ascii=True, sort_keys=True).encode()).hexdigest()
