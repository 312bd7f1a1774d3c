r"""What stands around a number: its sign, words such as "million", and what makes it a part of something larger.

It is asked of a text in one spelling: minus signs are hyphens, without fonts.
"""

import re
from typing import Literal

from qtarget.evaluate.grading.denied import is_denied_behind

_WINDOW = 48
"""Characters around a number that are looked at, on its own line."""
_OPENS = re.compile(r"[\s$€£¥₹₩¢*`\"'“(\[]*$")
SIGN = re.compile(r"(?P<word>(?<![^\W_])(?:minus|negative)\s*)$|(?P<sign>[-+])\s*$", re.IGNORECASE)
COMMAND_BEFORE = re.compile(r"\\(?!(?:approx|simeq|sim|equiv|implies|therefore|item|to|[rR]ightarrow)$)[A-Za-z]+$")
TAG_OR_ARROW = re.compile(r"(?:<[/|]?\w[^<>\n]*|[-=>])>$")
_LISTED = re.compile(
    r"(?:\d[^\S\n]*(?:[,;&~]|and|or|to|through|thru|vs\.?|versus)|\d[^\S\n]?[A-Za-z%°]{1,12}\s(?:or|to))"
    r"[^\S\n]*(?:[A-Za-z]\s*=\s*)?[$*(\[ ]*$",
    re.IGNORECASE,
)
BOUND_BEFORE = re.compile(
    r"(?:(?<=\d\s)x|(?<=\d)x|\d\s?(?:feet|foot|ft|hours?|hrs?|minutes?|pounds?|lbs?|degrees?)(?:,|\sand)?"
    r"|(?<![^\W_])(?:not|never|than|least|most|nor|neither|between|plus|times|by|mod|log|ln|lg|sqrt|root|root of"
    r"|sin|cos|tan|exp|factorial of|over|under|up to|nearly|almost|below|above|exceeds|double|twice|triple|thrice|half"
    r"|(?:\d+|\d+\s?%|percent|half|third|quarter|fifth|tenth|double|square|cube|power|out|one|two|three|four|some|any)"
    r"\sof)|n['’]t|cannot)(?:\s(?:be|exactly|equal|equal to))?$",
    re.IGNORECASE,
)
"""Words that make the number behind them a bound, a part of a formula, or what the answer is not."""
EAST_ASIAN = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
COPULA = re.compile(r"[是为為はが은는여]\s?\Z")
"""Behind it, a minus is a sign."""
EAST_ASIAN_BEFORE = re.compile(
    r"(?:不是|并非|並非|不等于|不為|不为|非|少于|小于|大于|多于|至少|至多|最多|最少|超过|超過|不到|近|第|或|或者|到|至|和|与|乘|加|减|除|分之"
    r"|分の|から|または|と|や|또는|혹은|와|과|최소|최대)\s?\Z"
)
EAST_ASIAN_BEHIND = re.compile(
    r"\s?(?:[万萬亿億兆百만억백천조多余餘或]|千(?![克米瓦卡])|[\u3400-\u9fff]{0,2}半|分之|分の|倍的|以[上下内外]|到|至|から|より|未満|超|또는|이상|이하"
    r"|미만|초과|보다|[^\W\d_]{0,3}\s?(?:では(?:な|あり)|じゃ(?:な|あり))|[가-힣]{0,3}\s?아[니닙닌]|[\u3400-\u9fff]{0,2}(?:不对|不正确|[是]?错))"
)
"""What makes a number beside it a bound, a part of another number, or what the answer is not."""
OPERANDS = "/^×÷·±∓√≠≤≥<~{⁺⁻٬∙⋅∘"
MULTIPLIERS = {
    "hundred": 100,
    "thousand": 1000,
    "million": 10**6,
    "billion": 10**9,
    "trillion": 10**12,
    "dozen": 12,
}
FACTOR = re.compile(rf"[^\S\n]{{0,2}}-?(?P<word>{'|'.join(MULTIPLIERS)})s?(?!\w)", re.IGNORECASE)
GOES_ON = re.compile(
    r"[²³¹⁰⁴-⁹⁺⁻ⁿ^_!({]|\*{1,3}(?=[\w(\\])|[+](?!\s*\w{2})|:\d"
    r"|(?:[a-ln-zBD-IKMOPQRTUX-Z](?<![sghldt])|th|st|nd|rd|mn|bn|tn|mio|mrd|pi|sqrt|log|ln|sin|cos|[a-cnx-zX-Z]{2,3})"
    r"(?![^\W\d_])"
    r"|[^\S\n]*(?:[×÷·√π∞±≤≥≠∙⋅]|\\(?!(?:end|tag|implies|therefore|[lc]?dots|to|[rR]ightarrow|approx)(?![A-Za-z]))"
    r"[A-Za-z({\[]|<(?!/?[A-Za-z|][^<>\n]{0,60}>)|>|[+*/]\s*(?=[\d(\\$]|[A-Za-z](?![A-Za-z]))"
    r"|-\s*(?=[\d(\\]|[A-Za-z](?![A-Za-z'’])))"
    r"|[^\S\n]+(?:[xyzijkMB](?![\w'’])|or(?!\w)|and\sa(?!\w)|(?:mn|bn|mio|mrd|lakhs?|crores?|squared|cubed|factorial)(?!\w)"
    r"|[A-Za-ln-rt-z]\^|(?:is|was)\s(?:not|wrong|incorrect|false)|(?:isn|wasn)['’]t)"
)
"""Behind a number: what makes it a part of a power, a product, a sum or a bound, or takes it back."""


