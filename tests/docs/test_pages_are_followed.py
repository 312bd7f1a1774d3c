"""The pages that say how to add something, followed to the letter in a copy of the project."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from docs.page_edits import ROOT, edited, edits_of, project_with


def run(folder: Path, *words: str) -> str:
    """A command in a copy of the project, which must succeed; what it printed."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder / "src" if (folder / "src").exists() else ROOT / "src"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    return done.stdout


def python(folder: Path, *words: str) -> str:
    return run(folder, sys.executable, *words)


def pytest_line_of(page: str) -> list[str]:
    """The words behind `python -m pytest` that the page tells to run."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    return shlex.split(re.search(r"python -m pytest (.+)", text)[1])


WRITE = """
import json, sys
from qtarget.cli.main import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
    except SystemExit as ended:
        assert not ended.code, words
"""


def write_pages(folder: Path, *pages: str) -> dict[str, str]:
    """What `make docs` does for some pages, and for the list of public names; the pages as they stand then."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    line = r"^docs:.*\n(?:\t.*\n)*?\t\$\(BIN\)/qtarget (.+ {})$"
    commands = [re.search(line.format(page), makefile, re.MULTILINE)[1].split() for page in pages]
    python(folder, "-c", WRITE, json.dumps(commands))
    python(folder, "tests/house/public.py")
    return {page: (folder / page).read_text(encoding="utf-8") for page in (*pages, "docs/public-api.txt")}


def check_style(folder: Path) -> None:
    for step in ("check --select I --fix", "format", "check"):
        python(folder, "-m", "ruff", *step.split(), "--no-cache", "src", "tests")


def test_a_method_a_statistic_a_task_and_a_format_are_added(tmp_path):
    """All into one copy of the project, as each process that looks at it takes seconds to import it."""
    method = edits_of("docs/maintainers/add-a-method.md")
    statistic = edits_of("docs/maintainers/extend.md", "A statistic")
    task = edits_of("docs/maintainers/extend.md", "An evaluation task")
    format_ = edits_of("docs/maintainers/extend.md", "A format of rows")
    assert [Path(edit.path).name for edit in method] == ["trust.py", "methods_beyond.py", "papers_beyond.py"]
    assert [edit.is_new for edit in statistic] == [False, True]
    assert len(format_) == 1
    folder = project_with([*method, *statistic, *task, *format_], tmp_path)
    pages = write_pages(folder, "docs/methods.md", "docs/which-target.md", "README.md", "docs/tasks.md")
    check_pages(pages)
    python(folder, statistic[1].path)
    check_tests(folder)
    check_style(folder)


def check_pages(pages: dict[str, str]) -> None:
    assert "| `tailr` | p_y/(ε + (1−ε) p_y) | p |" in pages["docs/methods.md"]
    assert "| `tailr` | As dft, where you can say which" in pages["docs/which-target.md"]
    assert "-->28<!-- end --> further" in pages["README.md"]
    assert "tailr(noise_share in (0, 1] = 0.1)" in pages["docs/public-api.txt"]
    assert "REFERENCE_ENTROPY" in pages["docs/public-api.txt"]
    assert "| `svamp` | 300 | ChilleD/SVAMP, test |" in pages["docs/tasks.md"]


def check_tests(folder: Path) -> None:
    """Those that the pages tell to run."""
    pytest_ = ("-m", "pytest", "-p", "no:cacheprovider")
    printed = python(folder, *pytest_, "-q", *pytest_line_of("docs/maintainers/add-a-method.md"))
    assert int(re.search(r"(\d+) passed", printed)[1]) > 40
    tests = ("tests/evaluate/tasks/test_catalogue.py", "tests/job/rows/test_formats.py")
    printed = python(folder, *pytest_, "-v", *tests, "-k", "test_catalogue or ndjson")
    for passed in ("[a.ndjson] PASSED", "[a.ndjson.gz] PASSED", "[svamp] PASSED"):
        assert passed in printed


def test_a_teacher_of_ones_own_edits_nothing(tmp_path):
    edits = edits_of("docs/maintainers/extend.md", "A teacher that is no model")
    assert all(edit.is_new for edit in edits)
    for edit in edits:
        (tmp_path / edit.path).write_text(edit.text, encoding="utf-8")
    printed = python(tmp_path, "train_with_bigrams.py")
    assert re.search(r"'target_kl': '?\d", printed)


def test_a_block_goes_where_its_statements_belong():
    text = "import a\n\nONE = {1: 2}\n\n\ndef last(): ...\n"
    block = "import b\n\n\ndef new(): ...\n\n\nONE = {\n    # ...\n    3: new,\n}\n"
    expected = (
        "import a\nimport b\n\ndef new(): ...\n\n\nONE = {1: 2,\n    # ...\n    3: new,\n}\n\n\ndef last(): ...\n"
    )
    assert edited(text, block) == expected
    assert edited(text, "TWO = {}\n") == text.rstrip() + "\n\n\nTWO = {}\n"


def test_a_file_that_is_not_there_is_not_edited(tmp_path):
    edit = edits_of("docs/maintainers/add-a-method.md")[0]._replace(path="src/qtarget/target/thrust.py")
    with pytest.raises(AssertionError, match="the page says otherwise"):
        project_with([edit], tmp_path)
