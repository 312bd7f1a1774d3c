r"""What touches a box inside its formula, as a sign, a factor, a power or a bound; and another number behind "or"."""

import re

from qtarget.evaluate.grading.boxed import Box
from qtarget.evaluate.grading.number_context import TAG_OR_ARROW
from qtarget.evaluate.grading.number_reading import only_number

LINE_BESIDE = 80
"""Characters of the line beside a box that are looked at."""
GAPS = r"[^\S\n]|~|\\[,;:! ]|\\q?quad(?![A-Za-z])"
SETS_BEFORE = re.compile(
    rf"(?:{GAPS}|\\(?:(?:display|text)style|left|bf|rm|bfseries|large|Large)(?![A-Za-z])|\\color\s?\{{\w*\}}|\*\*"
    r"|\\(?:text|text[a-z]{2}|math[a-z]{2}|mbox|boldsymbol|bm|underline|ensuremath|boxed|fbox)\s?\{|(?:(?<=[\s$=])|^)\{)*\Z"
)
SETS_BEHIND = re.compile(rf"(?:{GAPS}|\}})*+")
"""What only sets a font, or a blank."""
OPERATOR_COMMANDS = r"\\(?:pm|mp|times|cdot|div|sqrt|pi|log|ln|exp|sin|cos|tan|[lg]t|[lg]eq?|[lg]eqslant|neq?|infty)"
TOUCHES_BEFORE = re.compile(
    rf"(?:[{{√±∓×÷·≠≤≥<^/+]|{OPERATOR_COMMANDS}|(?<=[\w)}}])\*|[\^_]|(?<![^\W_])(?:minus|negative|plus|times))\Z",
    re.IGNORECASE,
)
FACTOR_BEFORE = re.compile(r"(?:\d:?|(?<![^\W\d_])(?<!\\)[a-zA-Z]|π|(?<!\\)[)}])\Z")
"""A factor, where it touches the box or both stand in a formula."""
WORDS_IN_BRACES = re.compile(
    r"\\(?:text\w*|mbox|mathrm|begin|end|color|[hv]space|tag|boxed|fbox)\*?\s?(?:\{[^{}]*\})+\Z"
)
DASH_BEFORE = re.compile(r"(?P<word>(?<!\\)[^\W\d_]{2}[*:.,]*[^\S\n]+)?(?P<sign>[-−–])\Z")
TOUCHES_BEHIND = re.compile(
    rf"\^(?!\s?\{{?\s?\\?(?:circ|degree|prime))|_(?=[{{\d])|[²³√π×÷·±≤≥]|(?:{OPERATOR_COMMANDS}|\\[dtc]?frac|\\[pb]?mod)(?![A-Za-z])"
    r"|<(?!/?[A-Za-z|][^<>\n]{0,60}>)|>|[+/]\s?(?=[\d(\\$]|[A-Za-z](?![A-Za-z]))|\*(?=[\d(\\]|[a-z](?![a-z]))"
    r"|[-−–]\s?(?=[\d(\\])|:?\d|!\s?(?:\$|\\[)\]]|[-+*/=^])|\((?=-?(?:\d|[A-Za-z](?![A-Za-z])))"
)
FACTOR_BEHIND = re.compile(r"(?:[-−–]\s?)?[abcefijknpqrtuvwxyz](?![\w'’])")
"""A variable; the other letters may be units."""
ANOTHER = r"(?:-?\d[\d.,/]*|\\[dt]?frac\{\d+\}\{\d+\})"
MAYBE = r"or\s(?:(?:maybe|perhaps|possibly|even|also|else|rather)\s)?"
OR_BEHIND = re.compile(rf"[\s$*)\\\]]*?\b{MAYBE}[\s$(\\]*?(?P<other>{ANOTHER})", re.IGNORECASE)
OR_BEFORE = re.compile(rf"(?P<other>{ANOTHER})[\s$)\\]*\b{MAYBE}[\s$(\\*]*\Z", re.IGNORECASE)


def is_part(text: str, box: Box) -> bool:
    r"""Whether a box is only a part of its formula: ``-\boxed{5}``, ``\frac{1}{\boxed{5}}``, ``x > \boxed{5}``."""
    before, behind = _line(text, box)
    return _touched_before(before) or _touched_behind(behind, _in_formula(before))


def is_one_of_two(text: str, box: Box) -> bool:
    r"""Whether another number stands beside a box, as in ``\boxed{5} or 6``."""
    before, behind = _line(text, box)
    found = OR_BEFORE.search(before) or OR_BEHIND.match(behind)
    if found is None:
        return False
    other = only_number(found["other"].rstrip(".,"))
    return other.value is None or other.value != only_number(box.inside or "").value


def _line(text: str, box: Box) -> tuple[str, str]:
    """What stands before the box and behind it on its line."""
    before = text[max(0, box.start - LINE_BESIDE) : box.start].rsplit("\n", 1)[-1]
    return before, text[box.end : box.end + LINE_BESIDE].split("\n", 1)[0]


def _in_formula(before: str) -> bool:
    dollars = before.replace("$$", "$").replace(r"\$", "").count("$")
    return dollars % 2 == 1 or any(before.rfind(f"\\{one}") > before.rfind(f"\\{other}") for one, other in ("()", "[]"))


def _touched_before(before: str) -> bool:
    setting = SETS_BEFORE.search(before)
    rest = before[: setting.start()] if setting else before
    apart, formula = len(before) > len(rest) and before[-1].isspace(), _in_formula(before)
    if dash := DASH_BEFORE.search(rest):
        is_item = apart and not rest[: dash.start()].strip()
        return not is_item and (formula or not apart or not dash["word"])
    if rest.endswith(">"):
        return rest.strip() != ">" and not TAG_OR_ARROW.search(rest)
    if WORDS_IN_BRACES.search(rest):
        return False
    return bool(TOUCHES_BEFORE.search(rest) or ((formula or not apart) and FACTOR_BEFORE.search(rest)))


def _touched_behind(behind: str, formula: bool) -> bool:
    setting = SETS_BEHIND.match(behind)
    start = setting.end() if setting else 0
    if TOUCHES_BEHIND.match(behind, start):
        return True
    return (formula or start == 0) and FACTOR_BEHIND.match(behind, start) is not None
