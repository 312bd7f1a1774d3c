"""GGUF files as models: each is converted once, through transformers' reader, into a folder in the user's cache."""

import hashlib
import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from qtarget.disk.draft_folder import drafted_folder
from qtarget.disk.seal import damage, read_seal, seal
from qtarget.models.model_seal import refuse_damaged_model
from qtarget.models.pickled_weights import chain_of_bases, path_of_model
from qtarget.models.shard_index import refuse_shards_outside

CACHE_VARIABLE = "QTARGET_CACHE"
"""The environment variable that names another folder than `~/.cache/qtarget`."""
CONVERSION = "v1"
"""Changes when a conversion gives something else than before."""
FILE_SHA256 = "gguf_sha256"
"""Where a conversion's manifest says which file it is of."""


def checkpoint_folder(source: str) -> str:
    """The folder of a model: for a GGUF file, or a folder with one, that of its conversion; else the source itself.

    The conversion is named by the sha256 of the file, so a file is converted once, and again only when it or the
    conversion changes.

    Raises:
        ValueError: the package gguf is not installed, the folder holds several files, the file cannot be converted, or
            a folder that qtarget sealed was damaged since, or an index names a file outside of its folder.
    """
    file = gguf_file_of(source)
    if file is None:
        refuse_damaged_model(source)
        for each in chain_of_bases(source):
            refuse_shards_outside(path_of_model(each))
        return source
    state = file.stat()
    return _converted(str(file.absolute()), state.st_size, state.st_mtime_ns)


def gguf_file_of(source: str) -> Path | None:
    """The GGUF file that a source is or that a folder without another model holds; None for anything else.

    Raises:
        ValueError: a folder holds several.
    """
    path = Path(source).expanduser()
    if path.suffix.lower() == ".gguf" and path.is_file():
        return path
    if not path.is_dir() or (path / "config.json").is_file() or (path / "adapter_config.json").is_file():
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) > 1:
        raise ValueError(
            f"{source} holds {len(files)} GGUF files ({', '.join(file.name for file in files[:3])}); name one of them, "
            f"as in {files[0]}. Parts of one model are not read: join them first, with llama.cpp's gguf-split."
        )
    return files[0] if files else None


@lru_cache(maxsize=16)
def _converted(file: str, size: int, changed_ns: int) -> str:
    if find_spec("gguf") is None:
        raise ValueError(
            f"{file} is a GGUF file, and the package that reads such files is not installed; write: pip install "
            "'qtarget[gguf]'"
        )
    with open(file, "rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    folder = conversions() / f"{digest[:32]}-{CONVERSION}"
    if not _is_whole(folder, digest):
        _convert_into(Path(file), folder, digest)
    return str(folder)


def _is_whole(folder: Path, digest: str) -> bool:
    """Whether a folder is as it was written, and of the file with this sha256; earlier versions did not write it."""
    try:
        sealed = read_seal(folder)
        return sealed.facts.get(FILE_SHA256, digest) == digest and not damage(folder, sealed)
    except ValueError:  # not sealed, or not there
        return False


def conversions() -> Path:
    """The folder of all conversions."""
    base = os.environ.get(CACHE_VARIABLE) or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "qtarget"
    return Path(base).expanduser().absolute() / "gguf"


def _convert_into(file: Path, folder: Path, digest: str) -> None:
    """Convert into a draft beside the folder, which appears whole or not at all."""
    from qtarget.models.gguf_conversion import convert

    with drafted_folder(folder, replaces=True) as draft:
        convert(file, draft)
        seal(draft, {"gguf": file.name, FILE_SHA256: digest})
    assert folder.is_dir()
