"""Model folders that qtarget wrote and sealed: whether what a loader reads of them is as it was written."""

import json
from fnmatch import fnmatch
from functools import lru_cache
from pathlib import Path

from qtarget.disk.files import CONTENT_SHA256
from qtarget.disk.seal import SEAL, SealedFolder, file_damage, read_seal
from qtarget.models.pickled_weights import chain_of_bases, path_of_model

NOT_LOADED = ("*.md", "*.png", "*.log", "metrics.json", "train.yaml", "trainer_state.json", "log_window_*")
"""Names of sealed files that no model is loaded from: they may be edited."""
STATES = (
    "optimizer.*", "optimizer_*", "scheduler.*", "scaler.*", "rng_state*", "random_states*", "sampler*", "global_step*",
    "latest", "zero_to_fp32*", "reference_snapshot.safetensors", "teacher_average.safetensors",
)  # fmt: skip
"""Files of a checkpoint beside its model, which training alone reads."""
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.index.json", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.pkl")
SETTING_FILES = ("*config.json", "adapter_*", "params.json", "tekken.json", "chat_template*", "*.jinja")
TOKEN_FILES = (
    "tokenizer*", "*.tokenizer", "*vocab*", "merges.txt", "*.model", "*.spm", "*.tiktoken", "special_tokens_map.json",
    "added_tokens.json", "normalizer.json", "bpe.codes", "dict.txt", "emoji.json", "byte_maps.json", "word_*.json",
)  # fmt: skip
LOADED = (*WEIGHT_FILES, *SETTING_FILES, *TOKEN_FILES)
"""Names that transformers, peft or an engine reads, also where nothing in the folder speaks of them."""
NOT_LOADED_HERE = ("training_args.bin", *STATES)
"""What is called so, and no model is loaded from."""
TEMPLATES = "additional_chat_templates"
"""The one folder inside that transformers looks into."""


def refuse_damaged_model(source: str) -> None:
    """Refuse a model's folder whose manifest says that its weights, tokenizer or configuration were others.

    So is one to which a file was added that a loader would read: an adapter, an index of weights, a chat template.

    A folder without a manifest, or with a readable one of somebody else's, is not looked at; nor is a name on the hub.
    Of an adapter, its base is looked at too. Files are not hashed again in this process as long as they do not change.

    Raises:
        ValueError: names the file that was changed, cut, removed or added since, and what to do; or adapters that
            stand on each other.
    """
    for each in chain_of_bases(source):
        folder = path_of_model(each).absolute()
        if (folder / SEAL).is_file() and _is_ours(folder):
            seal = _read_seal(folder)
            names = _loaded(seal)
            state = tuple(_state(folder / name) for name in (SEAL, *names))
            _refuse_damage(folder, state, tuple(names), tuple(_added(folder, seal)))


def _is_ours(folder: Path) -> bool:
    """Whether a manifest is a seal, or may be what is left of one. Other programs name files so too, but theirs can be
    read."""
    try:
        content = json.loads((folder / SEAL).read_bytes())
    except (ValueError, RecursionError):
        return True
    return isinstance(content, dict) and (CONTENT_SHA256 in content or {"files", "facts"} <= content.keys())


def _read_seal(folder: Path) -> SealedFolder:
    try:
        return read_seal(folder)
    except ValueError as error:
        said = str(error).removesuffix(".")
        raise ValueError(
            f"{said}: nothing says whether the model's files are as they were written; bring it back (copy the folder "
            f"again, or train or build it again), or delete {folder / SEAL} if you trust the files without it."
        ) from error


def _loaded(seal: SealedFolder) -> list[str]:
    return [name for name in seal.files if not any(fnmatch(name, pattern) for pattern in (*NOT_LOADED, *STATES))]


def _added(folder: Path, seal: SealedFolder) -> list[str]:
    """Files that loaders would read and that were not there when the folder was sealed."""
    there = (
        path
        for path in (*folder.iterdir(), *(folder / TEMPLATES).glob("*"))
        if not path.is_dir() and path.name[0] != "."
    )
    names = sorted(path.relative_to(folder).as_posix() for path in there)
    read = (*LOADED, "*.py") if has_own_code(folder) else LOADED
    left_out = {name for name in names if any(fnmatch(name, pattern) for pattern in seal.left_out)}  # lay there then
    return [name for name in names if name not in (SEAL, *seal.files, *left_out) and _is_loaded(name, read)]


def _is_loaded(name: str, read: tuple[str, ...]) -> bool:
    unread = (*NOT_LOADED, *NOT_LOADED_HERE)
    return any(fnmatch(name, pattern) for pattern in read) and not any(fnmatch(name, pattern) for pattern in unread)


def has_own_code(folder: Path) -> bool:
    """Whether the model or its tokenizer names code of its own, which may import from files beside it."""
    return any(b'"auto_map"' in path.read_bytes() for path in folder.glob("*config.json") if path.is_file())


def _state(path: Path) -> tuple[int, int] | None:
    return (path.stat().st_size, path.stat().st_mtime_ns) if path.is_file() else None


@lru_cache(maxsize=64)
def _refuse_damage(folder: Path, state: tuple, names: tuple[str, ...], added: tuple[str, ...]) -> None:
    """`state` is of the files, so that what changes is looked at again."""
    found = file_damage(folder, read_seal(folder), names)
    found += [f"{name} was added after it was sealed, and would be read with the model" for name in added]
    if found:
        raise ValueError(
            f"{folder} is damaged: {'; '.join(found)}. Bring the folder back as it was written (copy it, or train or "
            f"build it, again); if the change is yours and meant, delete {folder / SEAL}."
        )
