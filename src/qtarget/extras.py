"""The optional libraries: which of them a part of qtarget misses, in one sentence, whichever is looked for first."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec


@contextmanager
def needs_extra(part: str, extra: str = "train") -> Iterator[None]:
    """A context for the imports of a part of qtarget that needs more than torch.

    Args:
        part: what the user imports or calls, such as "qtarget.train".
        extra: the extra in pyproject.toml that brings the libraries.

    Raises:
        ImportError: in the place of an error about a library that is not there; it names the library and the pip line.
    """
    try:
        yield
    except (ImportError, RuntimeError) as error:
        library = missing_library(error)
        if library is None:
            raise
        raise ImportError(
            f"{part} needs {library}, which is not installed. Write: pip install 'qtarget[{extra}]'", name=library
        ) from error


def missing_library(error: BaseException) -> str | None:
    """The library that is not installed, if that is what an error of an import comes from; else None.

    TRL and transformers wrap such an error in others, so its causes are searched.
    """
    cause: BaseException | None = error
    while cause is not None:
        library = (getattr(cause, "name", None) or "").partition(".")[0] if isinstance(cause, ImportError) else ""
        if library and find_spec(library) is None:
            return library
        cause = cause.__cause__ or cause.__context__
    return None
