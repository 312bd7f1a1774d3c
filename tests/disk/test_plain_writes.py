"""The sources write files through `qtarget.disk.files`, and name the encoding of every text file."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*ROOT.glob("src/qtarget/**/*.py"), *ROOT.glob("benchmarks/**/*.py")])
EXCEPTIONS = {
    "src/qtarget/disk/files.py": "the one place that replaces files",
    "src/qtarget/disk/one_writer.py": "a note for people on who holds the lock; nothing depends on it",
    "src/qtarget/evaluate/store.py": "samples are appended a line at a time; a torn last line is cut off",
    "src/qtarget/evaluate/grading/math_worker.py": "a pipe to the parent process",
    "src/qtarget/evaluate/grading/function_worker.py": "a pipe to the parent process",
    "benchmarks/soak.py": "logs that processes append to, in a folder of its own that is removed",
    "src/qtarget/cli/library_noise.py": "a log that libraries append to while a command runs",
    "src/qtarget/study/own_commands.py": "a log that commands append to while they run",
    "benchmarks/reading_rows.py": "rows to be read, in a folder of its own that is removed",
    "benchmarks/timing.py": "a switch of the system under /proc",
}
"""Files that write otherwise, and why."""
WRITERS = {"write_text", "write_bytes"}
NO_FILES = {"webbrowser", "os", "socket", "urllib", "tarfile", "zipfile"}
"""Modules whose `open` opens no text file."""


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def opens(call: ast.Call) -> bool:
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    return name_of(call) in ("open", "fdopen") and (
        name_of(call) == "fdopen" or not (isinstance(owner, ast.Name) and owner.id in NO_FILES)
    )


def mode_of(call: ast.Call) -> str:
    """The mode of an `open`: of `open(file, mode)` or `path.open(mode)`."""
    place = 0 if isinstance(call.func, ast.Attribute) and name_of(call) == "open" else 1
    given = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] + call.args[place : place + 1]
    return ast.literal_eval(given[0]) if given else "r"


def says_encoding(call: ast.Call, place: int) -> bool:
    return len(call.args) > place or any(keyword.arg == "encoding" for keyword in call.keywords)


def plain_writes(tree: ast.AST) -> Iterator[int]:
    """Lines on which a file is written in place."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if name_of(call) in WRITERS or (opens(call) and set(mode_of(call)) & set("wax+")):
            yield call.lineno
        if name_of(call) == "savefig" and not (isinstance(call.args[0], ast.Name) and call.args[0].id == "file"):
            yield call.lineno


def nameless_encodings(tree: ast.AST) -> Iterator[int]:
    """Lines on which text is read or written in the encoding that the system happens to prefer."""
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name, is_text = name_of(call), any(keyword.arg == "text" for keyword in call.keywords)
        places = {"read_text": 0, "write_text": 1}
        if name in places and not says_encoding(call, places[name]):
            yield call.lineno
        if opens(call) and "b" not in mode_of(call) and not says_encoding(call, 2 if mode_of(call) else 3):
            yield call.lineno
        if is_text and name in ("run", "Popen", "check_output") and not says_encoding(call, 99):
            yield call.lineno


@pytest.mark.parametrize("check", [plain_writes, nameless_encodings])
def test_the_sources_write_whole_files_in_a_named_encoding(check):
    bad = []
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        if check is plain_writes and name in EXCEPTIONS:
            continue
        bad += [f"{name}:{line}" for line in check(ast.parse(path.read_text(encoding="utf-8")))]
    assert not bad, "write through qtarget.disk.files, and name the encoding"


def test_every_exception_is_needed():
    for name in EXCEPTIONS:
        assert list(plain_writes(ast.parse((ROOT / name).read_text(encoding="utf-8")))), name


@pytest.mark.parametrize(
    "line",
    [
        "path.write_text(text, encoding='utf-8')",
        "path.write_bytes(content)",
        "open(path, 'w', encoding='utf-8')",
        "open(path, mode='ab')",
        "path.open('wb')",
        "(folder / 'x').open('r+b')",
        "os.fdopen(handle, 'w', encoding='utf-8')",
        "figure.savefig(path)",
    ],
)
def test_a_plain_write_is_seen(line):
    assert list(plain_writes(ast.parse(line))) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "path.read_text()",
        "path.write_text(text)",
        "open(path)",
        "path.open()",
        "path.open('w')",
        "path.open('a')",
        "os.fdopen(handle)",
        "subprocess.run(command, text=True)",
    ],
)
def test_a_nameless_encoding_is_seen(line):
    assert list(nameless_encodings(ast.parse(line))) == [1]


@pytest.mark.parametrize(
    "line",
    [
        "path.read_text('utf-8')",
        "open(path, encoding='ascii')",
        "path.open('rb')",
        "webbrowser.open(url)",
        "os.open(folder, os.O_RDONLY)",
        "figure.savefig(file, format='png')",
    ],
)
def test_what_is_right_passes(line):
    tree = ast.parse(line)
    assert not [*plain_writes(tree), *nameless_encodings(tree)]
