"""The columns that give a teacher another prompt than the student's: which rows may have them, and what they say."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qtarget.data.bad_rows.faults import RowFault, text_of
from qtarget.data.bad_rows.sift import RowPolicy
from qtarget.data.chat.chat_style import ChatStyle
from qtarget.data.forms.row_form import RowForm
from qtarget.data.forms.turns import read_turns
from qtarget.data.teacher_prompts.teacher_ids import PRIVILEGED_CONTEXT, TEACHER_PARTS, TEACHER_PROMPT

Asked = str | list[dict[str, Any]]
"""A prompt: text, or messages."""


def check_teacher_column(form: RowForm, names: Sequence[str], policy: RowPolicy) -> None:
    """Refuse a teacher's prompt beside rows without a prompt, and two of them.

    Raises:
        ValueError: names the line to write.
    """
    read = {part: form.reads[part] for part in TEACHER_PARTS if part in form.reads}
    if form.becomes == "tokens":
        read = {part: part for part in TEACHER_PARTS if part in names}
    asker, name = policy.asker, policy.name
    if read and form.becomes != "prompt and completion":
        part, column = next(iter(read.items()))
        instead = asker.line("columns", {"prompt": "question", "completion": "answer"})
        leave = "remove the column" if form.becomes == "tokens" else f"{asker.line('columns', {part: None})} to leave"
        raise ValueError(
            f"`{column}` of the {name} data set is what the teacher is asked in the place of a prompt, and the rows "
            f"have none: they are {form.sentence()}. Give rows with a prompt and its completion, as in {instead}, or "
            f"{leave}{'' if form.becomes == 'tokens' else ' it unread'}."
        )
    if len(read) > 1:
        raise ValueError(
            f"The {name} data set gives the teacher a prompt twice, as {' and '.join(f'`{each}`' for each in read)}; "
            f"keep one: write {asker.line('columns', {PRIVILEGED_CONTEXT: None})}."
        )


def teacher_asked(
    row: Mapping[str, Any],
    parts: Mapping[str, str],
    prompt: Asked,
    asked_instead: Callable[[Callable[[str], str]], Asked],
    style: ChatStyle,
) -> Asked:
    """What the teacher is asked: the row's prompt where its column is null.

    Args:
        parts: the columns that are read, by part.  prompt: the student's, as it is tokenised.
        asked_instead: the prompt with another text in the place of the last that the user said: `f(what it was)`.

    Raises:
        RowFault: it is of another kind than the prompt, or says nothing.
    """
    part = next(each for each in TEACHER_PARTS if each in parts)
    column, given = parts[part], row.get(parts[part])
    if given is None:
        return prompt
    if isinstance(given, list) and part == TEACHER_PROMPT:
        if isinstance(prompt, str):
            raise RowFault(
                "text with a conversation for the teacher",
                column,
                "is a conversation, and the prompt is text: both are text, or both are lists of messages",
            )
        return read_turns(given, column, style)
    said = text_of(given, column)
    return asked_instead(lambda was: said if part == TEACHER_PROMPT else f"{was}\n\n{said}")


def with_last_question(prompt: Asked, change: Callable[[str], str], column: str) -> Asked:
    """A prompt with its text changed; of messages that of the user's last one.

    Raises:
        RowFault: the user says nothing in it.
    """
    if isinstance(prompt, str):
        return change(prompt)
    last = next((at for at in reversed(range(len(prompt))) if prompt[at]["role"] == "user"), None)
    if last is None:
        raise RowFault(
            "prompt without a turn of the user",
            column,
            "is a text, and stands in the place of what the user said last, which the prompt does not have",
            "Write it as a list of messages.",
        )
    return [*prompt[:last], {**prompt[last], "content": change(prompt[last]["content"])}, *prompt[last + 1 :]]
