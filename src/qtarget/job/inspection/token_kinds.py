"""Tokens by kind: where a loss is far above its median, the rows may be wrong in one way again and again."""

import re

TOKEN_KINDS = ("digits", "operators", "connectives", "words", "punctuation", "layout", "ends", "others")
CONNECTIVE_WORDS = (
    r"so|thus|hence|therefore|then|because|since|but|however|and|or|if|although|though|while|also|first|next|finally|"
    r"thereby|consequently|moreover|furthermore|otherwise|instead"
)
_PATTERNS = {
    "connectives": re.compile(rf"\s*({CONNECTIVE_WORDS})\s*", re.IGNORECASE),
    "layout": re.compile(r"\s*"),
    "digits": re.compile(r"\s*[\d.,]*\d[\d.,%]*\s*"),
    "operators": re.compile(r"\s*[-+*/=<>^×÷·±≤≥≠≈∑∏√∫%|&~]+\s*"),
    "words": re.compile(r"\s*[^\W\d_]+(['’-][^\W\d_]+)*\s*"),
    "punctuation": re.compile(r"\s*[^\w\s]+\s*"),
}


def token_kind(text: str, is_end: bool) -> str:
    """The kind of a token.

    >>> [token_kind(text, False) for text in (" 12", "=", " hence", "ing", ",", "")]
    ['digits', 'operators', 'connectives', 'words', 'punctuation', 'layout']
    """
    if is_end:
        return "ends"
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(text)), "others")
