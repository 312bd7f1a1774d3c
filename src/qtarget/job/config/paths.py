"""Paths that a user wrote, and what to say of one that does not exist: the closest name beside it."""

import difflib
from pathlib import Path


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
    there = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    near = difflib.get_close_matches(path.name, there, n=1, cutoff=0.5)
    hint = f"did you mean {folder / near[0]}?" if near else _listing(there)
    return f"{what} {path} is not there; {hint} (looked in {folder.absolute()})"


def looks_local(name: str) -> bool:
    """Whether a name that does not exist was meant as a path here rather than as a name on the hub."""
    return (
        name.startswith((".", "/", "~"))
        or "\\" in name
        or name.count("/") > 1
        or name.endswith((".json", ".jsonl", ".parquet", ".csv", ".txt", ".gguf", "/"))
        or ("/" in name and Path(name).parent.is_dir())
    )


def _listing(there: list[str]) -> str:
    return f"the directory holds {', '.join(there[:8])}{', …' if len(there) > 8 else ''}" if there else "it is empty"
