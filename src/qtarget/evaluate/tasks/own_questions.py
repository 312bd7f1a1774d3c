"""A user's own rows as questions: which field is what is found, or said."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from qtarget.data.bad_rows.faults import RowFault
from qtarget.data.chat.chat_style import ChatStyle
from qtarget.data.forms.turns import read_turns
from qtarget.evaluate.nouns import Question, QuestionSet
from qtarget.evaluate.tasks.fields import Row, content_id
from qtarget.evaluate.tasks.own_options import Lettering, gold_place, lettering_of, options_in, with_letters
from qtarget.evaluate.tasks.question_columns import QuestionColumns, question_columns

OWN_PARTS = ("question", "context", "answer", "options", "id", "cluster", "options_from")
"""What `fields` may name. `options_from` is no field but where the numbers of options begin, 0 or 1."""
MARK = "####"
"""Behind the last of these stands the answer in rows as GSM8K writes them."""


@dataclass(frozen=True)
class OwnQuestions:
    """Reads a user's rows.

    Attributes:
        fields: the names of fields, by what they hold: see `OWN_PARTS`. Those that are not named are found.
        trouble: what is wrong with a question for its grader, in words; None for nothing.
        shows_options: the questions have options, which are shown behind them with letters.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    trouble: Callable[[Question], str | None] = lambda _: None
    shows_options: bool = False

    def __post_init__(self) -> None:
        for part in self.fields:
            if part not in OWN_PARTS:
                near = get_close_matches(part, OWN_PARTS, n=1)
                hint = f"did you mean `{near[0]}`? " if near else ""
                raise ValueError(
                    f"--fields {part}=…: {hint}Write one of {', '.join(OWN_PARTS)}, as in --fields question=text."
                )

    def __call__(self, rows: Sequence[Row]) -> QuestionSet:
        """The questions.

        Raises:
            ValueError: rows without a question or an answer, ids that stand twice, a gold that the grader cannot use;
                with the row.
        """
        columns = question_columns(rows, self.fields, self.shows_options)
        reading = _Reading(self, rows, columns)
        questions = _all_good(reading.question, rows)
        _refuse_twice(questions, rows, named=columns.id is not None)
        return QuestionSet(questions, reading.remarks())


