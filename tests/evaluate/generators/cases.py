"""Requests to the lab's student."""

from dataclasses import replace

from qtarget import lab
from qtarget.evaluate.nouns import Request, TaskFacts, TaskRun
from qtarget.evaluate.run.draw import requests_of
from qtarget.evaluate.tasks import task

WORLD = lab.world("weak-operator")
STUDENT, TEACHER = lab.student_path(WORLD), lab.teacher_path(WORLD)


def asked(questions: int = 6, **ask) -> TaskRun:
    own = task("lab-weak-operator")
    found = own.read(own.source.make()).questions[:questions]
    return TaskRun(TaskFacts.of(own), replace(own.ask, **{"k": 4, **ask}), tuple(found), "made here")


def requests(one: TaskRun) -> list[Request]:
    tokenizer = lab.tokenizer(WORLD)
    return requests_of(one, [tuple(tokenizer(question.text)["input_ids"]) for question in one.questions])
