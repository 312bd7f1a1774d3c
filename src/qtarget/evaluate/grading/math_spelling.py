r"""Spelling expressions as Math-Verify reads them: signs of Unicode, groups of digits, colours, numerals with a base.

What is rewritten means the same before and after; where that is not sure, it is left as it is.
"""

import re
import unicodedata

from qtarget.evaluate.grading.math_digits import grouped, numerals

COMMANDS = {
    "−": "-", "–": "-", "‒": "-", "﹣": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "∙": r"\cdot ",
    "÷": "/", "⁄": "/", "∕": "/", "±": r"\pm ", "∓": r"\mp ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ",
    "⩾": r"\ge ", "≠": r"\neq ", "≈": r"\approx ", "≃": r"\approx ", "≅": r"\approx ", "∞": r"\infty ",
    "∅": r"\emptyset ", "°": r"^{\circ}", "º": r"^{\circ}", "˚": r"^{\circ}", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "∖": r"\setminus ", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}", "ℚ": r"\mathbb{Q}",
    "ℕ": r"\mathbb{N}", "ℂ": r"\mathbb{C}", "∶": ":", "∣": "|", "ℯ": "e", "𝑒": "e", "ⅈ": "i", "′": "'",
    "⟨": r"\langle ", "⟩": r"\rangle ", "⌊": r"\lfloor ", "⌋": r"\rfloor ", "⌈": r"\lceil ", "⌉": r"\rceil ",
    "∗": "*", "％": r"\%", "→": r"\to ", "⇒": r"\Rightarrow ",
}  # fmt: skip
GREEK = "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ"
NAMES_OF_GREEK = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
    "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
)
GREEK_COMMANDS = {sign: f"\\{name} " for sign, name in zip(GREEK, NAMES_OF_GREEK.split(), strict=True)}
LETTERS = str.maketrans(COMMANDS | GREEK_COMMANDS)
BLANKS = re.compile(r"[\u00a0\u2000-\u200a\u202f\u205f\u3000]")
UPPER, LOWER = "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱˣ", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎"
FRACTIONS = {chr(code) for code in (0xBC, 0xBD, 0xBE, *range(0x2150, 0x215F))}
ROOT = re.compile(r"([√∛∜])\s*+(\d+(?:\.\d+)?|[a-zA-Zπ])?")
ROOTS = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}
STYLES = re.compile(
    r"\\(?:textcolor|colorbox)\s*\{[^{}]*\}|\\color\s*\{[^{}]*\}|\\(?:underline|uline|boldsymbol|bm|pmb|mathbf"
    r"|mathit|mathsf"
    r"|mathnormal|textbf|textit|mathrm|text|textrm|mbox|rm|bf)(?=\s*\{(?:[^{}A-Za-z\\]*\d[^{}A-Za-z\\]*|\\pi\s*)\})"
    r"|\\(?:underline|uline|boldsymbol|bm|pmb)(?=\s*\{)|\\(?:displaystyle|textstyle|bfseries|large|Large)(?![A-Za-z])"
)
"""Commands that only set colour, font or line; those of text only around a number or π, as other text is a unit."""
BARE_BRACES = re.compile(r"(?<![\w}\]^_\\])\{((?:[^{}A-Za-z\\]*\d[^{}A-Za-z\\]*|\\pi\s*))\}(?![{^_])")
ROMAN = r"\\(?:mathrm|mathit|mathbf|mathsf|text|rm)\s*\{\s*([ei])\s*\}"
SPELLING_RULES = (
    (re.compile(rf"(?<=[A-Za-z]){ROMAN}"), r" \1"),
    (re.compile(rf"{ROMAN}(?=[A-Za-z])"), r"\1 "),
    (re.compile(ROMAN), r"\1"),
    (re.compile(r"(?<=[\d)}])!\s*=(?!=)"), "! ="),
    (re.compile(r"(?<=[A-Za-z])\s*!="), r" \\neq "),
    (re.compile(r"\\varnothing(?![A-Za-z])|\\\{\s*\\\}"), r"\\emptyset "),
    (re.compile(r"\\degree(?![A-Za-z])|\^\s*\{?\s*\\degree\s*\}?"), r"^{\\circ}"),
    (re.compile(r"\\(?:thickapprox|approxeq|simeq|doteq)(?![A-Za-z])"), r"\\approx "),
    (re.compile(r"\\(?:leqslant|leqq)(?![A-Za-z])"), r"\\le "),
    (re.compile(r"\\(?:geqslant|geqq)(?![A-Za-z])"), r"\\ge "),
    (re.compile(r"(?<=\S)~|~(?=\S)|\\(?:thinspace|enspace|quad|qquad|:|;)(?![A-Za-z])"), " "),
    (re.compile(r"(?<=[\w)}])\s*\*\*\s*(?=[\w({-])"), "^"),
    (re.compile(r"\^\s*(-?\d{2,}|-\d)(?![\d.])"), r"^{\1}"),
    (re.compile(r"(?<![\\A-Za-z])pi(?![A-Za-z])"), r"\\pi "),
    (re.compile(r"^\s*[a-z]\s*\\in(?![A-Za-z])\s*(?=[(\[\\])"), ""),
    (re.compile(r"^\s*\\text\s*\{\s*(?:the\s)?(?:final\s)?answer(?:\sis)?\s*:?\s*\}", re.IGNORECASE), ""),
    (re.compile(r"(?<![\w.)}])(\d+)(?:\s|\\,|\\ )+(?=\\[dt]?frac\s*\{\d+\}\s*\{\d+\}|\\[dt]?frac\s*\d\s*\d)"), r"\1"),
)
SCALES = {
    "hundred": "100",
    "thousand": "1000",
    "million": "10^{6}",
    "billion": "10^{9}",
    "trillion": "10^{12}",
    "dozen": "12",
}
SCALED = re.compile(
    rf"(?<=[\d}}])(?:\s|\\,|\\ |~)*(\\(?:text|mathrm|textrm|mbox)\s*\{{)?\s*({'|'.join(SCALES)})(?![A-Za-z])"
)
"""A word behind a number that multiplies it, alone or at the beginning of a unit."""
MIXED_NUMBER = re.compile(r"(?<![\w.)}])(\d+)(?:\s|\\,|\\ )+(\d+)\s*/\s*(\d+)(?![\d.^!])")
ENDS = re.compile(r"(?:\s|(?<!\\)[.,;$])+$")


