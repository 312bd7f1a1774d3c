"""Weights that are stored as a pickle (`pytorch_model.bin`): refused unless they are asked for, and never run as code.

torch reads such files with `weights_only`, which runs nothing of what they hold; that has had holes, and safetensors
holds numbers alone.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers.utils.hub import cached_file

_WHOLE, _PICKLE = "model.safetensors", "pytorch_model.bin"
_SAFE, _INDEX = ".safetensors", ".index.json"
NAMED_IN_CONFIG = "transformers_weights"
"""The field of a config.json that names other files than the usual ones."""
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


def refuse_pickled_weights(source: str, line: str = LINE, subfolder: str = "", variant: str | None = None) -> None:
    """Refuse a folder whose weights would be read from a pickle. Of an adapter, its base is looked at too.

    Args:
        source: a model's folder. Of names on the hub adapters alone are looked at.
        line: what allows it, as the user writes it.
        subfolder, variant: as `from_pretrained` takes them.

    Raises:
        ValueError: names the file, the commands that convert it, and `line`; or adapters that stand on each other.
    """
    first, *bases = chain_of_bases(source)
    for folder in (path_of_model(first) / subfolder, *map(path_of_model, bases)):
        for file in _pickles_read(folder, variant) if folder.is_dir() else ():
            raise ValueError(_refusal(file, folder, line))
        if not folder.is_dir():
            _refuse_adapter_of_hub(folder.as_posix(), line)


def _refuse_adapter_of_hub(name: str, line: str) -> None:
    if not _of_hub(name, "adapter_config.json") or _of_hub(name, ADAPTER_WEIGHTS):
        return
    if (file := _of_hub(name, ADAPTER_PICKLE)) is not None:
        raise ValueError(_refusal(Path(file), Path(file).parent, line))


def _of_hub(name: str, file: str) -> str | None:
    """A file of the hub on this machine; None where it is not there, or the hub cannot be reached."""
    try:
        return cached_file(
            name,
            file,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
    except OSError:
        return None


def refuse_pickled_checkpoint(folder: Path, line: str) -> None:
    """Refuse a checkpoint of which a Trainer would read weights from a pickle.

    It takes a whole pickle before parts in safetensors, beside an adapter too, and adapters from folders inside.

    Raises:
        ValueError: as of `refuse_pickled_weights`.
    """
    for each in (folder, *sorted(inside.parent for inside in folder.glob("*/adapter_config.json"))):
        refuse_pickled_weights(str(each), line)
    if (folder / _PICKLE).is_file() and not (folder / _WHOLE).is_file():
        raise ValueError(_refusal(folder / _PICKLE, folder, line))


def _refusal(file: Path, folder: Path, line: str) -> str:
    conversion = _adapter_conversion(folder) if file.name == ADAPTER_PICKLE else _conversion(folder)
    return (
        f"{file} is a pickle, a format that can carry code, and weights of {folder} would be read from it. Convert "
        f"it once: {conversion} Or, if you trust where it is from, write "
        f"{line}: it is then read by torch's `weights_only`, which runs nothing."
    )


def _pickles_read(folder: Path, variant: str | None) -> Iterator[Path]:
    """The pickles that a loader could take weights from: those that an index of safetensors or the configuration names,
    and all of a folder without the safetensors that are taken first."""
    named = weights_in_config(folder)
    yield from (folder / name for name in named if not name.endswith((_SAFE, _SAFE + _INDEX)))
    for index in indexes_of(folder):
        if index.name.endswith(_SAFE + _INDEX) or index.name.endswith(f"{_SAFE}.index.{variant}.json"):
            yield from (folder / name for name in named_shards(index) if not name.endswith(_SAFE))
    is_model, is_adapter = ((folder / name).is_file() for name in ("config.json", "adapter_config.json"))
    if is_adapter and not (folder / ADAPTER_WEIGHTS).is_file():
        yield from folder.glob(ADAPTER_PICKLE)
    is_converted = not is_model and any(folder.glob("*.gguf"))
    if (is_model or not is_adapter) and not (named or is_converted or _has_safetensors(folder, variant)):
        left_out = {path for pattern in NO_WEIGHTS for path in folder.glob(pattern)}
        yield from sorted({path for pattern in PICKLES for path in folder.glob(pattern)} - left_out)


def _has_safetensors(folder: Path, variant: str | None) -> bool:
    """Whether a folder has the weights that transformers takes first."""
    whole, index = _WHOLE, _WHOLE + _INDEX
    if variant:
        whole, index = f"model.{variant}{_SAFE}", f"{_WHOLE}.index.{variant}.json"
    return (folder / whole).is_file() or (folder / index).is_file()


def indexes_of(folder: Path) -> list[Path]:
    """The indexes of weights in a folder, and those that its configuration names."""
    named = [folder / name for name in weights_in_config(folder) if name.endswith(_INDEX)]
    return sorted(
        {*folder.glob("*.index.json"), *folder.glob("*.index.*.json"), *(path for path in named if path.is_file())}
    )


def named_shards(index: Path) -> list[str]:
    """The files that an index of weights names; none where it is damaged, which transformers says."""
    try:
        return sorted({str(name) for name in json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return []


def weights_in_config(folder: Path) -> list[str]:
    """The files that a model's configuration, or that of a part of it, names in the place of the usual ones."""
    try:
        return [str(name) for name in _values_of(json.loads((folder / "config.json").read_text(encoding="utf-8")))]
    except (OSError, ValueError, RecursionError):
        return []


def _values_of(config: Any) -> Iterator[Any]:
    for name, value in config.items() if isinstance(config, dict) else ():
        if name == NAMED_IN_CONFIG and value is not None:
            yield value
        yield from _values_of(value)


def chain_of_bases(source: str) -> list[str]:
    """A model, and where its folder holds an adapter, the model that this is on, and so on.

    Raises:
        ValueError: adapters that stand on each other, or on themselves.
    """
    chain = [source]
    while base := base_of_adapter(path_of_model(chain[-1])):
        _check_other(base, chain)
        chain.append(base)
    return chain


def _check_other(base: str, chain: list[str]) -> None:
    """`chain` is of folders, the last of which names `base`."""
    place, (*_, adapter) = path_of_model(base), map(path_of_model, chain)
    if place.is_dir() and any(place.samefile(path_of_model(each)) for each in chain):
        which = "is that folder itself" if place.samefile(adapter) else "stands on this adapter in turn"
        raise ValueError(
            f"{adapter / 'adapter_config.json'} names {base!r} as base_model_name_or_path, which {which}; write there "
            "the folder or hub name of the model that the adapter was trained on."
        )


def path_of_model(source: str) -> Path:
    """The path that a model's name is, if it is one. A user who is not there (`~nobody`) is taken as written."""
    return Path(os.path.expanduser(source))


def base_of_adapter(adapter: Path) -> str | None:
    """The model that the adapter in a folder is on; None for a folder that holds no adapter, or a damaged one."""
    try:
        found = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        base = found.get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None
    return base if isinstance(base, str) else None


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
