"""The options of a user's own multiple-choice rows, and which of them is right."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qtarget.evaluate.grading.option_names import letter
from qtarget.evaluate.tasks.fields import Row

OPTION_NAMES = ("options", "choices")
SPELLINGS_OF_COLUMNS = ("{}", "option_{}", "option{}", "choice_{}", "op{}")
"""How columns of one option each are named, by its letter: A, option_a, opa, …"""
MOST_OPTIONS = 26


class Lettering(NamedTuple):
    """How rows number their options.

    Attributes:
        firsts: the numbers that the first option may have, by what the rows show: 0, 1, either, or neither.
        remark: for the reader of results.
        is_shown: some answers are numbers for certain, so that digits that are an option's text may be one too.
        is_named: the user says it, so that every number that may name an option does.
    """

    firsts: tuple[int, ...]
    remark: str = ""
    is_shown: bool = False
    is_named: bool = False


def options_in(row: Row, fields: Mapping[str, str]) -> tuple[str, ...]:
    """The options of a row: a list, texts by letter, or columns of one option each.

    Raises:
        ValueError: fewer than two, more than 26, or something that is no text.
    """
    name = _list_of_options(row, fields)
    options = [row[each] for each in option_fields(row, fields)] if name is None else _in_field(row.get(name), name)
    texts = [str(option).strip() if isinstance(option, str | int | float) else "" for option in options]
    if not 2 <= len(texts) <= MOST_OPTIONS or not all(texts):
        where = f"for `{name}`" if name else "in columns A, B, …, and no `options`"
        raise ValueError(f"has {list(options)!r} {where}, where two options or more are expected (--fields options=…)")
    return tuple(texts)


def _in_field(value: Any, name: str) -> Sequence[Any]:
    if isinstance(value, dict) and isinstance(value.get("text"), list):  # as ARC writes them
        return value["text"]
    if isinstance(value, dict):
        given = {key: text for key, text in value.items() if text is not None}
        if [key.upper() for key in given] != [letter(place) for place in range(len(given))]:
            raise ValueError(f"has {value!r} for `{name}`, where the letters A, B, … are expected as keys")
        return list(given.values())
    if not isinstance(value, list | tuple):
        raise ValueError(f"has {value!r} for `{name}`, where a list of options is expected")
    return value


def option_fields(row: Row, fields: Mapping[str, str]) -> tuple[str, ...]:
    """The fields that hold the options of a row: one with all of them, or one of each."""
    name = _list_of_options(row, fields)
    if name is not None:
        return (name,)
    spelled = {str(name).lower(): name for name in row}
    for spelling in SPELLINGS_OF_COLUMNS:
        names = [spelled.get(spelling.format(letter(place).lower())) for place in range(MOST_OPTIONS)]
        present = [name for name in names if name is not None and row[name] not in (None, "")]
        if present and names[: len(present)] == present:
            return tuple(present)
    return ()


def _list_of_options(row: Row, fields: Mapping[str, str]) -> str | None:
    spelled = {name.casefold(): name for name, value in row.items() if value is not None}
    return fields.get("options") or next((spelled[name] for name in OPTION_NAMES if name in spelled), None)


def lettering_of(rows: Sequence[Row], answer: str, fields: Mapping[str, str]) -> Lettering:
    """Whether numbers that name options begin at 0 or at 1, as all rows together show it.

    Raises:
        ValueError: the rows do not show it.
    """
    if "options_from" in fields:
        if str(fields["options_from"]) not in ("0", "1"):
            raise ValueError(
                f"--fields options_from={fields['options_from']}: write 0 or 1, the number of the first option."
            )
        return Lettering((int(fields["options_from"]),), is_shown=True, is_named=True)
    given: list[tuple[Any, tuple[str, ...]]] = [(row.get(answer), _options(row, fields)) for row in rows]
    certain = [(int(value), len(options)) for value, options in given if is_number(value, options)]
    numbers = certain or [(int(value), len(options)) for value, options in given if _is_whole(value)]
    firsts = _possible([(number, count) for number, count in numbers if 0 <= number <= count])
    if certain and len(firsts) != 1:
        raise ValueError(
            f"its rows number their options in `{answer}`, and whether from 0 or from 1 they do not show; write "
            "--fields options_from=0, or options_from=1"
        )
    remark = f"options are numbered from {firsts[0]}" if numbers and len(firsts) == 1 else ""
    return Lettering(firsts, remark, is_shown=bool(certain))


def _possible(numbers: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The numbers that a first option may have, where options so many as stand beside them have these numbers."""
    from_zero, from_one = all(number < count for number, count in numbers), all(number > 0 for number, _ in numbers)
    return (0,) * from_zero + (1,) * from_one


def is_number(value: Any, options: Sequence[str]) -> bool:
    """Whether an answer names its option by a number for certain: one that is no option's text."""
    is_digits = _is_whole(value) or (isinstance(value, str) and value.strip().isdecimal())
    return is_digits and bool(options) and not any(_says(option, value) for option in options)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer()


def _says(option: str, value: Any) -> bool:
    """Whether an option's text is an answer, or the same number: "2.0" is 2."""
    if isinstance(value, str):
        return option == value.strip()
    try:
        return float(option) == value
    except ValueError:
        return False


def _options(row: Row, fields: Mapping[str, str]) -> tuple[str, ...]:
    try:
        return options_in(row, fields)
    except ValueError:  # it is said where the row is read
        return ()


def gold_place(raw: Any, options: tuple[str, ...], lettering: Lettering, name: str = "answer") -> str:
    """The letter of the right option, which a row names in the field `name` by its letter, its number or its text.

    Raises:
        ValueError: it names none, or may name two.
    """
    shown = ", ".join(f"{letter(place)}. {option}" for place, option in enumerate(options))
    texts = {letter(place) for place, option in enumerate(options) if _says(option, raw)}
    texts |= {raw.strip().upper()} & set(map(letter, range(len(options)))) if isinstance(raw, str) else set()
    numbers = _by_number(raw, options, lettering)
    if texts and numbers - texts and not lettering.is_named:
        raise ValueError(
            f"has the answer {raw!r} in `{name}`, which is the text of {_either(texts)} and the number of "
            f"{_either(numbers - texts)} of its options {shown}; write the letter of the right one, as in "
            f'"{name}": "{min(texts)}", or, where numbers are those of options, --fields options_from=0 (or 1)'
        )
    named = numbers if numbers and (lettering.is_named or not texts) else texts
    if len(named) != 1:
        what = "names none of" if not named else "may be more than one of"
        raise ValueError(f"has the answer {raw!r}, which {what} its options {shown}")
    return named.pop()


def _by_number(raw: Any, options: Sequence[str], lettering: Lettering) -> set[str]:
    """The letters of the options that an answer may name by their number."""
    if not (_is_whole(raw) or (isinstance(raw, str) and raw.strip().isdecimal())):
        return set()
    if isinstance(raw, str) and not lettering.is_shown:
        return set()
    places = {int(raw) - first for first in lettering.firsts}
    return {letter(place) for place in places if place in range(len(options))}


def _either(letters: set[str]) -> str:
    return " or ".join(sorted(letters))


def with_letters(text: str, options: Sequence[str]) -> str:
    """A question with its options behind it, a line each: ``A. text``."""
    return "\n".join([text, *(f"{letter(place)}. {option}" for place, option in enumerate(options))])
