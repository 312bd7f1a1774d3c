"""Weights that are stored as a pickle (`pytorch_model.bin`): refused unless they are asked for, and never run as code.

torch reads such files with `weights_only`, which runs nothing of what they hold; that has had holes, and safetensors
holds numbers alone.
"""

import json
from collections.abc import Iterator
from pathlib import Path

INDEX_OF_WEIGHTS = "model.safetensors.index.json"
ADAPTER_PICKLE, ADAPTER_WEIGHTS = "adapter_model.bin", "adapter_model.safetensors"
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "model*.bin")
ALLOW = "allow_pickled_weights"
"""The key that lets them be read."""
NO_WEIGHTS = ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state*.pth", "log_window_*.pt", "pytorch_model_fsdp*")
"""Pickles of a Trainer's checkpoint that no model is loaded from."""


LINE = (
    f"`--{ALLOW.replace('_', '-')}` behind the command, `{ALLOW}: true` into a configuration, or in Python {ALLOW}=True"
)
"""What every command and class takes that reads weights."""


def refuse_pickled_weights(source: str, line: str = LINE) -> None:
    """Refuse a folder whose weights would be read from a pickle. Of an adapter, its base is looked at too.

    Args:
        source: a model's folder; a name on the hub is not looked at.
        line: what allows it, as the user writes it.

    Raises:
        ValueError: names the file, the commands that convert it, and `line`.
    """
    folder = Path(source).expanduser()
    for file in _pickles_read(folder) if folder.is_dir() else ():
        is_adapter = file.name == ADAPTER_PICKLE
        raise ValueError(
            f"{file} is a pickle, a format that can carry code, and the only weights in {folder}. Convert it once: "
            f"{_adapter_conversion(folder) if is_adapter else _conversion(folder)} Or, if you trust where it is from, "
            f"write {line}: it is then read by torch's `weights_only`, which runs nothing."
        )
    if folder.is_dir() and (base := base_of_adapter(folder)):
        refuse_pickled_weights(base, line)


def _pickles_read(folder: Path) -> Iterator[Path]:
    """The pickles that a loader would take weights from: where there is no other file, or an index names them."""
    index = folder / INDEX_OF_WEIGHTS
    if index.is_file():
        yield from (folder / name for name in named_shards(index) if not name.endswith(".safetensors"))
    is_adapter = (folder / "adapter_config.json").is_file()
    if is_adapter and not (folder / ADAPTER_WEIGHTS).is_file():
        yield from folder.glob(ADAPTER_PICKLE)
    if not is_adapter and not any(folder.glob("*.safetensors")) and not any(folder.glob("*.gguf")):
        left_out = {path for pattern in NO_WEIGHTS for path in folder.glob(pattern)}
        yield from sorted({path for pattern in PICKLES for path in folder.glob(pattern)} - left_out)


def named_shards(index: Path) -> list[str]:
    """The files that an index of weights names; none where it is damaged, which transformers says."""
    try:
        return sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return []


def base_of_adapter(adapter: Path) -> str | None:
    """The model that the adapter in a folder is on; None for a folder that holds no adapter, or a damaged one."""
    try:
        found = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        return found.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        return None


def _conversion(folder: Path) -> str:
    return (
        f'`python -c "from transformers import AutoModelForCausalLM as M; '
        f"M.from_pretrained('{folder}').save_pretrained('{folder}-safe')\"`, and copy the tokenizer's files."
    )


def _adapter_conversion(folder: Path) -> str:
    return (
        f"`python -c \"import torch; from safetensors.torch import save_file as s; s(torch.load('{folder}/"
        f"{ADAPTER_PICKLE}', weights_only=True), '{folder}/{ADAPTER_WEIGHTS}')\"`."
    )
