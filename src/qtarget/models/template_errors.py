"""Errors that come from a chat template, which is a program of somebody else's: where in it, and in words."""

import traceback

TEMPLATE_FILES = ("<template>", "<unknown>")
"""What jinja2 calls a template's code in a traceback."""


def is_of_jinja(error: BaseException) -> bool:
    """Whether jinja2 raised the error, or the template by its `raise_exception`."""
    return type(error).__module__.startswith("jinja2")


def is_no_template(error: BaseException) -> bool:
    """Whether the template cannot be read at all, so that no row is at fault."""
    return any(kind.__name__ == "TemplateSyntaxError" for kind in type(error).__mro__)


def is_of_template(error: BaseException) -> bool:
    """Whether an error arose in a chat template, as it was read or as it rendered a row."""
    return is_of_jinja(error) or bool(_template_lines(error))


def place_in_template(error: BaseException) -> str:
    """Where in a chat template an error arose: ", line 2"; "" where that is not known."""
    said = getattr(error, "lineno", None) if is_of_jinja(error) else None
    line = said or next(iter(_template_lines(error)[-1:]), None)
    return "" if line is None else f", line {line}"


def words_of_template(error: BaseException) -> str:
    """The template's own words; of an error of Python's also its kind: "ZeroDivisionError: division by zero"."""
    if is_of_jinja(error):
        return str(error) or type(error).__name__
    return f"{type(error).__name__}: {error}"


def _template_lines(error: BaseException) -> list[int | None]:
    """The lines of the template that led to the error, the outermost first."""
    return [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename in TEMPLATE_FILES]