class _Reading:
    """The rows of one file, with the names of their fields."""

    def __init__(self, own: OwnQuestions, rows: Sequence[Row], columns: QuestionColumns) -> None:
        self.own, self.columns, self.answer = own, columns, columns.answer
        texts = [row.get(self.answer) for row in rows] if self.answer else []
        self.marked = bool(texts) and all(isinstance(text, str) and MARK in text for text in texts)
        self.lettering = Lettering((0,))
        if own.shows_options and self.answer is not None:
            self.lettering = lettering_of(rows, self.answer, own.fields)

    def remarks(self) -> tuple[str, ...]:
        marked = (f"the answer of each row is what stands behind its last {MARK}",) if self.marked else ()
        lettered = (self.lettering.remark,) if self.lettering.remark else ()
        return (*marked, *lettered, *self.columns.remarks())

    def question(self, row: Row) -> Question:
        text, said = self._asked(row)
        text = "\n\n".join(filter(None, (text, self._context(row))))
        golds = self._golds(row) if self.answer is not None else [said]
        if not golds or not golds[0].strip():
            raise ValueError(f"has no answer{f' in `{self.answer}`' if self.answer else ': nobody replies'}")
        if not all(gold.strip() for gold in golds):
            raise ValueError(f"has an empty answer in the list `{self.answer}`")
        options: tuple[str, ...] = ()
        if self.own.shows_options:
            options = options_in(row, self.own.fields)
            golds = [self._right_option(row, golds, options)]
        shown = with_letters(text, options)
        question = Question(
            self._id(row, shown), shown, golds[0], options, self._cluster(row), tuple(golds[1:]), _json(row)
        )
        if why := self.own.trouble(question):
            raise ValueError(why)
        return question

    def _right_option(self, row: Row, golds: Sequence[str], options: tuple[str, ...]) -> str:
        """The letter of the right option. A list of answers must name one."""
        value, name = row.get(self.answer or "", golds[0]), self.answer or self.columns.question
        given = value if isinstance(value, list) and not isinstance(value[0], dict) else [value]
        given = [golds[0]] if isinstance(given[0], dict) or self.marked else given
        letters = {gold_place(each, options, self.lettering, name) for each in given}
        if len(letters) > 1:
            raise ValueError(
                f"has the answers {value!r} in `{name}`, which are {len(letters)} of its options, and a choice is of "
                f'one; write the letter of one, as in "{name}": "{min(letters)}", or grade by another grader'
            )
        return letters.pop()

    def _id(self, row: Row, text: str) -> str:
        if self.columns.id is None:
            return content_id(text)
        value = row.get(self.columns.id)
        if value is None or isinstance(value, float | bool | list | dict) or not str(value).strip():
            raise ValueError(f"has {value!r} for `{self.columns.id}`, which names its question")
        return str(value).strip()

    def _cluster(self, row: Row) -> str:
        named = self.own.fields.get("cluster")
        return "" if named is None or row.get(named) is None else str(row[named])

    def _asked(self, row: Row) -> tuple[str, str]:
        """The text of the question and, of a conversation, of the reply to it."""
        name = self.columns.question
        value = row.get(name)
        if isinstance(value, list) or (isinstance(value, str) and self.columns.is_conversation):
            return _of_conversation(value, name)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"has {value!r} for `{name}`, where the text of a question is expected")
        return value.strip(), ""

    def _context(self, row: Row) -> str:
        """What the question is about; "" where the row has no such thing."""
        name = self.columns.context
        value = None if name is None else row.get(name)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"has {value!r} for `{name}`, where text is expected")
        return (value or "").strip()

    def _golds(self, row: Row) -> list[str]:
        assert self.answer is not None
        value = row.get(self.answer)
        if isinstance(value, dict) and isinstance(value.get("text"), list):  # as SQuAD writes answers
            value = value["text"]
        if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
            return [_of_conversation([{"role": "user", "content": "?"}, *value], self.answer)[1]]
        if self.marked and isinstance(value, str):
            return [value.rpartition(MARK)[2].strip().replace(",", "")]
        return list(dict.fromkeys(self._gold(each) for each in (value if isinstance(value, list) else [value])))

    def _gold(self, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(
                f"has {value!r} for `{self.answer}`, where an answer is expected: text, a number or a list of these"
            )
        if isinstance(value, str):
            return value.strip()
        return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _of_conversation(value: Any, name: str) -> tuple[str, str]:
    """The only question of a conversation, and the reply to it where there is one."""
    try:
        turns = read_turns(value, name, ChatStyle(None))
    except RowFault as fault:
        raise ValueError(f"`{fault.field}` {fault.found}") from fault
    roles = [turn["role"] for turn in turns]
    if roles not in (["user"], ["user", "assistant"]):
        raise ValueError(
            f"has a conversation of {', '.join(roles)} in `{name}`; a question is one turn of the user, with or "
            "without a reply. Write the question into a field of its own"
        )
    return str(turns[0]["content"]).strip(), str(turns[1]["content"] or "").strip() if len(turns) > 1 else ""


def _all_good(read: Callable[[Row], Question], rows: Sequence[Row]) -> list[Question]:
    questions, faults = [], []
    for number, row in enumerate(rows, 1):
        try:
            questions.append(read(row))
        except ValueError as error:
            faults.append(f"{place_of(row, number)} {error}")
    if faults:
        how = "Mend the row, or name its fields: --fields question=…,answer=…"
        raise ValueError(f"{faults[0]}.{_more(faults[1:])} {how}")
    return questions


def _more(faults: Sequence[str]) -> str:
    """That other rows will not do either, in brackets, with the first two of them."""
    if not faults:
        return ""
    shown = "; ".join(faults[:2]) + ("; …" if len(faults) > 2 else "")
    return f" ({len(faults)} more {'row' if len(faults) == 1 else 'rows'} will not do: {shown}.)"


def _refuse_twice(questions: Sequence[Question], rows: Sequence[Row], named: bool) -> None:
    first: dict[str, int] = {}
    for number, question in enumerate(questions):
        earlier = first.setdefault(question.qid, number)
        if earlier == number or (not named and _same(questions[earlier], question)):
            continue
        places = [place_of(rows[at], at + 1) for at in (earlier, number)]
        what = "ask the same and give other answers; write one answer, or a list of those that are right."
        if named:
            what = f"have the same id, {question.qid!r}; rename one, or name another field: --fields id=FIELD."
        raise ValueError(f"{places[0]} and {places[1]} {what}")


def _same(one: Question, other: Question) -> bool:
    return (one.text, one.gold, one.accepted) == (other.text, other.gold, other.accepted)


def place_of(row: Row, number: int) -> str:
    """Where a row stands in its file, as the file's reader says it, or else its number."""
    return getattr(row, "place", f"row {number}")


def _json(row: Row) -> str:
    return json.dumps(dict(row), default=str, ensure_ascii=False)