def sign_before(text: str, start: int) -> Literal[1, -1] | None:
    """The sign of the number that begins at `start`; None where it is a part of what stands before."""
    before = text[max(0, start - _WINDOW) : start].rsplit("\n", 1)[-1]
    opens = _OPENS.search(before)
    opening = opens[0] if opens else ""
    rest = before[: len(before) - len(opening)]
    sign = SIGN.search(rest)
    if sign is None or TAG_OR_ARROW.search(rest):
        return None if _belongs(rest, opening) else 1
    begin = start - len(before) + sign.start()
    is_first = not text[:begin].strip() if begin < _WINDOW else False
    spaced = any(blank.isspace() for blank in opening + sign[0]) and not sign["word"]
    if _is_binary(before[: sign.start()], sign[0].strip(), spaced, is_first):
        return None
    return 1 if sign["sign"] == "+" else -1


def _is_binary(before: str, sign: str, spaced: bool, is_first: bool) -> bool:
    """Whether a plus or minus joins two terms, or may: it is a sign where nothing stands that it could join."""
    if before.endswith("$") and before[-2:-1].isalnum():
        return True  # as in $x$-1
    bare = _OPENS.sub("", before)
    if not bare:
        return spaced and not is_first
    if bare[-1] in ")]" or (bare[-1].isalpha() and bare[-2:-1].isalpha()):
        return sign in "+-" and (spaced or before == bare)
    if TAG_OR_ARROW.search(bare) or COPULA.search(bare):
        return False
    return bare[-1].isalnum() or bare[-1] in "}%!°-+*|" + OPERANDS or (bare[-1] in ".?" and spaced)


def _belongs(rest: str, opening: str) -> bool:
    """Whether a number without a sign is a part of a formula, a list, a bound or a denial."""
    if not rest or TAG_OR_ARROW.search(rest):
        return False
    touches, last = not opening[:1].isspace() or "* " in opening, rest[-1]
    if last.isdigit() or (opening[:1] == "(" and (last.isalnum() or last == "_")):
        return True
    if touches and "*" in opening and last.isalnum():
        return True
    if (last in ")}—" and not opening) or (last == ")" and opening[0] == "("):
        return True
    if last == "~":
        return rest[:-1].rstrip()[-1:].isdigit()
    if last in OPERANDS or last == ">" or COMMAND_BEFORE.search(rest):
        return True
    return bool(_LISTED.search(rest + opening) or BOUND_BEFORE.search(rest) or EAST_ASIAN_BEFORE.search(rest))


def goes_on(text: str, end: int) -> bool:
    """Whether the number that ends at `end` is a part of what follows it."""
    behind = text[end : end + 2 * _WINDOW].split("\n", 1)[0]
    return (
        is_denied_behind(text, end) or GOES_ON.match(behind) is not None or EAST_ASIAN_BEHIND.match(behind) is not None
    )


def factor_behind(text: str, end: int) -> int:
    """What a word behind the number multiplies it by: 1000 for "thousand", 1 for most."""
    word = FACTOR.match(text[end : end + _WINDOW])
    return MULTIPLIERS[word["word"].lower()] if word else 1
