"""Files that are replaced as a whole, and JSON files read back.

Results, records, manifests, cards and pages are written here and nowhere else, so a crash never leaves half of one.
"""

import errno
import hashlib
import json
import math
import os
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from qtarget.disk.held_folders import check_not_replaced

DRAFT = re.compile(r"\..+\.\d+-\d+\.draft", re.ASCII)
"""Names of files that are not finished: hidden, with the process and the thread that write them."""
CONTENT_SHA256 = "content_sha256"
"""The key of a JSON object that holds the sha256 of all its other keys and values."""
NOT_SYNCED = (errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EPERM)
"""Errors of file systems that cannot, or may not, write a folder's entries to the disk on demand."""


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes the place of `path` when the block ends.

    Until then the old file is there, and after an error it stays. A power cut leaves the old file or the new one. Of
    two processes that replace a file at once, the later one's content stays.

    Raises:
        OSError: the disk is full, the folder cannot be written to, or a device or a pipe is there, which would be gone.
        SecondWriterError: the folder, or one that it is in, was removed or replaced since this process locked it.
    """
    check_not_replaced(path)
    target = Path(os.path.realpath(path))  # a link stays a link
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise OSError(errno.ENOTSUP, "Not a regular file", str(path))
    draft = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.draft")
    try:
        with draft.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        check_not_replaced(path)
        os.replace(draft, target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file; see `replacing`."""
    with replacing(path) as file:
        file.write(content)


def replace_text(path: Path, text: str) -> None:
    """Replace a text file, in UTF-8 and with line ends as they are in `text`; see `replacing`."""
    replace_file(path, text.encode())


def write_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Replace a JSON file, in UTF-8, with `json_text`; see `replacing`."""
    replace_text(path, json_text(value, indent=indent) + "\n")


def json_text(value: Any, *, indent: int | None = None, ensure_ascii: bool = False, sort_keys: bool = False) -> str:
    """A value as JSON. NaN and infinities, which JSON does not have, are null; what else it does not know is written
    as its `str`."""
    dump = partial(
        json.dumps, indent=indent, ensure_ascii=ensure_ascii, sort_keys=sort_keys, default=str, allow_nan=False
    )
    try:
        return dump(value)
    except ValueError:
        return dump(_with_nulls(value))


def _with_nulls(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _with_nulls(each) for name, each in value.items()}
    return [_with_nulls(each) for each in value] if isinstance(value, list | tuple) else value


def make_json_valid(path: Path) -> None:
    """Write a JSON file of another library anew, with null where it holds NaN or an infinity."""
    strange: list[str] = []
    value = json.loads(path.read_text(encoding="utf-8"), parse_constant=strange.append)
    if strange:
        replace_text(path, json_text(value, indent=2, sort_keys=True) + "\n")


def write_digested_json(path: Path, value: Mapping[str, Any], indent: int | None = 1) -> None:
    """Like `write_json`, of an object that is read back: its sha256 stands in it, and `read_json_object` checks it."""
    write_json(path, digested(value), indent)


def digested(value: Mapping[str, Any]) -> dict[str, Any]:
    """An object as JSON holds it, with its own sha256."""
    written = json.loads(json_text(value))
    return {**written, CONTENT_SHA256: json_digest(written)}


def json_digest(value: Any) -> str:
    """sha256 of a value of JSON, however it is indented and in whatever order its keys stand."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def first_difference(before: Any, now: Any) -> str:
    """The dotted name of the first key under which two values of JSON differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = [*now, *(key for key in before if key not in now)]
        key = next(key for key in keys if before.get(key, ...) != now.get(key, ...))
        rest = first_difference(before.get(key), now.get(key))
        return f"{key}.{rest}" if rest else key
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        place = next(place for place, pair in enumerate(zip(before, now, strict=True)) if pair[0] != pair[1])
        rest = first_difference(before[place], now[place])
        return f"{place}.{rest}" if rest else str(place)
    return ""


def read_json_object(path: Path, remedy: str, keys: Collection[str] | None = None) -> dict[str, Any]:
    """The object in a JSON file; where it holds its own sha256, that is checked and left out.

    Args:
        remedy: what to do about a damaged file, as the end of the error's sentence: "delete it and start anew".
        keys: those that the object may have; None for any.

    Raises:
        ValueError: the file holds no JSON object, another one than was written, or unknown keys; names file and remedy.
        OSError: there is no such file.
    """
    value = _json_object(path, remedy)
    digest = value.pop(CONTENT_SHA256, None)
    if digest is not None and digest != json_digest(value):
        raise ValueError(f"{path} is damaged (it holds other values than were written); {remedy}.")
    unknown = [] if keys is None else sorted(value.keys() - set(keys))
    if unknown:
        raise ValueError(f"{path} is damaged (unknown key {unknown[0]!r}); {remedy}.")
    return value


def _json_object(path: Path, remedy: str) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}.") from error
    except RecursionError as error:
        raise ValueError(f"{path} is damaged (nested too deeply); {remedy}.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged (expected a JSON object); {remedy}.")
    return value


@contextmanager
def reading_fields(path: Path, remedy: str) -> Iterator[None]:
    """A block that makes our own values from a file's: what lacks there, or is of another type, is damage.

    Raises:
        ValueError: names the file and the remedy, which ends the sentence as in `read_json_object`.
    """
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}: {error}); {remedy}.") from error


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_draft(path: Path) -> bool:
    """Whether a file is one that `replacing` had begun when its process was killed, or is writing now."""
    return DRAFT.fullmatch(path.name) is not None


def remove_drafts(folder: Path, lock: str) -> None:
    """Delete what killed processes left unfinished in a folder and those inside it. Nobody may be writing there.

    Args:
        lock: name of a file; folders inside that have one are left to whoever locks them.
    """
    for where, inside, names in os.walk(folder):
        inside[:] = [name for name in inside if not os.path.exists(os.path.join(where, name, lock))]
        for path in (Path(where, name) for name in names):
            if is_draft(path):
                path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Write a folder's entries to the disk, where the system can."""
    if os.name == "nt":  # folders cannot be opened there
        return
    with suppress(PermissionError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in NOT_SYNCED:
                raise
        finally:
            os.close(handle)
