"""What reaches a terminal: no commands from elsewhere, in any encoding, cut off nowhere."""

import ast
import io
import json
import os
import re
import socket
import subprocess
import sys

import pytest
from house.package import modules
from job.command import run as command
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from qtarget.cli import terminal
from qtarget.console import COMMANDING, PLAIN, SafeConsole, printable, visible
from qtarget.job.method_pages import entries

HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\r\u202e\u2028\x7f\udcff[red]:smile:"
SHOWN = "\\x1b[2J\\x1b]0;title\\x07\\x9b31m\\r\\u202e\\u2028\\x7f\\udcff[red]:smile:"
ENCODINGS = ("ascii", "latin-1", "cp1252")


def test_what_commands_a_terminal_is_spelled_out():
    assert visible(HOSTILE) == SHOWN
    assert visible("γ·d\n\tπ̃ 日本語 é") == "γ·d\n\tπ̃ 日本語 é"


def test_a_text_in_an_error_is_one_line_and_short():
    assert printable(HOSTILE) == SHOWN
    assert printable("γ·d\n\tπ̃ 日本語 é") == "γ·d\\n\\tπ̃ 日本語 é"
    assert printable("x" * 61) == "x" * 60 + "…"
    assert printable("\n\n\n", most=1) == "\\n…"


@pytest.mark.failure_case(18)
@pytest.mark.parametrize("form", [str, Text, lambda text: _table(text)])
def test_no_form_of_text_commands_a_terminal_of_ours(form):
    """A terminal to the last: colours of our own come through, and those of the text do not."""
    file = io.StringIO()
    SafeConsole(file=file, force_terminal=True, width=200).print(form(HOSTILE), style="red")
    said = file.getvalue()
    ours = re.sub(r"\x1b\[[\d;]*m", "", said)
    assert not COMMANDING.search(ours)
    assert "\\x1b[2J" in ours
    assert "[red]:smile:" in ours
    assert "\x1b[31m" in said or "\x1b[" in said


def _table(text: str) -> Table:
    table = Table(text)
    table.add_row(text)
    return table


def test_progress_still_moves_the_cursor():
    file = io.StringIO()
    with Progress(console=SafeConsole(file=file, force_terminal=True)) as progress:
        progress.add_task("work", total=2, completed=1)
    assert "\x1b[" in file.getvalue()
    assert "\\x1b" not in file.getvalue()


def test_every_console_of_ours_is_a_safe_one():
    """rich's own is named for its type alone, and `print` is left to JSON and to tracebacks."""
    made, printed = [], []
    for name, tree in modules().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                made += [name] if node.func.id == "Console" else []
                printed += [name] if node.func.id == "print" else []
    assert made == []
    workers = {f"qtarget.evaluate.grading.{name}_worker" for name in ("math", "function")}
    assert set(printed) == {"qtarget.cli.terminal", "qtarget.cli.main"} | workers


READERS = (
    "qtarget.evaluate.grading",
    "qtarget.data",
    "qtarget.models.gguf_tokenizer",
    "qtarget.job.inspection.token_kinds",
)


def test_every_character_of_ours_has_plain_words():
    """But private marks, what graders and the kinds of tokens read, and texts that a tokenizer is tried with."""
    strings = [
        node.value
        for name, tree in modules().items()
        if not name.startswith(READERS)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert {c for text in strings for c in text if ord(c) > 127 and not COMMANDING.match(c)} - set(PLAIN) == set()
    assert all(word.isascii() for word in PLAIN.values())


@pytest.mark.failure_case(26)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "words",
    [
        ("methods",), ("methods", "target-sft"), ("tasks",), ("recipes", "list"), ("methods", "--json"),
        ("train", "--help"),
        ("recipes", "show", "openr1-15k-qwen3-1.7b"), ("methods", "γ\udcff"), ("--version",),
    ],
)  # fmt: skip
def test_an_output_of_any_encoding_takes_every_command(monkeypatch, encoding, words):
    code, out, err = in_encoding(monkeypatch, encoding, *words)
    assert code == (2 if "γ\udcff" in words else 0), err
    assert b"\xce\xb3" not in out + err  # no UTF-8 where it was not asked for
    if words == ("methods", "target-sft"):
        assert b"trust gamma" in out
        assert "·".encode(encoding, "ignore") + b"t^eta" in out or b"*t^eta" in out
    if "--json" in words:
        assert [one["name"] for one in json.loads(out.decode(encoding))][:2] == ["sft", "dft"]
    if code:
        assert rb"\udcff" in err


