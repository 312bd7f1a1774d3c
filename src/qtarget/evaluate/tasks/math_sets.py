"""Rows of the mathematics sets, each in its own format, as questions."""

from collections.abc import Sequence

from qtarget.evaluate.grading.boxed import last_boxed
from qtarget.evaluate.nouns import Question, QuestionSet
from qtarget.evaluate.tasks.fields import Fields, Row, content_id, numbered


def problems(rows: Sequence[Row]) -> QuestionSet:
    """MATH-500, AIME, AMC, HMMT, Minerva: a ``problem`` or ``question`` and an ``answer``, or a boxing ``solution``."""
    return QuestionSet([_problem(fields) for fields in numbered(rows)])


def gsm8k(rows: Sequence[Row]) -> QuestionSet:
    """GSM8K: a ``question``, and an ``answer`` whose last line is ``#### 72``."""
    return QuestionSet([_word_problem(fields) for fields in numbered(rows)])


def olympiadbench(rows: Sequence[Row]) -> QuestionSet:
    """OlympiadBench: the context, where there is one, before the question; several final answers are one list."""
    return QuestionSet([_olympiad(fields) for fields in numbered(rows)])


def _problem(fields: Fields) -> Question:
    text = fields.text("problem", "question")
    return Question(_name(fields, text, "unique_id", "id", "idx", "problem_idx"), text, _gold(fields))


def _word_problem(fields: Fields) -> Question:
    text = fields.text("question")
    _, mark, gold = fields.text("answer").rpartition("####")
    if not mark:
        raise fields.wrong("has an `answer` without `####`")
    return Question(content_id(text), text, answer_text(fields, gold.replace(",", "")))


def _gold(fields: Fields) -> str:
    if fields.row.get("answer") is not None:
        return answer_text(fields, fields.row["answer"])
    boxed = last_boxed(fields.text("solution"))
    if boxed is None:
        raise fields.wrong("has no `answer`, and its `solution` boxes none")
    return boxed


def answer_text(fields: Fields, answer: object) -> str:
    """A gold answer as it would stand in a box. Whole numbers lose what a float column gave them: 27.0 is 27."""
    if isinstance(answer, float) and answer.is_integer():
        return str(int(answer))
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise fields.wrong(f"has {answer!r} for `answer`, where text or a number is expected")
    text = str(answer).strip()
    text = text[1:-1].strip() if text.startswith("$") and text.endswith("$") and text.count("$") == 2 else text
    if not text:
        raise fields.wrong("has an empty `answer`")
    return text


def _olympiad(fields: Fields) -> Question:
    question, context = fields.text("question"), str(fields.row.get("context") or "").strip()
    answers = fields.get("final_answer")
    if not isinstance(answers, list) or not answers:
        raise fields.wrong(f"has {answers!r} for `final_answer`, where a list of answers is expected")
    gold = ", ".join(answer_text(fields, answer) for answer in answers)
    text = f"{context}\n{question}" if context else question
    return Question(_name(fields, text, "id"), text, gold, cluster=content_id(context) if context else "")


def _name(fields: Fields, text: str, *names: str) -> str:
    name = next((fields.row[name] for name in names if fields.row.get(name) is not None), None)
    return content_id(text) if name is None else str(name)
