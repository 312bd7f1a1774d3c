"""The pages that say how to add something, followed to the letter in a copy of the project."""

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


def write_page(folder: Path, page: str) -> str:
    """What `make docs` does for one page; the page as it stands then."""
    if page == "docs/public-api.txt":
        python(folder, "tests/house/public.py")
    else:
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        words = re.search(rf"^docs:.*\n(?:\t.*\n)*?\t\$\(BIN\)/qtarget (.+ {page})$", makefile, re.MULTILINE)[1]
        python(folder, "-m", "qtarget", *words.split())
    return (folder / page).read_text(encoding="utf-8")


def check_style(folder: Path) -> None:
    for step in ("check --select I --fix", "format", "check"):
        python(folder, "-m", "ruff", *step.split(), "--no-cache", "src", "tests")


def test_a_method_is_three_edits(tmp_path):
    edits = edits_of("docs/maintainers/add-a-method.md")
    assert [Path(edit.path).name for edit in edits] == ["trust.py", "methods_beyond.py", "papers_beyond.py"]
    folder = project_with(edits, tmp_path)
    assert "| `tailr` | p_y/(ε + (1−ε) p_y) | p |" in write_page(folder, "docs/methods.md")
    assert "| `tailr` | As dft, where you can say which" in write_page(folder, "docs/which-target.md")
    assert "-->26<!-- end --> further" in write_page(folder, "README.md")
    assert "tailr(noise_share in (0, 1] = 0.1)" in write_page(folder, "docs/public-api.txt")
    printed = python(
        folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *pytest_line_of("docs/maintainers/add-a-method.md")
    )
    assert int(re.search(r"(\d+) passed", printed)[1]) > 40
    check_style(folder)


def test_a_statistic_is_one_expression(tmp_path):
    edits = edits_of("docs/maintainers/extend.md", "A statistic")
    assert [edit.is_new for edit in edits] == [False, True]
    folder = project_with(edits, tmp_path)
    assert "REFERENCE_ENTROPY" in write_page(folder, "docs/public-api.txt")
    python(folder, edits[1].path)
    check_style(folder)


def test_a_task_is_a_reader_a_row_and_samples(tmp_path):
    folder = project_with(edits_of("docs/maintainers/extend.md", "An evaluation task"), tmp_path)
    assert "| `svamp` | 300 | ChilleD/SVAMP, test |" in write_page(folder, "docs/tasks.md")
    python(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/evaluate/tasks/test_catalogue.py")
    check_style(folder)


def test_a_format_of_rows_is_one_line(tmp_path):
    folder = project_with(edits_of("docs/maintainers/extend.md", "A format of rows"), tmp_path)
    printed = python(folder, "-m", "pytest", "-v", "-p", "no:cacheprovider", "tests/job/rows/test_formats.py")
    assert "[a.ndjson] PASSED" in printed
    assert "[a.ndjson.gz] PASSED" in printed
    check_style(folder)


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
