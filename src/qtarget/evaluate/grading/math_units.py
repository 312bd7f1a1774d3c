r"""Telling a variable behind a number from a unit, which Math-Verify drops: 20t is not 20, and 5 m is 5."""

import re

UNIT_GAP = r"(?:\s|~|\\[,;: ])"
BARE_LETTERS = re.compile(rf"(?<=[\d}})\]])(?P<blank>{UNIT_GAP}*+)(?P<letters>[A-Za-z]{{1,2}}){UNIT_GAP}*\Z")
BEHIND_COMMAND = re.compile(
    rf"(?P<command>\\[A-Za-z]+)(?P<blank>{UNIT_GAP}++)(?P<letters>[A-Za-z]{{1,2}}){UNIT_GAP}*\Z"
)
UNIT = re.compile(r"\\(?:text|mathrm|mbox|textrm)\s?\{[\s~]*(?P<letters>[A-Za-z]+)[\s.]*\}")
UNITS = {"m", "g", "s", "h", "l"}
"""Letters that may be a unit in an answer, where a blank stands before them and the gold has none."""
LONG_UNITS = {
    "cm",
    "mm",
    "km",
    "dm",
    "kg",
    "mg",
    "gm",
    "ml",
    "ft",
    "lb",
    "hr",
    "yr",
    "cc",
    "mt",
    "rs",
    "am",
    "pm",
    "st",
}
LONG_UNITS |= {"th", "rd", "mp", "lt"}


def with_variables(gold: str, answer: str) -> tuple[str, str]:
    r"""Both with the bare letters behind their number kept as variables, as ``20{t}``."""
    return _kept(gold), BARE_LETTERS.sub("", answer) if _is_unit(answer, gold) else _kept(answer)


def _found(text: str) -> re.Match[str] | None:
    return BARE_LETTERS.search(text) or BEHIND_COMMAND.search(text)


def _is_unit(answer: str, gold: str) -> bool:
    """Whether the letter behind an answer is the gold's unit, or may be one that the gold leaves out."""
    found = BARE_LETTERS.search(answer)
    if found is None or _found(gold):
        return False
    if unit := UNIT.search(gold):
        return unit["letters"] == found["letters"]
    return found["blank"] != "" and found["letters"] in UNITS


def _kept(text: str) -> str:
    found = _found(text)
    is_variable = found and found["letters"] not in LONG_UNITS
    return f"{text[: found.start('letters')]}{{{found['letters']}}}" if found and is_variable else text
