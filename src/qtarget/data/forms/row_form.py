"""Which form rows have, and so what they become: decided here alone, from their columns, or by the key `columns`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from qtarget.console import spelled_out
from qtarget.data.asker import Asker
from qtarget.data.teacher_prompts.teacher_ids import TEACHER_PARTS

CanonicalForm = Literal["prompt and completion", "messages", "text", "tokens"]
ALWAYS_READ = ("tools", "chat_template_kwargs", "weight_spans", *TEACHER_PARTS)
"""Columns that rows of any form but tokens may have beside their own."""
SYSTEM_NAMES = ("system", "system_prompt")
INPUT_NAMES = ("input", "context")
QUESTION_NAMES = ("question", "query", "prompt")
ANSWER_NAMES = ("answer", "response", "output", "completion")
CONVERSATION_NAMES = ("conversations", "conversation")
"""Names that columns of these kinds have, whether in capitals or not."""
TARGETS: dict[str, tuple[str, ...]] = {
    "prompt-completion": ("prompt", "completion"),
    "messages": ("messages",),
    "Alpaca": ("instruction", "output"),
    "question-answer": ("question", "answer"),
    "text": ("text",),
    "tokens": ("input_ids",),
}
"""Forms, and the columns without which rows do not have them. `columns` maps these names to columns of the rows."""
OPTIONAL: dict[str, tuple[str, ...]] = {
    "messages": ("system",),
    "Alpaca": ("input", "system", "history"),
    "question-answer": ("system",),
    "tokens": ("labels", "completion_mask", "assistant_masks", "attention_mask", "position_ids", "token_weight"),
}
BECOMES: dict[str, CanonicalForm] = {
    "prompt-completion": "prompt and completion",
    "messages": "messages",
    "ShareGPT": "messages",
    "Alpaca": "prompt and completion",
    "question-answer": "prompt and completion",
    "text": "text",
    "tokens": "tokens",
}


@dataclass(frozen=True)
class RowForm:
    """The form of a data set's rows.

    Attributes:
        name: "prompt-completion", "messages", "ShareGPT", "Alpaca", "question-answer", "text" or "tokens".
        reads: what is read, as `TARGETS` and `OPTIONAL` name it, and the column that holds it.
        unread: columns with text or messages that are not read.
        others: other forms that the rows have too, and that were not chosen.
    """

    name: str
    reads: Mapping[str, str]
    unread: tuple[str, ...] = ()
    others: tuple[str, ...] = field(default=())

    @property
    def becomes(self) -> CanonicalForm:
        """What each row is turned into."""
        return BECOMES[self.name]

    @property
    def teacher_part(self) -> str | None:
        """Which of `TEACHER_PARTS` gives the teacher a prompt of its own; None where none does."""
        return next((part for part in TEACHER_PARTS if part in self.reads), None)

    @property
    def teacher_column(self) -> str:
        """The column that does, by the name that the rows have for it; the part's own where none does."""
        return self.reads.get(self.teacher_part or "", TEACHER_PARTS[0])

    def sentence(self) -> str:
        """As `validate` says it: "ShareGPT rows (conversations), read as messages"."""
        columns = ", ".join(map(spelled_out, self.reads.values()))
        rest = f"; not read: {', '.join(map(spelled_out, self.unread))}" if self.unread else ""
        as_what = "" if self.name == self.becomes else f", read as {self.becomes}"
        return f"{self.name} rows ({columns}){as_what}{rest}"


def recognised(row: Mapping[str, Any], columns: Sequence[str], name: str, text_field: str, asker: Asker) -> RowForm:
    """The form of rows, from their columns and a first row.

    Forms that say who speaks come before `text`, and those with their own names (`prompt` and `completion`, `messages`,
    `conversations`, `instruction` and `output`) before questions with answers; tokens come before all.

    Args:
        name: of the data set, for errors.  text_field: the column of plain text.

    Raises:
        ValueError: no form fits, or two that are as good; the line to write is named.
    """
    if text_field != "text" and text_field in columns and "input_ids" not in columns:
        return form_of("text", {"text": text_field}, row)
    if "input_ids" in columns:
        return form_of("tokens", {key: key for key in (*TARGETS["tokens"], *OPTIONAL["tokens"]) if key in columns}, row)
    spelled = {column.casefold(): column for column in reversed(columns)}
    tiers = (_own_names(row, spelled), _questions(spelled), [("text", {"text": text_field})] * (text_field in columns))
    fitting = [each for tier in tiers for each in tier]
    if not fitting:
        raise ValueError(_no_form(row, columns, name, asker))
    best = next(tier for tier in tiers if tier)
    if len(best) > 1:
        raise ValueError(_ambiguous(best, name, columns, asker))
    read = set(best[0][1].values())
    others = tuple(dict.fromkeys(other for other, reads in fitting if not set(reads.values()) <= read))
    return form_of(*best[0], row, others)