def spelled(expression: str) -> str:
    """An expression as Math-Verify reads it. The time is linear in its length."""
    text = _roots(_scripts(_fractions(BLANKS.sub("~", expression))))
    text = STYLES.sub("", text.translate(LETTERS))
    text = grouped(BARE_BRACES.sub(r"\1", text))
    for spelling, plain in SPELLING_RULES:
        text = spelling.sub(plain, text)
    text = MIXED_NUMBER.sub(_mixed, SCALED.sub(_scaled, text))
    return ENDS.sub("", numerals(text)).strip(" $")


def _mixed(number: re.Match[str]) -> str:
    """A whole number and a fraction below 1 as one number: 1 1/4."""
    whole, above, below = number.groups()
    return rf"{whole}\frac{{{above}}}{{{below}}}" if int(above[:20]) < int(below[:20]) else number[0]


def _scaled(word: re.Match[str]) -> str:
    return rf"\times {SCALES[word[2]]}{word[1] or ''}"


def _fractions(text: str) -> str:
    """One sign of a fraction as a fraction: ½, ⅔."""
    parts = [unicodedata.normalize("NFKC", sign).split("⁄") if sign in FRACTIONS else sign for sign in text]
    return "".join(part if isinstance(part, str) else rf"\frac{{{part[0]}}}{{{part[1]}}}" for part in parts)


def _scripts(text: str) -> str:
    """Raised and lowered signs as powers and subscripts: x², 203₅."""
    for signs, mark in ((UPPER, "^"), (LOWER, "_")):
        text = re.sub(f"[{signs}]+", lambda run, mark=mark: f"{mark}{{{_level(run[0])}}}", text)
    return text


def _level(run: str) -> str:
    return unicodedata.normalize("NFKC", run).replace("−", "-")


def _roots(text: str) -> str:
    """Roots by sign, of the brackets, the braces, the digits or the letter behind them."""
    signs, opened = list(text), []
    for at, sign in enumerate(text):
        if sign == "(":
            opened.append(at)
        elif sign == ")" and opened:
            start = opened.pop()
            if text[start - 1 : start] and text[start - 1] in ROOTS:
                signs[start], signs[at] = "{", "}"
    return ROOT.sub(lambda root: ROOTS[root[1]] + (f"{{{root[2]}}}" if root[2] else ""), "".join(signs))
