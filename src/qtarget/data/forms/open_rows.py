"""The one door for rows: whatever form they have, they come out as columns that are tokenised, each row checked."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
from datasets import Dataset, Features, Value
from datasets.features import Json, List

from qtarget.data.bad_rows.row_places import RowPlaces, row_places
from qtarget.data.bad_rows.sift import RowLook, RowPolicy, Sifting, StreamCounts, sift, sift_stream
from qtarget.data.chat.chat_style import ChatStyle
from qtarget.data.columns import AnyDataset, column_names
from qtarget.data.forms.column_mapping import forgotten_input, input_line, mapped
from qtarget.data.forms.read_row import FormReader
from qtarget.data.forms.row_form import RowForm, recognised
from qtarget.data.forms.teacher_prompt_column import check_teacher_column
from qtarget.data.forms.token_rows import TokenLook, read_tokens
from qtarget.data.teacher_prompts.teacher_ids import TEACHER_PARTS
from qtarget.outcomes import UnusableRow

PEEKED = 64
"""Rows that are looked at to tell the form."""
OF_FORMS = ("prompt", "completion", "messages", "conversations", "text", "chosen", "rejected", *TEACHER_PARTS)
"""Columns that TRL or we would read as a part of their own, whatever the form was found to be."""


@dataclass(frozen=True)
class OpenRows:
    """A data set behind the door.

    Attributes:
        rows: with the columns that are tokenised, and those of the user's that are none of a form's.
        form: what the rows were.
        given: how many rows there were; None for a stream.
        dropped: how many were left out, by reason; of a stream, so far.
        good: the numbers of the rows that were not left out; None where all are there, and for a stream.
        places: where the rows stand in files, as they were given; None as in `RowPolicy`.
    """

    rows: AnyDataset
    form: RowForm
    given: int | None
    dropped: Counter[str] = field(default_factory=Counter)
    good: np.ndarray | None = None
    places: RowPlaces | None = None


def open_rows(
    rows: AnyDataset,
    policy: RowPolicy,
    style: ChatStyle,
    *,
    columns: Mapping[str, Any] | None = None,
    text_field: str = "text",
    takes_last_answer: bool = False,
) -> OpenRows:
    """Recognise the form of rows, check each, and turn them into the columns that are tokenised.

    Args:
        style: of the chat template that they are rendered with.
        columns: the user's own word on which column is which part; None to recognise the form.
        text_field: the column that plain text is read from, and put in.
        takes_last_answer: whether of a conversation beside a text prompt the assistant's last turn is the completion.

    Raises:
        UnusableRow: no rows, or a bad row (of a stream: when it comes).
        ValueError: no form, or several; a mapping that does not fit.
    """
    policy = replace(policy, places=row_places(rows))
    if isinstance(rows, Dataset):
        rows = rows.with_format(None)
    names, peeked = column_names(rows), list(islice(rows, PEEKED if isinstance(rows, Dataset) else 1))
    if not peeked:
        raise UnusableRow(f"The {policy.name} data set has no rows; there is nothing to learn from.")
    sample = _sample(peeked)
    form = _form(sample, names, policy, columns, text_field)
    check_teacher_column(form, names, policy)
    if form.becomes == "tokens":
        return _open_tokens(rows, form, policy, names)
    _check_template(sample, form, style, policy)
    _check_input(rows, form, columns or {}, policy, names)
    return _open_form(rows, FormReader(form, style, text_field, takes_last_answer), policy, names)


def _open_form(rows: AnyDataset, reader: FormReader, policy: RowPolicy, names: list[str]) -> OpenRows:
    form, consumed = reader.form, {*reader.form.reads.values(), *OF_FORMS, reader.text_field}
    if isinstance(rows, Dataset):
        read = [name for name in names if name in form.reads.values()]
        sifting = sift(rows.select_columns(read), RowLook(reader, reader.source), policy)
        turned = _turned(rows, sifting, reader, consumed, policy)
        return OpenRows(turned, form, len(rows), sifting.dropped, sifting.good, policy.places)
    dropped = StreamCounts()
    return OpenRows(sift_stream(rows, reader, policy, names, dropped, consumed), form, None, dropped)


def _sample(peeked: Sequence[Any]) -> dict[str, Any]:
    """The first value of every column that says something."""
    sample = dict.fromkeys(name for row in peeked for name in row)
    for row in reversed(peeked):
        sample |= {name: value for name, value in row.items() if value not in (None, "", [])}
    return sample


def _form(
    sample: Mapping[str, Any], names: list[str], policy: RowPolicy, columns: Mapping[str, Any] | None, text_field: str
) -> RowForm:
    is_prepared = "input_ids" in names and not set((columns or {}).values()) & set(names)
    if columns and not is_prepared:  # the mapping was of what these rows were made of
        return mapped(columns, sample, names, policy, text_field)
    return recognised(sample, names, policy.name, text_field, policy.asker)


def _check_template(sample: Mapping[str, Any], form: RowForm, style: ChatStyle, policy: RowPolicy) -> None:
    talks = any(isinstance(sample.get(form.reads.get(part, "")), list) for part in ("messages", "prompt"))
    if talks and style.template is None:
        line = policy.asker.line("chat_template_path", "path/or/hub-name")
        raise ValueError(
            f"The {policy.name} data set holds conversations, and the tokenizer has no chat template to render them "
            f"with. Write {line} with a template, or a model whose tokenizer has one."
        )


def _check_input(
    rows: AnyDataset, form: RowForm, columns: Mapping[str, Any], policy: RowPolicy, names: list[str]
) -> None:
    column = forgotten_input(form, columns, names)
    if column is not None and (not isinstance(rows, Dataset) or any(rows[column])):
        raise ValueError(input_line(form, column, policy.name, policy.asker))


def _open_tokens(rows: AnyDataset, form: RowForm, policy: RowPolicy, names: list[str]) -> OpenRows:
    if not isinstance(rows, Dataset):
        dropped = StreamCounts()
        return OpenRows(sift_stream(rows, read_tokens, policy, names, dropped), form, None, dropped)
    sifting = sift(rows.select_columns(list(form.reads.values())).with_format("arrow"), TokenLook(), policy)
    good = rows if sifting.good is None else rows.select(sifting.good)
    return OpenRows(good, form, len(rows), sifting.dropped, sifting.good, policy.places)


def _turned(rows: Dataset, sifting: Sifting, reader: FormReader, consumed: Iterable[str], policy: RowPolicy) -> Dataset:
    """The good rows under the columns that are tokenised; written anew only where reading changes them."""
    rows = rows if sifting.good is None else rows.select(sifting.good)
    first = reader(rows[0])
    if not sifting.changes:
        sources = {reader.source(name): name for name in first}
        others = [name for name in rows.column_names if name in consumed and name not in sources]
        renamed = {source: name for source, name in sources.items() if source != name}
        return rows.remove_columns(others).rename_columns(renamed) if others or renamed else rows
    removed = [name for name in rows.column_names if name in consumed]
    kept: dict[str, Any] = {name: feature for name, feature in rows.features.items() if name not in removed}
    read = {name: _feature(name, value, reader, rows.features, sifting.is_rich) for name, value in first.items()}
    return rows.map(
        _Turn(reader),
        batched=True,
        remove_columns=removed,
        features=Features({**kept, **read}),
        num_proc=policy.num_proc,
        desc=f"Reading {policy.name} dataset as {reader.form.becomes}",
    )


def _feature(name: str, value: Any, reader: FormReader, features: Features, is_rich: bool) -> Any:
    """The type of a column that is written: messages with more than role and content keep their own keys, as JSON."""
    if name == "weight_spans":
        given = features[reader.source(name)]
        is_deeper = isinstance(value, list) and reader.form.name in ("Alpaca", "question-answer")
        return List(given) if is_deeper else given
    if name == "chat_template_kwargs":
        return Json()
    if isinstance(value, list):
        return List(Json()) if is_rich else List({"role": Value("string"), "content": Value("string")})
    return Value("string")


@dataclass(frozen=True)
class _Turn:
    """Reads a batch of rows that are known to be good."""

    reader: FormReader

    def __call__(self, batch: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
        read = [self.reader(dict(zip(batch, values, strict=True))) for values in zip(*batch.values(), strict=True)]
        return {name: [row[name] for row in read] for name in read[0]}
