"""Digits in groups, as in 12 345, and numerals with their base, as in 203 in base 5."""

import re

DIGIT_GAP = (
    r"(?:\\[,;:!]|\\ |\\thinspace\s?|\\enspace\s?|\{\s*,\s*\}(?:\\!)?|,\\!\s?|\{\s*\\[,;:]\s*\}|\{\s*\}"
    r"|\\hspace\{[^{}]{0,9}\}|[ ~'’٬˙])"
)
GROUPS = re.compile(
    rf"(?<![\w.,^_])(\d{{1,3}})(?:({DIGIT_GAP})(?=\d{{3}}(?!\d)))(\d{{3}})(?:\2\d{{3}})*+(?![\d/])(?!\s*/)"
)
COMMAS = re.compile(r"(?<![\w.,])\d{1,3}(?:,\d{3})+(?!\d)(?!,\s*\d)")
INDIAN = re.compile(r"(?<![\w.,])\d{1,2}(?:,\d{2})+,\d{3}(?![\d,])")
SURROUNDED = re.compile(r"[(\[{,;]|\\(?:cup|cap|in|text\s?\{\s*(?:and|or))|\b(?:and|or)\b")
BASES = {
    word: base
    for base, word in enumerate(("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"), 2)
} | {"twelve": 12, "sixteen": 16}
BASE = rf"\d{{1,2}}|{'|'.join(BASES)}"
LOWERED = (
    rf"\s*_\s*(?:\{{\s*\(?\s*(?:\\(?:text|mathrm|rm)\s?\{{?\s*)?(?:base\s?)?(?P<base>{BASE})\s*\}}?\s*\)?\s*\}}"
    rf"|(?P<one>\d)|\\(?:text|mathrm)\s?\{{\s*(?P<other>{BASE})\s*\}})"
)
NAMED_BASE = rf"\s*\\text\s?\{{\s*(?:in\s)?base[\s-]?(?P<word>{BASE})?\s*\}}\s*(?P<behind>\d{{1,2}})?"
NUMERAL = re.compile(
    rf"(?<![\w^\\.])(?P<open>[({{]{{1,2}}|\\text\s?\{{)?(?P<digits>\d[\dA-F]*(?:\.\d+)?|[A-F][\dA-F]+)(?(open)[)}}]{{1,2}})"
    rf"(?:{LOWERED}|{NAMED_BASE})(?![\w^])"
)
"""A number, perhaps in brackets, with its base below it or behind it in words."""


def grouped(text: str) -> str:
    r"""Groups of three digits as one number, whatever stands between them: ``12\,345``, ``12 345``, ``12{,}345``.

    Groups that commas part stay where they may be a list, unless a group begins with 0.
    """
    text = GROUPS.sub(lambda number: number[0].replace(number[2], ""), text)
    text = INDIAN.sub(lambda number: number[0].replace(",", ""), text)
    listed = len(COMMAS.findall(text)) > 1 or SURROUNDED.search(COMMAS.sub("", text)) is not None
    return COMMAS.sub(
        lambda number: number[0] if listed and ",0" not in number[0] else number[0].replace(",", ""), text
    )


def numerals(text: str) -> str:
    r"""Each numeral with a base as a symbol of its own, so that neither digits nor base are lost: ``203_5``."""
    return NUMERAL.sub(_symbol, text)


def _symbol(numeral: re.Match[str]) -> str:
    base = numeral["base"] or numeral["one"] or numeral["other"] or numeral["word"] or numeral["behind"] or ""
    number = BASES.get(base) or int(base or 0)
    if number < 2 or (numeral["digits"][0].isalpha() and number < 11):
        return numeral[0]
    digits = numeral["digits"].lstrip("0") or "0"
    code = "".join(f"{int(digit, 16) + 10}" if digit != "." else "99" for digit in digits)
    return rf"\omega_{{{number + 10}{code}}}"
