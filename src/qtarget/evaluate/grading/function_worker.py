"""The script of the process that grades by a Python function of a file. It may be killed at any moment.

Run as a script: ``function_worker.py MEMORY SECONDS FILE FUNCTION``. It first says whether the function is there, as
``{"ready": true}`` or ``{"ready": false, "why": …}``. Then a line of JSON on its input, the list of the function's
arguments, is answered by one on its output, ``{"value": …, "reason": …, "extracted": …, "note": …}``.
"""

import importlib.util
import json
import math
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, cast

_OUT_OF_LIMITS = {"value": None, "reason": "timeout"}
_SHOWN = 200
"""Characters of what a function returned, or of its error, that are kept."""


def main(memory_bytes: int, seconds: float, file: str, function: str) -> None:
    """Answer lines of the standard input until it ends, within so much memory and so many seconds a line."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this one
    replies = _take_stdout()
    call, why = _loaded(Path(file), function)
    print(json.dumps({"ready": not why, "why": why}), file=replies, flush=True)
    _limit(memory_bytes)
    for line in sys.stdin:
        _alarm(seconds)
        reply = _reply(call, json.loads(line))
        _alarm(None)
        print(json.dumps(reply), file=replies, flush=True)


def _alarm(seconds: float | None) -> None:
    """End by itself over an answer where the parent, which would kill it, is gone; None where no answer is in hand."""
    if hasattr(signal, "alarm"):
        signal.alarm(0 if seconds is None else math.ceil(seconds) + 5)


def _loaded(file: Path, function: str) -> tuple[Callable[..., Any], str]:
    """The function, and why there is none."""
    sys.dont_write_bytecode = True  # what is written within a second would be taken for what it was
    sys.path.insert(0, str(file.parent))  # what it imports may stand beside it
    try:
        spec = importlib.util.spec_from_file_location("grader_of_a_user", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    except BaseException as error:  # its own code may do anything, sys.exit too
        return _loaded, f"importing it raised {_words(error)}"
    call = getattr(module, function, None)
    if callable(call):
        return call, ""
    own = [value for value in vars(module).values() if getattr(value, "__module__", "") == spec.name]
    names = [value.__name__ for value in own if callable(value)]
    return _loaded, f"it has no function {function!r}; it has: {', '.join(names) or 'none'}"


def _reply(call: Callable[..., Any], arguments: list[Any]) -> dict[str, Any]:
    try:
        return _verdict(call(*arguments))
    except MemoryError:
        return _OUT_OF_LIMITS
    except BaseException as error:  # likewise
        return {"value": None, "reason": "grader_failed", "note": f"it raised {_words(error)}"}


def _verdict(returned: Any) -> dict[str, Any]:
    """The grade that a function's return value says: right, wrong or unknown, alone or with a text."""
    value, text = returned if isinstance(returned, tuple) and len(returned) == 2 else (returned, None)
    text = None if text is None else str(text)[:10_000]
    if value is None:
        return {"value": None, "reason": "grader_failed", "extracted": text, "note": "it returned None: not known"}
    if isinstance(value, str | bytes) or not _is_zero_or_one(value):
        what = f"it returned {repr(returned)[:_SHOWN]}, and True, False or None is expected"
        return {"value": None, "reason": "grader_failed", "note": what}
    return {"value": int(cast(int, value)), "reason": "ok", "extracted": text}


def _is_zero_or_one(value: Any) -> bool:
    """Whether it is True or False, 1 or 0, of Python's or of an array library's."""
    try:
        return bool(value == 0) or bool(value == 1)
    except (TypeError, ValueError):
        return False


def _words(error: BaseException) -> str:
    """An error in one line, with the line of the user's code that raised it."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    words = f"{type(error).__name__}: {' '.join(str(error).split())[:_SHOWN]}{where}"
    return words.encode("utf-8", "backslashreplace").decode("utf-8")


def _take_stdout() -> TextIO:
    """The output, for replies alone: what a function prints goes nowhere."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return replies


def _limit(memory_bytes: int) -> None:
    """Let it have so much address space beside what it has after its imports, where the system can limit it."""
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as status:
            has = int(status.read().split()[0]) * resource.getpagesize()
    except (ImportError, OSError):  # Windows and macOS
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    allowed = memory_bytes + has if most == resource.RLIM_INFINITY else min(memory_bytes + has, most)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, most))


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3], sys.argv[4])
