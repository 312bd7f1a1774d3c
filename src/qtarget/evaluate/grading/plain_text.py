r"""A completion without its typography: ``\text{…}`` and the like, HTML's fonts, colours, full-width signs."""

import re

FONTS = re.compile(
    r"\\(?:text|textbf|textit|textrm|textsf|texttt|textup|emph|mbox|underline|mathrm|mathbf|mathsf|mathit|bf|rm"
    r"|boldsymbol|bm)\s*+\{|[{}]"
)
"""Braces, each opening one with the command that it belongs to, where that only sets a font."""
UNSEEN = re.compile(
    r"\\(?:textcolor|colorbox|color)\s*+\{[^{}\n]{0,40}\}"
    r"|\\(?:left|right|displaystyle|large|Large|bfseries|bf|rm|quad|qquad)(?![A-Za-z])|\\[,;:!]"
    r"|</?(?:b|i|u|p|em|strong|span|code|mark|center|div|h[1-6]|br)(?:\s[^<>\n]{0,80})?/?>"
    r"|[\u200b-\u200f\u2060\ufeff\u00ad\ufe0f✅✔☑✓]",
)
MATH_DELIMITER = re.compile(r"\\[()\[\]]")
ONE_FOR_ONE = str.maketrans(
    {code: chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)}
    | {ord(sign): '"' for sign in "“”„‟«»"}
    | {ord(sign): "'" for sign in "‘’‚‛"}
    | {ord(sign): "(" for sign in "「『【《〈〔"}
    | {ord(sign): ")" for sign in "」』】》〉〕"}
    | {ord(sign): "-" for sign in "‐‑"}
)
"""One sign for one: full-width letters, digits and signs, quotes, and the brackets of Chinese and Japanese."""


def plain(text: str) -> str:
    """The text without typography. The time is linear in its length."""
    return without_fonts(MATH_DELIMITER.sub("$", UNSEEN.sub("", text.translate(ONE_FOR_ONE))))


def without_fonts(text: str) -> str:
    r"""Without ``\text{`` and the like and the brace that closes it; around braces that stay, it stays."""
    pieces: list[str] = []
    opened: list[int] = []
    pair, end = -1, 0  # of the last pair of braces that stays, and of what was read
    for sign in FONTS.finditer(text):
        pieces += [text[end : sign.start()], sign[0]]
        end = sign.end()
        if sign[0] != "}":
            opened.append(len(pieces) - 1)
        elif opened:
            start = opened.pop()
            if pieces[start] == "{" or pair > start:
                pair = start
            else:
                pieces[start] = pieces[-1] = ""
    return "".join(pieces) + text[end:]
