r"""Reading a number off what stands in a text: its sign, 1,234 and 1 234, 3/4 and 2 1/2; and what is none, such as 2π.

A number that belongs to something larger (a power, a product, a range, a bound) has no value: it is not what is said.
"""

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

from qtarget.evaluate.grading.number_context import EAST_ASIAN, factor_behind, goes_on, sign_before
from qtarget.evaluate.grading.number_references import is_reference, may_be_setting
from qtarget.evaluate.grading.plain_text import plain

THIN = "\u00a0\u2000-\u200a\u202f"
NUMBER = re.compile(
    rf"\\?[^\W\d]\w*(?:(?:(?<=[ms])|(?<=ft))\^\{{?-?\d\}}?)?"
    rf"|(?P<mixed>\d{{1,30}}[ {THIN}]{{1,2}}\d{{1,30}}/\d{{1,30}})(?![\w/^]|[.,:]\d)"
    rf"|(?P<grouped>\d{{1,3}}(?:[ {THIN}]\d{{3}})+(?:\.\d+)?)(?![\w/^]|[.,:'’]\d)"
    rf"|(?P<other>(?:\d|\.(?=\d))(?:[\d.,:/^'’_]*[\d/^])?(?:[eE][-+]?\d+(?!\w))?)"
)
"""A word or a name such as H2O, or a number with the separators and fractions in it, which decide if it can be read."""
_PLAIN = re.compile(r"(\d+|\d{1,3}(?:,\d{3})+|\d{1,3}(?:'\d{3})+)?(\.\d+)?(?:[eE]([-+]?\d{1,3}))?")
FRACTION = re.compile(r"(?:(\d+) )?(\d+)/(\d+)")
FRAC = re.compile(
    r"(?P<before>\d\s{0,2})?\\[dtc]?frac\s?(?:{\s?(-?\d{1,30})\s?}\s?{\s?(\d{1,30})\s?}|(\d)(\d))(?![\d.])"
)
VULGAR = re.compile(r"(?P<before>\d\s{0,1})?(?P<sign>[¼½¾⅐-⅞])")
SLASH = re.compile(rf"(?<=\d)[ {THIN}]{{1,3}}/[ {THIN}]{{0,3}}(?=\d)|(?<=\d)/[ {THIN}]{{1,3}}(?=\d)")
_SPELLINGS = (
    (re.compile(r"\\[,;: ]"), "\u2009"),
    (re.compile(r"\{([,.])\}"), r"\1"),
    (re.compile(r"\\([$%#&_])"), r"\1"),
    (re.compile(r"\^?\{?\\(?:circ|degree)(?![A-Za-z])\}?"), "°"),
    (re.compile(r"(?<=\w)_\{(\w{1,20})\}"), r"_\1"),
)
EDGE = re.compile(rf"(?<=[{EAST_ASIAN}])(?=-?\.?\d)|(?<=\d)(?=[{EAST_ASIAN}])")
"""Where a number touches a word of a script without blanks."""
RAISED = "⁰¹²³⁴⁵⁶⁷⁸⁹"
SUPERSCRIPT = re.compile(rf"(?<=10)(⁻?)([{RAISED}]{{1,3}})(?![{RAISED}⁺⁻])")
_TIMES = r"[^\S\n]?(?:\\times|\\cdot|[×·⋅∙*]|x(?=[^\S\n]?10))[^\S\n]?"
POWER_OF_TEN = re.compile(
    rf"(?:(?<![\w.,/^_])(?P<times>\d{{1,3}}(?:,\d{{3}})*(?:\.\d+)?|\.\d+|\d{{4,30}}(?:\.\d+)?){_TIMES}|(?<![\w.,/^_'{{]))"
    r"10(?:\^|\*\*)(?:\{\s?(-?\d{1,3})\s?\}|\(\s?(-?\d{1,3})\s?\)|(-?\d{1,3}))(?![\d.^/!{(]|,\d)"
)
THOUSANDS = re.compile(r"(?<![\w.,/^'])(\d{1,9}(?:\.\d{1,9})?)k(?!\w)")
MONEY = re.compile(r"(?<=[$€£¥₹])([^\S\n]?\d{1,9}(?:\.\d{1,9})?)([KMB])(?!\w)")
MONEY_POWERS = {"K": 3, "M": 6, "B": 9}
VARIABLE_K = re.compile(r"(?<![^\W_])k(?![^\W_])")
MINUS = str.maketrans(dict.fromkeys("−–‒﹣－˗‐‑", "-") | {"’": "'"})
LONGEST_NUMBER = 60
"""Characters of a number that is read."""


