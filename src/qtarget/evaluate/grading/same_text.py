"""Grading by text: the whole answer is the gold, or the gold stands somewhere in it."""

import re
import string
import unicodedata
from collections.abc import Iterator

from qtarget.evaluate.grading.thinking import said
from qtarget.evaluate.nouns import Grade, Question

NO_SPACES = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u9fff\uac00-\ud7af"
    "\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Signs of scripts that write words without spaces, or join particles to them: Chinese, Japanese, Korean, Thai, …"""
BEFORE_NUMBER = re.compile(r"(?:\d[.,/:'’_–—~]|(?<![^\W\d_])[-−–‒－⁻^]\s?[$€£¥₹(]?\s?|[^\W_][-−–^]|[-−–][$€£¥₹])\Z")
AFTER_NUMBER = re.compile(r"[.,/:'’]\d|[ \u00a0\u2009\u202f]\d{3}(?!\d)|[-−–—~]\d|[\^²³⁰¹⁴-⁹½¼¾]")
"""What makes digits a part of another number: 3.5, 1/5, -5, 5^2, 5 000, - 5."""
_GROUP, GROUPED = re.compile(r"\d{3}(?!\d)"), re.compile(r"\d[ \u00a0\u2009\u202f]\Z")
SIGNED = re.compile(r"[-−+.]\d")
AFTER_NAME = re.compile(r"\+\+|[#+](?!\w)")
"""Behind a letter: it is the name of something else, as C++ and C#."""


class ExactGrader:
    """The answer is the gold and nothing else.

    Spaces and line ends around and between words do not count, nor how Unicode composes a letter; what stands in a
    model's thinking is not looked at.

    Args:
        ignore_case: "paris" is "Paris".
        ignore_punctuation: signs such as . , ! " do not count: "Paris." is "Paris".
        last_line: the answer is the last line that is not empty.
    """

    name, version = "exact", 1

    def __init__(self, ignore_case: bool = False, ignore_punctuation: bool = False, last_line: bool = False) -> None:
        self.ignore_case, self.ignore_punctuation, self.last_line = ignore_case, ignore_punctuation, last_line

    def fingerprint(self) -> str:
        ignored = f"ignore_case={self.ignore_case}, ignore_punctuation={self.ignore_punctuation}"
        return f"{self.name} {self.version} ({ignored}, last_line={self.last_line})"

    def trouble(self, question: Question) -> str | None:
        empty = [answer for answer in question.answers if not self._folded(answer)]
        return f"has the answer {empty[0]!r}, of which nothing counts" if empty else None

    def grade(self, question: Question, completion: str) -> Grade:
        text = said(completion)
        if text is None:
            return Grade(0, "unfinished_thinking")
        if not (answer := self._folded(_last_line(text) if self.last_line else text)):
            return Grade(0, "no_answer")
        return Grade(1 if answer in map(self._folded, question.answers) else 0, "ok", answer)

    def _folded(self, text: str) -> str:
        text = text.translate(_NO_PUNCTUATION) if self.ignore_punctuation else text
        return folded(text, self.ignore_case)


class ContainsGrader:
    """The gold stands somewhere in the answer, as whole words: "no" does not stand in "nothing", nor "5" in "15".

    It does not understand: "not Paris" and "Paris or London" contain "Paris".

    Args:
        ignore_case: as of `ExactGrader`.
    """

    name, version = "contains", 2

    def __init__(self, ignore_case: bool = False) -> None:
        self.ignore_case = ignore_case

    def fingerprint(self) -> str:
        return f"{self.name} {self.version} (ignore_case={self.ignore_case})"

    def trouble(self, question: Question) -> str | None:
        return "has an empty answer" if not all(answer.strip() for answer in question.answers) else None

    def grade(self, question: Question, completion: str) -> Grade:
        spoken = said(completion)
        if spoken is None:
            return Grade(0, "unfinished_thinking")
        if not (text := folded(spoken, self.ignore_case)):
            return Grade(0, "no_answer")
        found = (gold for gold in question.answers if stands_in(folded(gold, self.ignore_case), text))
        gold = next(found, None)
        return Grade(0 if gold is None else 1, "ok", gold)


def folded(text: str, ignore_case: bool = False) -> str:
    """A text in one way of composing letters, with single spaces; without its case, where that is ignored."""
    text = " ".join(unicodedata.normalize("NFC", text).split())
    return text.casefold() if ignore_case else text


def stands_in(gold: str, text: str) -> bool:
    """Whether one text stands in another as whole words and whole numbers."""
    return any(not _goes_on(text, start, start + len(gold)) for start in _places(gold, text))


def _places(gold: str, text: str) -> Iterator[int]:
    start = text.find(gold)
    while start >= 0:
        yield start
        start = text.find(gold, start + 1)


def _goes_on(text: str, start: int, end: int) -> bool:
    """Whether the word, or the number, at one of the two ends is longer than what stands between them."""
    if _one_word(text[start - 1 : start], text[start]) or _one_word(text[end - 1], text[end : end + 1]):
        return True
    digits_before, digits_behind = text[start].isdigit(), text[end - 1].isdigit()
    if SIGNED.match(text, start) and start and (text[start - 1].isalnum() or text[start - 1] in ")-−+"):
        return True
    if text[end - 1].isalpha() and AFTER_NAME.match(text, end):
        return True
    if digits_before and _GROUP.match(text, start) and GROUPED.search(text[max(0, start - 2) : start]):
        return True
    if digits_before and BEFORE_NUMBER.search(text[max(0, start - 5) : start]):
        return True
    return digits_behind and AFTER_NUMBER.match(text, end) is not None


def _one_word(left: str, right: str) -> bool:
    is_word = all(sign.isalnum() or sign == "_" for sign in (left, right)) and bool(left) and bool(right)
    return is_word and not NO_SPACES.match(left) and not NO_SPACES.match(right)


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")


_NO_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation + "…‘’“”„«»¿¡。，！？：；、（）「」『』", " "))
