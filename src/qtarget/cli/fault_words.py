"""Errors of libraries that a user can cause, in words: a chat template that fails, a disk that is full, a
number that is too large."""

from qtarget.disk.os_errors import FullDiskError, write_fault
from qtarget.models.template_errors import is_of_template, place_in_template, words_of_template

OVERFLOW = "cannot be converted to type"
"""What torch says of a number that a type of weights cannot hold."""
KEPT = "What was whole before stays, and the same command goes on from it (training: with `--resume-from-checkpoint`)."


def fault_in_words(error: BaseException) -> str | None:
    """A sentence on an error that a library raised in its own words; None for any other error, as for ours."""
    return _template_fault(error) or _overflow(error) or (None if isinstance(error, ValueError) else _disk_fault(error))


def _overflow(error: BaseException) -> str | None:
    """A number that is too large for torch's arithmetic, a product of two that are not too large by themselves."""
    if not isinstance(error, RuntimeError) or OVERFLOW not in str(error):
        return None
    return (
        "a number of this configuration, or a product of two, is too large for the weights' arithmetic; lower "
        f"`learning_rate`, or `weight_decay`, as in `learning_rate: 2e-05`. {KEPT}"
    )


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