class NumberReading(NamedTuple):
    """A number as it stands, and its value; None where it cannot be read."""

    text: str
    value: Fraction | None


def last_number(text: str) -> NumberReading:
    """The last number of a text that is no reference, empty where there is none. A year behind another number, as in
    "5 in 2019", leaves it open which of the two is meant."""
    text = _spelt(text)
    counting = (found for found in reversed(list(_numbers(text))) if not is_reference(text, *found.span()))
    last = next(counting, None)
    if last is None:
        return NumberReading("", None)
    if may_be_setting(text, *last.span()) and next(counting, None):
        return NumberReading(last[0], None)
    return _read(text, last)


def only_number(text: str) -> NumberReading:
    """The number of a text that holds no second one, and nothing that LaTeX sets."""
    text = _spelt(text)
    found = list(_numbers(text))
    if len(found) != 1 or re.search(r"[\\^{}]", text):
        return NumberReading(text.strip(), None)
    return _read(text, found[0])


def _numbers(text: str) -> Iterator[re.Match[str]]:
    return (found for found in NUMBER.finditer(text) if found.lastgroup)


def _spelt(text: str) -> str:
    r"""The text with one spelling of minus signs, of fractions and of LaTeX's spaces, and without fonts."""
    for pattern, one in _SPELLINGS:
        text = pattern.sub(one, text)
    text = VULGAR.sub(_of_vulgar, EDGE.sub(" ", plain(text).translate(MINUS)))
    text = POWER_OF_TEN.sub(_of_power, SUPERSCRIPT.sub(_of_superscript, text))
    text = MONEY.sub(lambda found: f"{found[1]}e{MONEY_POWERS[found[2]]}", text)
    text = text if VARIABLE_K.search(text) else THOUSANDS.sub(r"\1e3", text)
    return SLASH.sub("/", FRAC.sub(_of_frac, text))


def _of_frac(found: re.Match[str]) -> str:
    above, below = (found[2], found[3]) if found[2] else (found[4], found[5])
    return f"{_and_space(found['before'])}{above}/{below}"


def _of_superscript(found: re.Match[str]) -> str:
    digits = "".join(str(RAISED.index(sign)) for sign in found[2])
    return f"^{'-' if found[1] else ''}{digits}"


def _of_power(found: re.Match[str]) -> str:
    """5 × 10^3 as 5e3."""
    return f"{found['times'] or 1}e{found[2] or found[3] or found[4]}"


def _of_vulgar(found: re.Match[str]) -> str:
    above, _, below = unicodedata.normalize("NFKC", found["sign"]).partition("\u2044")
    return f"{_and_space(found['before'])}{above}/{below}"


def _and_space(before: str | None) -> str:
    return f"{before.strip()} " if before else ""


def _read(text: str, found: re.Match[str]) -> NumberReading:
    sign, number = sign_before(text, found.start()), found[0]
    shown = f"-{number}" if sign == -1 else number
    value = None if sign is None or goes_on(text, found.end()) else _value(number)
    return NumberReading(shown, None if value is None else (sign or 1) * value * factor_behind(text, found.end()))


def _value(number: str) -> Fraction | None:
    if len(number) > LONGEST_NUMBER:
        return None
    spaced = re.sub(rf"[ {THIN}]+", " ", number)
    if fraction := FRACTION.fullmatch(spaced):
        return _of_fraction(*(int(part or 0) for part in fraction.groups()), mixed=bool(fraction[1]))
    found = _PLAIN.fullmatch(spaced.replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    whole = re.sub(r"\D", "", found[1] or "0")
    return Fraction(f"{whole}{found[2] or ''}") * Fraction(10) ** int(found[3] or 0)


def _of_fraction(whole: int, above: int, below: int, mixed: bool) -> Fraction | None:
    """Nothing where the divisor is nought, or where the fraction beside a whole number is not less than one."""
    return None if below == 0 or (mixed and above >= below) else whole + Fraction(above, below)
