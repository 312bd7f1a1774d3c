"""The key `columns`: a user's own word on which column is which part of a row."""

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from qtarget.data.asker import Asker
from qtarget.data.bad_rows.faults import spelled_out
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
    mapping: Mapping[str, Any], row: Mapping[str, Any], columns: Sequence[str], name: str, text_field: str, asker: Asker
) -> RowForm:
    """The form that the key `columns` gives rows.

    A part that the form may have and the mapping does not name is read under its own name, unless it is mapped to null.

    Args:
        row: the first row, or what is known of it.  name: of the data set, for errors.
        text_field: the column that plain text is read from.

    Raises:
        ValueError: a name that no form has, a column that the rows do not have, or parts of two forms.
    """
    given = {"messages" if key in CONVERSATION_NAMES else key: column for key, column in mapping.items()}
    _check_names(given, columns, name, asker)
    form = _named_form(given, asker)
    extras = {part: given[part] for part in ALWAYS_READ if given.get(part)}
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


def _check_names(given: Mapping[str, Any], columns: Sequence[str], name: str, asker: Asker) -> None:
    for part, column in given.items():
        if part not in PARTS:
            raise ValueError(_no_part(str(part), column, columns, asker))
        if column is not None and column not in columns:
            near = difflib.get_close_matches(str(column), columns, n=1, cutoff=0.5)
            line = asker.line("columns", {**given, part: spelled_out(near[0] if near else columns[0])})
            raise ValueError(
                f"`columns` reads `{part}` from `{spelled_out(str(column))}`, and the {name} data set has the columns "
                f"{listed(columns)}; write {line}."
            )


def _no_part(part: str, column: Any, columns: Sequence[str], asker: Asker) -> str:
    near = difflib.get_close_matches(part, PARTS, n=1)
    if column in PARTS and part in columns:
        hint = f"the part stands first: write {asker.line('columns', {str(column): spelled_out(part)})}"
    elif near:
        hint = f"did you mean `{near[0]}`?"
    else:
        hint = f"write one of these, as in {asker.line('columns', {'prompt': spelled_out(str(column))})}"
    return f"`columns` has `{spelled_out(part)}`, and the parts of rows are {', '.join(PARTS)}; {hint}."