def in_encoding(monkeypatch, encoding: str, *words: str) -> tuple[int, bytes, bytes]:
    """A command in this process, whose streams have an encoding, as PYTHONIOENCODING gives it to them."""
    from qtarget.cli.main import main

    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr(sys, "stdout", streams[0])
    monkeypatch.setattr(sys, "stderr", streams[1])
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    for stream in streams:
        stream.flush()
    out, err = (stream.buffer.getvalue() for stream in streams)  # type: ignore[attr-defined]
    return int(stopped.value.code or 0), out, err


@pytest.mark.failure_case(26)
@pytest.mark.parametrize("environment", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_a_process_of_the_c_locale(environment):
    said = subprocess.run(
        [sys.executable, "-m", "qtarget", "methods"],
        capture_output=True,
        timeout=300,
        env={**os.environ, **environment},
    )
    assert said.returncode == 0, said.stderr
    assert b"gamma" in said.stdout


def test_a_reader_that_goes_away_is_no_crash():
    read, write = os.pipe()
    os.close(read)
    said = subprocess.run(
        [sys.executable, "-m", "qtarget", "--version"], stdout=write, stderr=subprocess.PIPE, timeout=300
    )
    os.close(write)
    assert b"Traceback" not in said.stderr, said.stderr
    assert b"Exception ignored" not in said.stderr


def test_json_for_programs_commands_no_terminal(capsys):
    terminal.print_json({"name": HOSTILE})
    said = capsys.readouterr().out
    assert not COMMANDING.search(said)
    assert json.loads(said) == {"name": HOSTILE}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_catalogue_is_whole_at_any_width(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    said = command(capsys, "methods").out
    assert "…" not in said
    letters = sorted(re.sub(r"\s", "", said))
    for entry in entries():
        for fact in (entry.name, *entry.needs, *entry.source.replace(",", " ").split()):
            assert fact in said
    for text in (fact for entry in entries() for fact in (entry.trust, entry.residual)):
        for letter in set(text) - {" "}:
            assert letter in letters


@pytest.mark.parametrize("width", [40, 60, 77, 78, 80])
def test_the_recipes_are_whole_at_any_width(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    said = command(capsys, "recipes", "list").out
    assert "…" not in said
    assert "numinamath-cot-qwen2.5-math-1.5b" in said
    assert "14.26=" in said


def test_the_version_names_the_libraries(capsys):
    said = command(capsys, "--version")
    assert said.code == 0
    for package in ("qtarget", "torch", "transformers", "trl"):
        assert re.search(rf"^{package} \d", said.out, re.MULTILINE)


def test_completion_is_typers(capsys, monkeypatch):
    assert "--install-completion" in command(capsys, "--help").out
    monkeypatch.setenv("_QTARGET_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "qtarget te")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert command(capsys).out.split() == ["teacher"]


def test_a_traceback_commands_no_terminal(capsys):
    from qtarget.cli.main import main

    with pytest.raises(SystemExit):
        main(["--version"])
    capsys.readouterr()
    sys.excepthook(ValueError, ValueError("\x1b[2J"), None)
    assert capsys.readouterr().err == "ValueError: \\x1b[2J\n"
    sys.excepthook = sys.__excepthook__


FAULT = "import qtarget.cli.main as cli; cli.app = lambda *words, **more: 1 / 0; cli.main(['methods'])"
LAST_WORDS = {
    "a fault": (FAULT, r"rank 0: Traceback (?s:.)+\nZeroDivisionError: division by zero\n"),
    "no command line": (
        "import sys; sys.modules['typer'] = None; import qtarget.cli.main",
        r"qtarget's command line needs typer; write: pip install 'qtarget\[train\]'\n",
    ),
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="a socket that keeps writes apart")
@pytest.mark.parametrize("case", LAST_WORDS)
def test_last_words_are_one_write_as_several_ranks_write_at_once(case):
    code, expected = LAST_WORDS[case]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    environment = {**os.environ, "WORLD_SIZE": "2", "RANK": "0", "PYTHONUNBUFFERED": "1"}
    with ours, theirs:
        said = subprocess.run([sys.executable, "-c", code], stderr=theirs.fileno(), timeout=300, env=environment)
        theirs.close()
        writes = [each.decode() for each in iter(lambda: ours.recv(1 << 16), b"")]
    assert said.returncode == 1
    assert len(writes) == 1, writes
    assert re.fullmatch(expected, writes[0]), writes
