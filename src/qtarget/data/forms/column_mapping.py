"""The key `columns`: a user's own word on which column is which part of a row."""

import difflib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from qtarget.console import spelled_out
from qtarget.data.asker import Asker
from qtarget.data.bad_rows.sift import RowPolicy
from qtarget.data.forms.row_form import (
    ALWAYS_READ,
    CONVERSATION_NAMES,
    INPUT_NAMES,
    OPTIONAL,
    TARGETS,
    RowForm,
    form_of,
    listed,
    recognised,
)

PARTS = tuple(
    dict.fromkeys([*(p for form in TARGETS for p in (*TARGETS[form], *OPTIONAL.get(form, ()))), *ALWAYS_READ])
)
"""Every part of a row that a column can be mapped to."""


def mapped(
    mapping: Mapping[str, Any], row: Mapping[str, Any], columns: Sequence[str], policy: RowPolicy, text_field: str
) -> RowForm:
    """The form that the key `columns` gives rows.

    A part that the form may have and the mapping does not name is read under its own name, unless it is mapped to null.

    Args:
        row: the first row, or what is known of it.  policy: of the data set, for errors.
        text_field: the column that plain text is read from.

    Raises:
        ValueError: a name that no form has, a column that the rows do not have, or parts of two forms.
    """
    given = {"messages" if key in CONVERSATION_NAMES else key: column for key, column in mapping.items()}
    name, asker = policy.name, policy.asker
    _check_names(given, _Columns(row, columns, text_field), policy)
    form = _named_form(given, asker)
    extras = {part: given[part] or "" for part in ALWAYS_READ if part in given}
    if form is None:
        rest = [column for column in columns if column not in given.values()]
        found = recognised({key: value for key, value in row.items() if key in rest}, rest, name, text_field, asker)
        own = {part: column for part, column in given.items() if part in OPTIONAL.get(found.name, ()) and column}
        return form_of(found.name, {**found.reads, **own, **extras}, row)
    own = {part: text_field if part == "text" else part for part in (*TARGETS[form], *OPTIONAL.get(form, ()))}
    reads = {part: given.get(part, column) for part, column in own.items() if part in given or column in columns}
    reads = {part: column for part, column in reads.items() if column is not None}
    if missing := [part for part in TARGETS[form] if part not in reads]:
        raise ValueError(
            f"`columns` makes the {name} data set {form} rows with a `{missing[0]}`, and names no column for it. "
            f"Write {asker.line('columns', {**mapping, missing[0]: '…'})} with one of {listed(columns)}."
        )
    return form_of(form, {**reads, **extras}, row)


def forgotten_input(form: RowForm, mapping: Mapping[str, Any], columns: Sequence[str]) -> str | None:
    """The column with the other half of an Alpaca row's instruction, where a mapping reads only the instruction."""
    asked = form.reads.get("prompt") or form.reads.get("question") or ""
    if asked.casefold() != "instruction" or "input" in mapping:
        return None
    return next(
        (column for column in columns if column.casefold() in INPUT_NAMES and column not in form.reads.values()), None
    )


def input_line(form: RowForm, column: str, name: str, asker: Asker) -> str:
    """What to say where `forgotten_input` found a column with something in it."""
    reads = dict(form.reads)
    asked, answer = (reads.get("prompt") or reads.get("question"), reads.get("completion") or reads.get("answer"))
    whole = asker.line("columns", {"instruction": asked, "input": column, "output": answer})
    return (
        f"`columns` reads the instruction of the {name} data set, and not `{spelled_out(column)}`, its other half. "
        f"Write {whole}, or {asker.line('columns', {**reads, 'input': None})} to leave it out."
    )


def _named_form(given: Mapping[str, Any], asker: Asker) -> str | None:
    """The form whose parts a mapping names; None where it names only parts that every form may have."""
    forms = [form for form, parts in TARGETS.items() if any(given.get(part) is not None for part in parts)]
    if len(forms) > 1:
        raise ValueError(
            f"`columns` names parts of {' and of '.join(forms)} rows; name those of one form, as in "
            f"{asker.line('columns', {part: '…' for part in TARGETS[forms[0]]})}."
        )
    return forms[0] if forms else None


class _Columns(NamedTuple):
    """The columns of a data set.

    Attributes:
        row: the first row, or what is known of it.
        names: of all columns.
        text_field: the column that plain text is read from.
    """

    row: Mapping[str, Any]
    names: Sequence[str]
    text_field: str

    def fitting(self, part: str, taken: Collection[Any]) -> list[str]:
        """The columns that may hold a part and are not taken by others."""
        return [name for name in self.names if name not in taken and _may_be(part, self.row.get(name))]


def _check_names(given: Mapping[str, Any], columns: _Columns, policy: RowPolicy) -> None:
    for part, column in given.items():
        if part not in PARTS:
            raise ValueError(_no_part(str(part), column, columns.names, policy.asker))
        if column is not None and column not in columns.names:
            raise ValueError(
                f"`columns` reads `{part}` from `{spelled_out(str(column))}`, and the {policy.name} data set has the "
                f"columns {listed(columns.names)}{_remedy(part, given, columns, policy)}."
            )


def _remedy(part: str, given: Mapping[str, Any], columns: _Columns, policy: RowPolicy) -> str:
    """What to write where a part is read from a column that is not there."""
    asker = policy.asker
    if policy.shares_columns:
        inner = asker.line("columns", dict(given)).strip("`")
        own = f"- {{path: …, {inner}}}" if asker is Asker.COMMAND_LINE else f"RowSet(rows, columns={dict(given)!r})"
        return (
            "; put `columns`, which is for every set without its own, into the set that it is meant for, as "
            f"`{own}`, or remove it"
        )
    fitting = columns.fitting(part, given.values())
    if fitting:
        near = difflib.get_close_matches(str(given[part]), fitting, n=1, cutoff=0.5) or fitting
        return f"; write {asker.line('columns', {**given, part: spelled_out(near[0])})}"
    with suppress(ValueError):
        form = recognised(columns.row, columns.names, policy.name, columns.text_field, asker)
        return f"; remove `columns`: without it the rows are {form.sentence()}"
    if chats := columns.fitting("messages", ()):
        return f"; write {asker.line('columns', {'messages': spelled_out(chats[0])})}"
    return f", and no column holds what `{part}` may be; name columns of text or of messages"


def _may_be(part: str, value: Any) -> bool:
    """Whether a column with such a value may be read as a part; one that is not known may."""
    if value is None or part in (*ALWAYS_READ, *TARGETS["tokens"], *OPTIONAL["tokens"], "history"):
        return True
    takes_messages = part in ("messages", *TARGETS["prompt-completion"])
    return isinstance(value, str) or (takes_messages and isinstance(value, list))


def _no_part(part: str, column: Any, columns: Sequence[str], asker: Asker) -> str:
    near = difflib.get_close_matches(part, PARTS, n=1)
    if column in PARTS and part in columns:
        hint = f"the part stands first: write {asker.line('columns', {str(column): spelled_out(part)})}"
    elif near:
        hint = f"did you mean `{near[0]}`?"
    else:
        hint = f"write one of these, as in {asker.line('columns', {'prompt': spelled_out(str(column))})}"
    return f"`columns` has `{spelled_out(part)}`, and the parts of rows are {', '.join(PARTS)}; {hint}."
