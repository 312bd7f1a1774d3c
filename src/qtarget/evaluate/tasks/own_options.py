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
    """How rows number their options: the first number, and a remark for the reader of results."""

    first: int
    remark: str


def options_in(row: Row, fields: Mapping[str, str]) -> tuple[str, ...]:
    """The options of a row: a list, texts by letter, or columns of one option each.

    Raises:
        ValueError: fewer than two, more than 26, or something that is no text.
    """
    name = fields.get("options") or next((name for name in OPTION_NAMES if row.get(name) is not None), None)
    options = _in_columns(row) if name is None else _in_field(row.get(name), name)
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


def _in_columns(row: Row) -> list[Any]:
    lower = {str(name).lower(): value for name, value in row.items()}
    for spelling in SPELLINGS_OF_COLUMNS:
        found = [lower.get(spelling.format(letter(place).lower())) for place in range(MOST_OPTIONS)]
        present = [option for option in found if option not in (None, "")]
        if present and found[: len(present)] == present:
            return present
    return []


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
        return Lettering(int(fields["options_from"]), "")
    numbered = [(int(str(row[answer])), _count(row, fields)) for row in rows if is_number(row.get(answer), row, fields)]
    if not numbered:
        return Lettering(0, "")
    zero, last = any(number == 0 for number, _ in numbered), any(number == count for number, count in numbered)
    if zero == last:
        raise ValueError(
            f"its rows number their options in `{answer}`, and whether from 0 or from 1 they do not show; write "
            "--fields options_from=0, or options_from=1"
        )
    return Lettering(0 if zero else 1, f"options are numbered from {0 if zero else 1}")


def is_number(value: Any, row: Row, fields: Mapping[str, str]) -> bool:
    """Whether an answer names its option by a number: one that is no option's text."""
    is_digits = (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, str) and value.isdecimal()
    )
    try:
        return is_digits and (isinstance(value, int) or str(value) not in options_in(row, fields))
    except ValueError:  # it is said where the row is read
        return False


def _count(row: Row, fields: Mapping[str, str]) -> int:
    return len(options_in(row, fields))


def gold_place(gold: str, raw: Any, options: tuple[str, ...], lettering: Lettering) -> str:
    """The letter of the right option, which rows name by its letter, its number or its text.

    Raises:
        ValueError: it names none, or may name two.
    """
    named = {letter(place) for place, option in enumerate(options) if isinstance(raw, str) and option == gold}
    if len(gold) == 1 and gold.upper() in map(letter, range(len(options))) and isinstance(raw, str):
        named.add(gold.upper())
    if not named and gold.isdecimal() and int(gold) - lettering.first in range(len(options)):
        named.add(letter(int(gold) - lettering.first))
    if len(named) != 1:
        shown = ", ".join(f"{letter(place)}. {option}" for place, option in enumerate(options))
        what = "names none of" if not named else "may be more than one of"
        raise ValueError(f"has the answer {gold!r}, which {what} its options {shown}")
    return named.pop()


def with_letters(text: str, options: Sequence[str]) -> str:
    """A question with its options behind it, a line each: ``A. text``."""
    return "\n".join([text, *(f"{letter(place)}. {option}" for place, option in enumerate(options))])
