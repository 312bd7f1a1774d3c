"""The pages for those who come from other trainers: their words stand beside ours as our own reader says it.

And every configuration of a page is one that the reader takes.
"""

import inspect
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import qtarget as qt
from qtarget.data.user_files.yaml_file import YamlFile
from qtarget.job.config.flags import RunArguments
from qtarget.job.config.keys import TRL_NAMES, all_keys
from qtarget.job.config.other_words import UNNEEDED, other_words_line
from qtarget.job.config.read_job import check_job
from qtarget.job.config.user_input import user_input

ROOT = Path(__file__).parents[2]
MOVING = ("docs/from-trl.md", "docs/from-axolotl.md", "docs/from-llama-factory.md", "docs/from-trl-gkd.md")
ROW = re.compile(r"^\| `([^`]+)` \| ([^|]+) \|[^|]*\|$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
BLOCK = re.compile(r"^```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)


class Pair(NamedTuple):
    """A line of a table: another trainer's key and value, and what is written here."""

    key: str
    value: object
    ours: str

    def keys(self) -> set[str]:
        """The keys of ours that the line names."""
        return keys_in(self.ours)


def keys_in(text: str) -> set[str]:
    """The keys of the lines that a text quotes."""
    lines = [yaml.safe_load(code) for code in CODE.findall(text) if ": " in code]
    return {key for line in lines for key in line}


def pairs(page: str) -> list[Pair]:
    found = ROW.findall((ROOT / page).read_text(encoding="utf-8"))
    return [Pair(*next(iter(yaml.safe_load(theirs).items())), ours) for theirs, ours in found if ": " in theirs]


HYPERPARAMETERS = {name for build in qt.METHODS.values() for name in inspect.signature(build).parameters}
EVERY = [(page, pair) for page in MOVING for pair in pairs(page)]


def test_there_are_tables():
    assert [len(pairs(page)) > 8 for page in MOVING] == [True] * 4


@pytest.mark.parametrize(("page", "pair"), EVERY, ids=lambda each: each.key if isinstance(each, Pair) else "")
def test_a_line_says_what_the_reader_says(page: str, pair: Pair):
    known = {*all_keys(), *TRL_NAMES, *HYPERPARAMETERS}
    assert pair.keys() <= known
    said = other_words_line(pair.key, pair.value)
    if said is not None and pair.keys():
        assert keys_in(said) in (pair.keys(), set())
    elif said is not None:
        assert pair.key in UNNEEDED, f"{page} leaves out what the reader has a line for: {said}"
    elif pair.key not in known:
        assert pair.key in NOT_KNOWN, f"the reader does not know {pair.key}, nor does this test"


NOT_KNOWN = {
    "saves_per_epoch": "counts where we have steps",
    "finetuning_type": "of its values `full` is the default here",
    "evals_per_epoch": "counts where we have steps",
}
"""Others' words on the pages for which the reader has no line, and why."""


def test_no_exception_is_left_over():
    assert {pair.key for _, pair in EVERY} >= set(NOT_KNOWN)
    assert [key for key in NOT_KNOWN if other_words_line(key, 1)] == []


def configurations() -> list[tuple[str, int, dict]]:
    """Every block of YAML of the pages that is a whole configuration."""
    pages = ["README.md", *sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "docs").rglob("*.md"))]
    found = []
    for page in pages:
        blocks = BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))
        loaded = [yaml.safe_load(block) for block in blocks if re.search(r"^model: ", block, re.MULTILINE)]
        found += [(page, number, keys) for number, keys in enumerate(loaded) if "train_dataset" in keys]
    return found


@pytest.mark.parametrize(("page", "number", "keys"), configurations(), ids=lambda each: str(each)[:30])
def test_configurations_of_pages_are_taken(page: str, number: int, keys: dict, tmp_path: Path, monkeypatch):
    """Keys, values and methods, as `qtarget train` checks them before it opens a file."""
    monkeypatch.chdir(tmp_path)
    for name in ("rows.jsonl", "held_out.jsonl", "data/my_rows.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"prompt": "1+1=", "completion": "2"}\n', encoding="utf-8")
    stands_in = {"output_dir": "out"} if "output_dir" not in keys else {}
    check_job(user_input(YamlFile({**keys, **stands_in}, {}), RunArguments(None, {})))


def test_there_are_configurations():
    assert {page for page, _, _ in configurations()} >= {*MOVING, "docs/command-line.md", "docs/gpus.md"}
