"""Leaving out the punctuation of a text, and no sign that means something: -5 is not 5, nor C++ the letter C."""

import re

ONE_SIGN = str.maketrans("，．！？：；（）‘’", ",.!?:;()''", "")
EMPTY_SIGNS = re.compile(r"[“”„«»¿¡。、「」『』]")
"""Signs that mean nothing anywhere."""
BETWEEN_NUMBERS = r"(?<=\d)[.,:;!?]++\s*+(?=\d)"
INSIDE = r"(?<=\w)[.:'](?=\w)|(?<!\w)[.,](?=\w)"
"""Inside a number or a name, or at its beginning: 3.5, 10:30, Node.js, don't, .5, .NET."""
MEANT = re.compile(
    rf"(?P<meant>{BETWEEN_NUMBERS}|{INSIDE}|(?<=\d),(?=\w)|(?<=[A-Za-z]),(?=\d)|(?<=\w)!(?=\w)|(?<!\w)!(?=\w)"
    r"|(?<=\d)(?:!|…|\.{2,})|(?<=\b[a-z])!)"
    r"|[.,:;!?…]|(?<=[^\W\d_]{2})-(?=[^\W\d_]{2})"
)
"""Signs that mean something; and, not so named, those that end or part words."""
QUOTED = re.compile(r"(?<!\w)(?P<quote>['\"])(?=\S)(?P<inside>[^'\"]*+(?:(?<=\w)'(?=\w)[^'\"]*+)*+)(?P=quote)(?!\w)")
WRAPS = ("***", "**", "*", "___", "__", "_", "`", "$")


def without_punctuation(text: str) -> str:
    r"""The text with a space for each sign of punctuation, where that parts or ends words.

    Left out are . , ; : ! ? … and typographic quotes; quotes, brackets and Markdown's marks that stand around the
    whole or, for quotes, around words in it; and the hyphen of "well-known". Kept are all others (+ - # % $ / ^ & @
    and so on), and these where they may be a part of a number or a name: 3.5, 1,000, 10:30, 5!, 5', .NET, [1,2).
    """
    text = text.translate(ONE_SIGN)
    before = None
    while before != text:
        before = text
        text = MEANT.sub(lambda sign: sign["meant"] or " ", QUOTED.sub(r" \g<inside> ", EMPTY_SIGNS.sub(" ", text)))
        text = _unwrapped(text.strip())
    return text


def _unwrapped(text: str) -> str:
    """Without marks or round brackets around the whole. A pair of numbers in brackets keeps them."""
    for mark in WRAPS:
        inside = text[len(mark) : -len(mark)]
        if text.startswith(mark) and text.endswith(mark) and mark not in inside and inside.strip():
            return inside
    inside = text[1:-1]
    is_pair = text.startswith("(") and text.endswith(")") and not re.search(r"[(),]", inside)
    return inside if is_pair and inside.strip() else text
