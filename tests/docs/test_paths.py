"""Every file and folder that a page names is there."""

import re
from functools import cache
from pathlib import Path

import pytest
from docs.page_edits import edits_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FOLDERS = (".ci", ".github", "benchmarks", "docs", "examples", "src", "tests")

CODE = re.compile(r"^```.*?^```|`([^`\n]+)`", re.DOTALL | re.MULTILINE)
PATH = re.compile(
    r"(?<![\w./:-])(?:[\w.-]+/)*[\w.-]+(?:\.(?:py|ya?ml|jsonl?|txt|md|toml|png|safetensors)(?![\w.-])|/(?=\s|$))"
)

USERS = {
    "FILE.jsonl": "stands for any file of rows",
    "config.yaml": "what `qtarget train` is given",
    "comparison.json": "what `qtarget compare` writes",
    "comparison.png": "what `qtarget compare` writes",
    "comparison.txt": "what `qtarget compare` writes",
    "a.jsonl": "stands for a file of rows",
    "b.jsonl": "stands for a file of rows",
    "rows.jsonl": "stands for a file of rows",
    "data/my_rows.json": "stands for a file of rows",
    "dataset_info.json": "LLaMA-Factory's list of data sets",
    "capitals.yaml": "stands for a task of one's own",
    "hand.jsonl": "stands for answers graded by hand",
    "mine.jsonl": "stands for questions of one's own",
    "qtarget-schema.json": "what `qtarget init` writes, for editors",
    "held_out.jsonl": "stands for a file of rows",
    "training.png": "what `qtarget train` writes",
    "qtarget-tasks.lock.json": "what the first `qtarget eval` of a task writes",
    "results.json": "what a run writes",
    "task.json": "what an evaluation writes",
    "run.json": "what `qtarget eval` writes",
    "effects.json": "what `qtarget eval` writes",
    "metrics.json": "what `qtarget train` writes",
    "manifest.json": "what seals a checkpoint and a result",
    "trainer_state.json": "what transformers writes in a checkpoint",
    "state.json": "what `datasets` writes beside a set that it saved",
    "dataset_dict.json": "what `datasets` writes beside splits that it saved",
    "train-0.jsonl": "stands for a file of a data set's split",
    "tasks/TASK.jsonl": "what `qtarget eval` writes, one file a task",
    "inspect.json": "what `qtarget inspect` writes",
    "runs/inspect/": "where `qtarget inspect` writes",
    "dev.jsonl": "stands for development questions of one's own",
    "space.yaml": "stands for a space of one's own, and what `qtarget search` writes",
    "table.md": "what `qtarget search` writes",
    "race.png": "likewise",
    "search.json": "likewise",
    "best.yaml": "likewise",
    "runs/search/best.yaml": "likewise",
    "confirmation/": "likewise",
    "caches/": "likewise",
    "questions/": "likewise",
    "rounds.json": "what `qtarget train` with `rounds` writes",
    "train.yaml": "what `qtarget train` writes, and a round's configuration",
    "log.txt": "what the commands of a round print",
}
"""Names of files that a user has or a command writes, and which."""


@cache
def inside() -> frozenset[str]:
    """Every file and folder of the repository, each with a slash before it and folders with one behind."""
    below = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    every = [*below, *(ROOT / folder for folder in FOLDERS), *(path for path in ROOT.iterdir() if path.is_file())]
    return frozenset(f"/{path.relative_to(ROOT).as_posix()}{'/' if path.is_dir() else ''}" for path in every)


def paths_in(text: str) -> set[str]:
    """What looks like a path between backticks, code blocks left out."""
    return {path for code in CODE.findall(text) for path in PATH.findall(code)}


def is_there(path: str) -> bool:
    """Whether some file or folder ends like that: `trust.py` and `train/trainer.py` are found in their rooms."""
    return any(name.endswith(f"/{path}") for name in inside())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_of_pages_are_there(page: Path):
    """Or the page itself has the reader make it."""
    named = paths_in(page.read_text(encoding="utf-8"))
    made = {edit.path for edit in edits_of(page.relative_to(ROOT).as_posix()) if edit.is_new}
    assert {path for path in named if not is_there(path)} - set(USERS) - made == set()


def test_users_files_are_still_named():
    named = {path for page in PAGES for path in paths_in(page.read_text(encoding="utf-8"))}
    assert set(USERS) <= named


@pytest.mark.parametrize("gone", ["`variants.py`", "rules (`report/`, numbers)", "`evaluate/sampling.py` draws"])
def test_a_path_that_is_gone_is_seen(gone: str):
    assert not all(map(is_there, paths_in(gone)))
    assert paths_in(gone)
