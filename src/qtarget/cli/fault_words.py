"""Errors of libraries that a user can cause, in words: a chat template that fails, a disk that is full."""

from qtarget.disk.os_errors import FullDiskError, write_fault
from qtarget.models.template_errors import is_of_template, place_in_template, words_of_template

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


def _disk_fault(error: BaseException) -> str | None:
    if isinstance(error, FullDiskError):
        return str(error)
    fault = write_fault(error)
    if fault is None:
        return None
    return f"{fault.words} {KEPT}" if fault.is_full else fault.words
