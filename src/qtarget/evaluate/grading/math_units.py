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

UNIT_SPELLINGS = {
    "m": "m meter meters metre metres", "cm": "cm centimeter centimeters centimetre centimetres",
    "mm": "mm millimeter millimeters millimetre millimetres", "km": "km kilometer kilometers kilometre kilometres",
    "in": "inch inches", "ft": "ft foot feet", "yd": "yd yard yards", "mi": "mile miles",
    "g": "g gram grams", "kg": "kg kilogram kilograms", "mg": "mg milligram milligrams", "lb": "lb lbs pound pounds",
    "oz": "oz ounce ounces", "s": "s sec second seconds", "min": "min minute minutes", "h": "h hr hrs hour hours",
    "day": "day days", "week": "week weeks", "month": "month months", "year": "yr yrs year years",
    "l": "l liter liters litre litres", "ml": "ml milliliter milliliters millilitre millilitres",
    "cent": "cent cents", "dollar": "dollar dollars",
}  # fmt: skip
UNIT_OF = {word: unit for unit, words in UNIT_SPELLINGS.items() for word in words.split()}
"""Units by every way to write them; what is also another word, as "in", is left out."""


def has_other_unit(gold: str, answer: str) -> bool:
    r"""Whether both name a unit, and not the same: then equal numbers are different amounts, as of ``5\text{ m}`` and
    ``5\text{ cm}``. Math-Verify drops units."""
    one, other = (UNIT_OF.get(found["letters"]) if (found := UNIT.search(text)) else None for text in (gold, answer))
    return one is not None and other is not None and one != other


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
