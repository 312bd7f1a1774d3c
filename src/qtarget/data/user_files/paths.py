"""Paths that a user wrote, and what to say of one that does not exist: the closest name beside it."""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from qtarget.console import shortened

HUB_NAME = re.compile(r"[\w-][\w.-]{0,95}(/[\w-][\w.-]{0,95})?", re.ASCII)
"""Names of models on the hub: `gpt2`, `Qwen/Qwen2.5-1.5B`."""

OF_A_MODEL = ("config.json", "adapter_config.json", "*.gguf")
"""Files of which a model's folder has one."""
NO_MODEL = "is a directory without config.json, so it holds no model; name the directory that `save_pretrained` wrote."


def existing_file(path: Path, what: str) -> Path:
    """The path, if it is a file.

    Args:
        what: names the file in an error, as "the configuration".

    Raises:
        ValueError: it is a directory, or does not exist.
    """
    if path.is_dir():
        raise ValueError(f"{what} {path} is a directory; name the file in it.")
    if not path.is_file():
        raise ValueError(not_found(path, what))
    return path


def not_found(path: Path, what: str) -> str:
    """The sentence for a path that does not exist, with the closest name in its directory."""
    folder = path.parent
    if not folder.is_dir():
        return f"{what} {path} is not there: there is no directory {folder.absolute()}."
    if os.path.lexists(path):
        return f"{what} {path} {_strange_kind(path)}."
    there = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.5)
    hint = f"did you mean {folder / near[0]}?" if near else _listing(there)
    return f"{what} {path} is not there; {hint} (looked in {folder.absolute()})"


def _strange_kind(path: Path) -> str:
    """What is wrong with a path that is there and is not what was wanted."""
    if path.is_symlink() and not path.exists():
        return f"is a link to {os.readlink(path)}, which is not there; mend the link"
    if path.is_dir():
        return "is a directory, and does not hold what is wanted here; name what is in it"
    return "is a file, and a directory is wanted here" if path.is_file() else "is neither a file nor a directory"


def check_model_name(name: str, given: str) -> None:
    """Refuse a path that holds no model, and a name that is no path here and cannot be one on the hub.

    Args:
        given: how the user gave it, as "MODEL" or "--base".

    Raises:
        ValueError: the name, and the closest path.
    """
    path = Path(name).expanduser()
    if path.is_dir() and not any(next(path.glob(each), None) for each in OF_A_MODEL):
        raise ValueError(f"{given} {shortened(name)!r} {NO_MODEL}")
    is_wrong_file = path.exists() and not path.is_dir() and path.suffix.lower() != ".gguf"
    if is_wrong_file or (not path.exists() and (looks_local(name) or not HUB_NAME.fullmatch(name))):
        raise ValueError(f"{given} {shortened(name)!r}: " + not_found(path, "the model"))


def unopened_models(names: Mapping[str, str], error: OSError) -> str:
    """What to say of a library's error where models cannot be opened: of those that are no path here, that; of others,
    the error.

    Args:
        names: of models, by how the user gave them.
    """
    away = {given: name for given, name in names.items() if not Path(name).expanduser().exists()}
    if not away:
        return str(error)
    missing = [
        f"{given} {name!r}: {not_found(Path(name), 'the directory').removesuffix('.')}" for given, name in away.items()
    ]
    return f"{'; '.join(missing)}; and as a name on the hub it cannot be opened: {str(error).partition(chr(10))[0]}"


def looks_local(name: str) -> bool:
    """Whether a name that does not exist was meant as a path here rather than as a name on the hub."""
    return (
        name.startswith((".", "/", "~"))
        or "\\" in name
        or name.count("/") > 1
        or name.lower().endswith((".json", ".jsonl", ".parquet", ".csv", ".tsv", ".txt", ".gz", ".gguf", "/"))
        or ("/" in name and Path(name).parent.is_dir())
    )


def _listing(there: list[str]) -> str:
    return f"the directory holds {', '.join(there[:8])}{', …' if len(there) > 8 else ''}" if there else "it is empty"


def describes_itself(folder: Path) -> bool:
    """Whether a folder's README.md says, as on the hub, which of its files are which split and configuration."""
    readme = folder / "README.md"
    head = readme.read_text(encoding="utf-8", errors="replace").partition("\n---")[0] if readme.is_file() else ""
    return head.startswith("---") and "configs:" in head
