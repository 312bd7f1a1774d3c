"""What lies in the folder of a result and is no part of it: a user's notes, an evaluation, rows, another model."""

from collections.abc import Mapping
from fnmatch import fnmatch
from glob import escape
from pathlib import Path

from qtarget.models.model_seal import LOADED, SETTING_FILES, STATES, TEMPLATES, TOKEN_FILES, has_own_code

WRITTEN_BESIDE = ("*.py", "global_step*", "latest", "pytorch_model_fsdp*")
"""A model's own code, and what FSDP and DeepSpeed write beside a model."""
READ_BESIDE = ("*.safetensors", "*.bin", "*.index.json", *SETTING_FILES, *TOKEN_FILES)
"""What transformers, peft or an engine may read beside weights in safetensors, whoever wrote it."""
RECORDS = ("README.md", "training.png", "metrics.json", "train.yaml", "trainer_state.json", "log_window_*")
WRITTEN = (*LOADED, *STATES, *WRITTEN_BESIDE, *RECORDS, TEMPLATES)


FileState = tuple[int, int, int]


def file_states(folder: Path) -> dict[str, FileState]:
    """Inode, time of change (ns) and size (bytes) of the files at the top of a folder, by name: they tell what is
    written anew."""
    files = {each.name: each.stat() for each in folder.iterdir() if each.is_file()} if folder.is_dir() else {}
    return {name: (each.st_ino, each.st_mtime_ns, each.st_size) for name, each in files.items()}


def beside_result(folder: Path, before: Mapping[str, FileState]) -> list[str]:
    """Patterns, for `seal`, of the files and folders in a result's folder that are no part of the result.

    These are names that no run writes; and names that a run writes, of files that lay there before, did not change and
    are not read with the model.

    Args:
        before: `file_states` of the folder when the run began to write its result.
    """
    now, names = file_states(folder), sorted(each.name for each in folder.iterdir())
    read = (*READ_BESIDE, "*.py") if has_own_code(folder) else READ_BESIDE
    mine = {name for name, state in before.items() if now.get(name) == state and not _is_one_of(name, read)}
    return [escape(name) for name in names if name in mine or not _is_one_of(name, WRITTEN)]


def _is_one_of(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
