"""Own questions as the words of a command line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qtarget.data.user_files.paths import existing_file
from qtarget.data.user_files.yaml_file import parse_scalar
from qtarget.evaluate.nouns import Task
from qtarget.evaluate.tasks.own_task import own_task


@dataclass(frozen=True)
class OwnWords:
    """What a command line says of own questions; None for what it does not say.

    Attributes:
        questions: ``FILE`` or ``NAME=FILE`` each.
        grade: a grader's name, ``regex:PATTERN`` or ``python:FILE:FUNCTION``.
        grade_option: ``KEY=VALUE`` each, settings of the grader.
        fields: ``question=FIELD,answer=FIELD,…``.
        judge_url, judge_model, judge_prompt, hand_grades: the same settings of the judge, by names of their own.
    """

    questions: Sequence[str] | None = None
    grade: str | None = None
    grade_option: Sequence[str] | None = None
    fields: Sequence[str] | None = None
    judge_url: str | None = None
    judge_model: str | None = None
    judge_prompt: Path | None = None
    hand_grades: Path | None = None

    def settings(self) -> dict[str, Any]:
        """The settings of the grader."""
        given = {
            key: parse_scalar(value) for key, value in _pairs(self.grade_option, "--grade-option", "tolerance=0.01")
        }
        prompt = None if self.judge_prompt is None else _text(self.judge_prompt)
        hand = None if self.hand_grades is None else str(self.hand_grades.absolute())
        judge = {"url": self.judge_url, "model": self.judge_model, "prompt": prompt, "hand_grades": hand}
        return {**given, **{key: value for key, value in judge.items() if value is not None}}


def own_tasks_asked(words: OwnWords) -> list[Task]:
    """The tasks that the words ask for; none without questions.

    Raises:
        ValueError: questions without a grader, or a grader without questions.
    """
    settings, fields = words.settings(), dict(_fields(words.fields or ()))
    if not words.questions:
        parts = {"--grade": words.grade, "--fields": fields, "a setting of a grader or judge": settings}
        given = [option for option, value in parts.items() if value]
        if given:
            raise ValueError(
                f"{' and '.join(given)}: these are of --questions FILE; a task of --task has its own grader."
            )
        return []
    if words.grade is None:
        raise ValueError(
            "--questions needs --grade, which says when an answer is right: exact, contains, regex, number, choice, "
            "math, judge, or python:FILE:FUNCTION."
        )
    if words.grade == "judge" and not (words.judge_url and words.judge_model):
        raise ValueError(
            "--grade judge asks a language model; write --judge-url http://127.0.0.1:8000 --judge-model NAME."
        )
    named = [_named(word) for word in words.questions]
    return [own_task(file, words.grade, name=name, fields=fields, settings=settings) for name, file in named]


def _named(word: str) -> tuple[str, Path]:
    name, equals, file = word.partition("=")
    is_file = Path(word).expanduser().is_file() or not equals
    return ("", Path(word).expanduser()) if is_file else (name, Path(file).expanduser())


def _fields(words: Sequence[str]) -> list[tuple[str, str]]:
    return _pairs([pair for word in words for pair in word.split(",")], "--fields", "question=text,answer=gold")


def _pairs(words: Sequence[str] | None, option: str, example: str) -> list[tuple[str, str]]:
    pairs = [(key.strip(), equals, value) for key, equals, value in (word.partition("=") for word in words or ())]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise ValueError(f"{option} {key}{equals}{value} was given; write {option} {example}.")
    return [(key, value) for key, _, value in pairs]


def _text(file: Path) -> str:
    return existing_file(file.expanduser(), "--judge-prompt").read_text(encoding="utf-8")
