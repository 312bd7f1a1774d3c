"""When two texts ask the same question, and whether a training text asks one: by words, numbers and operators, whatever
stands around them."""

import re
import unicodedata
from collections.abc import Iterable, Iterator

WORDS_ALIKE = 6
"""Words from which on a question is looked for anywhere in a text; a shorter one is half of it, or a part by itself."""
MARKUP = re.compile(r"<\|[^|<>]*\|>|<</?\w+>>|</?[A-Za-z]\w*/?>|\[/?[A-Z_]+\]")
"""What chat templates put around messages; it ends a part of a text."""
PROMPT_LABEL = re.compile(r"\b[^\W\d_]+:|\\n")
"""As in `Question:`, and a line's end that was escaped; both end a part of a line."""
STARS_OF_MARKDOWN = re.compile(r"(?<![\w)\s])\*+|\*+(?![\w(\s*])|(?<=\s)\*+(?=\S)|^\*+|\*+$|(?<=\S)\*+(?=\s)", re.M)
LONG_DASHES = dict.fromkeys([*range(0x2010, 0x2016), 0x2212], "-")
"""Hyphens and dashes of Unicode, and its sign of minus."""
HYPHEN = re.compile(r"(?<=[^\W\d_])-(?=[^\W\d_])")
PIECE = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+|[^\w\s]")
KEPT_OPERATORS = "-+*/%^"
KEPT_SIGNS = f"{KEPT_OPERATORS}()"
"""What is kept beside words, numbers and mathematical symbols: without them 2+2 and 2-2 were one question."""
Pieces = tuple[str, ...]


class QuestionIndex:
    """Questions that are looked for in texts."""

    def __init__(self, questions: Iterable[str]) -> None:
        self._texts = {pieces_of(question): question for question in questions}
        self._by_start: dict[Pieces, list[Pieces]] = {}
        for pieces in self._texts:
            if len(pieces) >= WORDS_ALIKE:
                self._by_start.setdefault(pieces[:WORDS_ALIKE], []).append(pieces)

    def found_in(self, text: str) -> str | None:
        """The first question that a text asks; None where it asks none."""
        whole = pieces_of(text)
        found = whole if whole in self._texts else self._within(whole) or self._by_itself(text)
        return None if found is None else self._texts[found]

    def _within(self, pieces: Pieces) -> Pieces | None:
        """A question that is not a part of a longer sum: of `WORDS_ALIKE` words anywhere, else half of it."""
        for place in range(len(pieces) - 1):
            long = self._by_start.get(pieces[place : place + WORDS_ALIKE], ())
            short = (pieces[place : place + size] for size in range(max(2, -(-len(pieces) // 2)), WORDS_ALIKE))
            for whole in (*long, *short):
                end = place + len(whole)
                is_asked = whole in self._texts and pieces[place:end] == whole
                if is_asked and not (_goes_on(pieces, place - 1) or _goes_on(pieces, end)):
                    return whole
        return None

    def _by_itself(self, text: str) -> Pieces | None:
        """A short question that is a line, or what stands behind a label or between marks. One word alone is none."""
        return next((part for part in map(pieces_of, _parts(text)) if len(part) > 1 and part in self._texts), None)


def pieces_of(text: str) -> Pieces:
    """Words, numbers, operators and parentheses of a text, in one case; of a text without any, the text itself. Two
    questions of the same pieces are the same question."""
    plain = HYPHEN.sub(" ", STARS_OF_MARKDOWN.sub(" ", MARKUP.sub("\n", _even(text)).strip()))
    pieces = tuple(piece for piece in PIECE.findall(plain.replace("\\n", "\n").casefold()) if _is_kept(piece))
    return pieces or (text.strip(),)


def _even(text: str) -> str:
    return unicodedata.normalize("NFKC", text).translate(LONG_DASHES)


def _is_kept(piece: str) -> bool:
    return piece[0].isalnum() or piece in KEPT_SIGNS or (piece not in "|~" and unicodedata.category(piece) == "Sm")


def _parts(text: str) -> Iterator[str]:
    for line in MARKUP.sub("\n", _even(text)).splitlines():
        yield line
        yield from PROMPT_LABEL.split(line)


def _goes_on(pieces: Pieces, place: int) -> bool:
    """Whether an operator between two numbers stands at a place."""
    if not 0 < place < len(pieces) - 1 or pieces[place] not in KEPT_OPERATORS:
        return False
    return pieces[place - 1][0].isdigit() and pieces[place + 1][0].isdigit()
