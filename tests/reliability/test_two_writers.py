"""Two processes that write into one folder: the second is told who writes, and what to do; nothing is mixed.

That two processes may write one cache together is in tests/teacher/test_cache_writer.py.
"""

import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from job.stopped import end_of, ended, started
from reliability.commands import COMMANDS, remove_results

from qtarget import lab
from qtarget.disk.one_writer import one_writer
from qtarget.evaluate.run.conduct import conduct_evaluation
from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.run.prepare import prepare_evaluation

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="stops processes"),
    pytest.mark.failure_case(22),
]
FOLDERS = {"train": "out", "teacher cache": "cache", "eval": "eval", "study": "study/models"}
"""What a command writes to first."""
SIBLINGS = {
    "study": (COMMANDS["study"].words, "study/results"),
    "demo": (("demo", "--quick", "--setting", "careless", "--out", "demo"), "demo"),
    "lab build": (("lab", "build", "--out", "lab"), "lab"),
    "recipes run": (
        ("recipes", "run", "numinamath-cot-qwen3-1.7b", "--dry-run", "--out", "all"),
        "all/numinamath-cot-qwen3-1.7b",
    ),
}


class HeldAtFirstFile(NamedTuple):
    """The process stops, as by Ctrl-Z, when the first file is renamed inside a folder."""

    folder: Path

    def install(self) -> None:
        held = []

        def hook(name: str, arguments: tuple) -> None:
            if name == "os.rename" and not held and str(self.folder) in os.path.abspath(arguments[1]):
                held.append(name)
                os.kill(os.getpid(), signal.SIGSTOP)

        sys.addaudithook(hook)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "study"])
def test_the_second_process_is_told_who_writes_and_the_first_goes_on(workplace, name):
    command, elsewhere = COMMANDS[name], workplace / "first"
    elsewhere.mkdir()
    assert ended(command.words, folder=workplace).code == 0
    expected = command.content(workplace)
    remove_results(workplace)
    first = started(command.words, HeldAtFirstFile(workplace / FOLDERS[name]), folder=elsewhere)
    try:
        _, status = os.waitpid(first, os.WUNTRACED)
        assert os.WIFSTOPPED(status), (elsewhere / "stderr.txt").read_text()
        there = sorted((workplace / FOLDERS[name]).rglob("*"))
        second = ended(command.words, folder=workplace)
        assert second.code == 2, second
        assert f"{FOLDERS[name]} is being written by process {first} on " in second.err
        assert "Wait until it has finished, or stop it" in second.err
        assert sorted((workplace / FOLDERS[name]).rglob("*")) == there
    finally:
        os.kill(first, signal.SIGCONT)
    assert end_of(first, elsewhere).code == 0
    assert command.content(workplace) == expected


@pytest.mark.parametrize("name", SIBLINGS)
def test_other_commands_have_one_writer_too(workplace, name):
    words, folder = SIBLINGS[name]
    with one_writer(Path(folder)):
        there = sorted(Path(folder).rglob("*"))
        said = ended(words, folder=workplace)
        assert said.code == 2, said
        assert f"{folder} is being written by process {os.getpid()} on " in " ".join(said.err.split())
        assert sorted(Path(folder).rglob("*")) == there


def test_models_of_two_studies_are_made_by_one_at_a_time(workplace):
    with one_writer(Path("study/models")):
        said = ended(COMMANDS["study"].words, folder=workplace)
    assert said.code == 2, said
    assert "study/models is being written by process" in said.err


def test_an_evaluation_of_another_model_that_ended_in_between_is_not_mixed(tmp_path, monkeypatch):
    """Both are prepared while the folder is empty."""
    monkeypatch.chdir(tmp_path)  # the lock of the tasks is written to the working directory
    world = lab.world("weak-operator")
    protocol = {"k": 1, "max_new_tokens": 2}
    plans = [
        EvaluationPlan(str(model), (task,), tmp_path / "out", protocol, limit=1)
        for model, task in (
            (lab.student_path(world), "lab-weak-operator"),
            (lab.teacher_path(world), "lab-strong-prior"),
        )
    ]
    first, second = map(prepare_evaluation, plans)
    conduct_evaluation(first)
    with pytest.raises(ValueError, match="holds another evaluation"):
        conduct_evaluation(second)
    assert not (tmp_path / "out" / "lab-strong-prior").exists()