def form_of(name: str, reads: Mapping[str, str], row: Mapping[str, Any], others: tuple[str, ...] = ()) -> RowForm:
    """A form over a data set whose first row is `row`: messages that are ShareGPT's are called so.

    Args:
        reads: the column of each part; "" for one that is not to be read.
    """
    if name == "messages" and _is_share_gpt(row.get(reads["messages"])):
        name = "ShareGPT"
    if name == "tokens":
        return RowForm(name, dict(reads))
    extras = {part: part for part in ALWAYS_READ if part in row and part not in reads}
    reads = {part: column for part, column in {**reads, **extras}.items() if column}
    unread = [column for column, value in row.items() if column not in reads.values() and _says_something(value)]
    return RowForm(name, reads, tuple(unread), others)


def _own_names(row: Mapping[str, Any], spelled: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """The forms whose columns have the forms' own names."""
    fitting: list[tuple[str, dict[str, str]]] = []
    if {"prompt", "completion"} <= spelled.keys():
        fitting.append(("prompt-completion", {key: spelled[key] for key in ("prompt", "completion")}))
    fitting += [
        ("messages", {"messages": spelled[key], **_one(spelled, "system", SYSTEM_NAMES)})
        for key in ("messages", *CONVERSATION_NAMES)
        if key in spelled
    ]
    for output in ANSWER_NAMES:
        if "instruction" in spelled and output in spelled:
            parts = {**_one(spelled, "input", INPUT_NAMES), **_one(spelled, "system", SYSTEM_NAMES)}
            parts |= {"history": spelled["history"]} if "history" in spelled else {}
            fitting.append(("Alpaca", {"instruction": spelled["instruction"], **parts, "output": spelled[output]}))
    return fitting


def _questions(spelled: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """Every pair of a question's and an answer's column."""
    return [
        (
            "question-answer",
            {**_one(spelled, "system", SYSTEM_NAMES), "question": spelled[asked], "answer": spelled[answer]},
        )
        for asked in QUESTION_NAMES
        for answer in ANSWER_NAMES
        if asked in spelled and answer in spelled
    ]


def _one(spelled: Mapping[str, str], part: str, names: Sequence[str]) -> dict[str, str]:
    """The column that holds a part, under the first of its names that there is."""
    return next(({part: spelled[name]} for name in names if name in spelled), {})


def _is_share_gpt(value: Any) -> bool:
    turn = value[0] if isinstance(value, list) and value else value
    if isinstance(turn, str):
        return '"from"' in turn
    return isinstance(turn, Mapping) and turn.get("role") is None and ("from" in turn or "value" in turn)


def _says_something(value: Any) -> bool:
    return _is_chat(value) or (isinstance(value, str) and bool(value.strip()))


def _is_chat(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def listed(columns: Sequence[str]) -> str:
    """Columns as errors name them."""
    return ", ".join(f"`{spelled_out(column)}`" for column in columns)


def _no_form(row: Mapping[str, Any], columns: Sequence[str], name: str, asker: Asker) -> str:
    chats = [column for column in columns if _is_chat(row.get(column))]
    texts = [column for column in columns if isinstance(row.get(column), str)]
    guess: dict[str, str] = {"prompt": "…", "completion": "…"}
    if chats:
        guess = {"messages": chats[0]}
    elif len(texts) == 1:
        guess = {"text": texts[0]}
    elif len(texts) > 1:
        guess = {"prompt": texts[0], "completion": texts[1]}
    line = asker.line("columns", {key: spelled_out(column) for key, column in guess.items()})
    return (
        f"The {name} data set has the columns {listed(columns)}, which are no form of rows that is known: prompt and "
        "completion, messages, conversations, instruction and output, question and answer, text, or input_ids. Say "
        f"which are which: write {line}."
    )


def _ambiguous(fitting: Sequence[tuple[str, dict[str, str]]], name: str, columns: Sequence[str], asker: Asker) -> str:
    lines = [asker.line("columns", {key: spelled_out(column) for key, column in reads.items()}) for _, reads in fitting]
    forms = " or ".join(dict.fromkeys(form for form, _ in fitting))
    return (
        f"The {name} data set has the columns {listed(columns)}, which can be read in {len(fitting)} ways ({forms}). "
        f"Write one: {', or '.join(lines)}."
    )
