"""Which field of a user's own rows holds what: named, or found by its name, in capitals or not; and which are left."""

from collections import Counter
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from qtarget.data.forms.row_form import INPUT_NAMES
from qtarget.evaluate.tasks.fields import Row
from qtarget.evaluate.tasks.own_options import OPTION_NAMES, option_fields

ASKING = ("question", "prompt", "problem", "query", "instruction", "input", "messages", "conversations")
ANSWERING = (
    "answer", "gold", "target", "label", "answers", "final_answer", "expected", "reference", "ideal", "completion",
    "response", "output", "solution",
)  # fmt: skip
CONVERSATIONS = ("messages", "conversations")
ID_NAMES = ("id", "qid", "question_id", "unique_id", "uid")
CONTEXT_NAMES = (*INPUT_NAMES, "passage", "paragraph", "document", "article", "story", "background", "premise", "text")
"""Names of fields that questions are probably about. Unless it is named, only an instruction's input is asked with it,
as training reads the same rows."""
SHOWN_NAMES = 6
"""Names of fields that a remark shows."""


class QuestionColumns(NamedTuple):
    """The fields of rows, by what they hold; None for what none holds.

    Attributes:
        unasked: fields with text or lists that are not read.
        options: fields with options, where they are not read.
    """

    question: str
    answer: str | None
    id: str | None
    context: str | None
    unasked: tuple[str, ...]
    options: tuple[str, ...]

    @property
    def is_conversation(self) -> bool:
        return self.question.casefold() in CONVERSATIONS

    def remarks(self) -> tuple[str, ...]:
        """What is not asked, with the line to write."""
        said = []
        if self.unasked:
            likely = next((name for name in self.unasked if name.casefold() in CONTEXT_NAMES), "FIELD")
            shown = _listed(self.unasked[:SHOWN_NAMES]) + (", …" if len(self.unasked) > SHOWN_NAMES else "")
            said.append(f"not asked: {shown}; to ask one of them behind the question, write --fields context={likely}")
        if self.options:
            shown = _listed(self.options[:SHOWN_NAMES])
            said.append(f"{shown} are not shown; to ask which of them is right, write --grade choice")
        return tuple(said)


def question_columns(rows: Sequence[Row], named: Mapping[str, str], shows_options: bool) -> QuestionColumns:
    """The fields of question, answer, id and context.

    Args:
        named: the fields that the user names, by what they hold.
        shows_options: options are asked too.

    Raises:
        ValueError: no row has a field that is named, or none has a question or an answer.
    """
    there = Counter(name for row in rows for name, value in row.items() if value is not None)
    question = _name("question", ASKING, there, named)
    answer = _name("answer", ANSWERING, [name for name in there if name != question], named)
    if question is None:
        raise _lacking("question", ASKING, there, (*named.values(), *([answer] if answer else [])))
    if answer is None and question.casefold() not in CONVERSATIONS:
        raise _lacking("answer", ANSWERING, there, (*named.values(), question))
    row_id = _name("id", ID_NAMES, there, named)
    others = [name for name in there if name not in (question, answer)]
    context = _name("context", INPUT_NAMES if question.casefold() == "instruction" else (), others, named)
    for part in ("options", "cluster"):
        _name(part, (), there, named)
    read = {question, answer, row_id, context, *named.values()}
    left = [name for name in there if name not in read and any(_says_something(row.get(name)) for row in rows)]
    options = {name for row in rows for name in option_fields(row, named)}
    return QuestionColumns(
        question, answer, row_id, context,
        tuple(name for name in left if name not in options),
        () if shows_options else tuple(name for name in left if name in options),
    )  # fmt: skip


def _name(part: str, names: Sequence[str], there: Sequence[str] | Counter[str], named: Mapping[str, str]) -> str | None:
    if part not in named:
        spelled = {name.casefold(): name for name in reversed([*there])}
        return next((spelled[name] for name in names if name in spelled), None)
    field = named[part]
    if field not in there:
        near = get_close_matches(field, there, n=1)
        hint = f"did you mean {part}={near[0]}? " if near else ""
        raise ValueError(
            f"none of its rows has a field `{field}` (--fields {part}={field}); {hint}They have {_listed(there)}."
        )
    return field


def _lacking(part: str, names: Sequence[str], there: Counter[str], taken: Sequence[str]) -> ValueError:
    article = "an" if part == "answer" else "a"
    apart = (*ID_NAMES, *OPTION_NAMES, *(INPUT_NAMES if part == "answer" else ANSWERING))
    free = [name for name in there if name not in taken and name.casefold() not in apart]
    near = [name for name in free if get_close_matches(name.casefold(), names, n=1)]
    line = f'no other field could be it: write {article} {part} into each row, as in "{part}": "…"'
    if free:
        line = f"Name the field: --fields {part}={[*near, *free][0]}"
    return ValueError(f"none of its rows has {article} {part} ({_listed(names)}); they have {_listed(there)}. {line}")


def _says_something(value: Any) -> bool:
    return bool(value.strip()) if isinstance(value, str) else isinstance(value, list | dict) and bool(value)


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in names) or "nothing"
