"""Errors of libraries that a user can cause, in words: a chat template that fails, a disk that is full."""

import errno
import re

from qtarget.disk.os_errors import REASONS, os_error_in_words
from qtarget.models.template_errors import is_of_template, place_in_template, words_of_template

SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors, which is written in Rust, names an error of the system."""
TORCH_WRITER = ("PytorchStreamWriter", "inline_container")
"""What torch names when a file that it writes cannot grow."""
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
KEPT = "What was whole before stays, and the same command goes on from it (training: with `--resume-from-checkpoint`)."


def fault_in_words(error: BaseException) -> str | None:
    """A sentence on an error that a library raised in its own words; None for any other error, as for ours."""
    return _template_fault(error) or (None if isinstance(error, ValueError) else _disk_fault(error))


def _template_fault(error: BaseException) -> str | None:
    """A chat template that is no template, or fails while it renders a row."""
    if not is_of_template(error):
        return None
    where, words = place_in_template(error), words_of_template(error)
    return (
        f"the chat template{where}, fails: {words}. Mend it (`chat_template.jinja` beside the tokenizer), or write "
        "`chat_template_path: file.jinja` to train with another."
    )


def _disk_fault(error: BaseException | None) -> str | None:
    """A file that could not be written, whatever library was writing it."""
    while error is not None:
        text = str(error)
        found = SYSTEM_ERROR.search(text)
        if isinstance(error, OSError) and error.errno in REASONS:
            return f"{os_error_in_words(error)} {KEPT}" if error.errno in DISK_FULL else os_error_in_words(error)
        if found and int(found[1]) in REASONS:
            return f"A file could not be written: {REASONS[int(found[1])]}. {KEPT}"
        if any(name in text for name in TORCH_WRITER):
            return f"A file could not be written, most likely because the disk is full; make room. {KEPT}"
        error = error.__cause__ or error.__context__
    return None
