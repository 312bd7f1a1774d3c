"""A folder that is removed and made anew while a command writes into it: what is there by then is another's, and stays.

That of training is in tests/job/test_resuming.py.
"""

import shutil
from contextlib import contextmanager
from dataclasses import replace

import pytest
from rich.progress import Progress
from teacher import caches

from qtarget import lab
from qtarget.disk.files import replace_text
from qtarget.disk.held_folders import LOCK, SecondWriterError
from qtarget.disk.one_writer import one_writer
from qtarget.disk.seal import seal
from qtarget.evaluate.run.conduct import run_evaluation
from qtarget.evaluate.run.plan import EvaluationPlan
from qtarget.evaluate.run.progress import SilentWatch
from qtarget.study.tuned.outcome import DrawnAnswers, StudyOutcome, StudyRun, keep_outcome
from qtarget.study.tuned.tuned_arms import GREEDY
from qtarget.teacher.cache import write_cache

pytestmark = pytest.mark.failure_case(22)


class Another:
    """A second writer, which locks the folder that it made in the place of the first one's."""

    def __init__(self, folder):
        self.folder, self.there = folder, []

    def take(self):
        if not self.there:
            shutil.rmtree(self.folder)
            self.folder.mkdir()
            (self.folder / LOCK).write_text("")
            (self.folder / "mine.txt").write_text("mine")
            self.there = self.files()

    def files(self):
        return sorted(self.folder.rglob("*"))


@contextmanager
def replaced(folder):
    """A second writer that takes a folder in the block, which is told so and adds nothing."""
    another = Another(folder)
    with pytest.raises(SecondWriterError, match=f"{folder.name} was removed or replaced while this process was"):
        yield another
    assert another.there
    assert another.files() == another.there


def test_whatever_is_replaced_or_sealed_in_it(tmp_path):
    folder = tmp_path / "out"
    for write in (lambda: replace_text(folder / "a" / "b.txt", "x"), lambda: seal(folder, {})):
        with replaced(folder) as another, one_writer(folder):
            another.take()
            (folder / "manifest.json").write_text("another's")
            another.there = another.files()
            write()
    replace_text(folder / "c.txt", "x")  # nobody holds it now


def test_by_a_cache(tmp_path):
    planned = caches.plan()

    def answer(documents):
        another.take()
        return caches.answer(planned)(documents)

    with replaced(tmp_path / "cache") as another:
        write_cache(tmp_path / "cache", planned, answer)


class Taking(SilentWatch):
    def __init__(self, another):
        self.another = another

    def advance(self, tokens=0):
        self.another.take()


def test_by_an_evaluation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    world = lab.world("weak-operator")
    model, protocol = str(lab.student_path(world)), {"k": 2, "max_new_tokens": 1}
    plan = EvaluationPlan(model, ("lab-weak-operator",), tmp_path / "eval", protocol, limit=2)
    with replaced(tmp_path / "eval") as another:
        run_evaluation(plan, Taking(another))


class TakingProgress(Progress):
    another = None

    def update(self, *args, **kwargs):
        self.another.take()
        super().update(*args, **kwargs)


def test_by_a_build_of_the_labs_models(tmp_path):
    world = lab.world("strong-prior")
    student = replace(world.student, width=16, layers=1, heads=2, feed_forward=16, school_steps=1, steps=1)
    with replaced(tmp_path / "lab") as another:
        progress = TakingProgress(disable=True)
        progress.another = another
        lab.build(replace(world, student=student, teacher=student), 5, tmp_path / "lab", progress)


def test_by_a_study(tmp_path):
    run = StudyRun("a-place", "sft", {}, 1.0, 1, 0, "test", 0, (GREEDY,))
    with replaced(tmp_path / "results") as another, one_writer(tmp_path / "results"):
        another.take()
        answers = {GREEDY.label: DrawnAnswers([1], 1, 0.0, 1.0)}
        keep_outcome(StudyOutcome(run, answers, {}, [], 1.0, {}), tmp_path / "results")
