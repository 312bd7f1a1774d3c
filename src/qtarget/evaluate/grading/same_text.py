"""Grading by text: the whole answer is the gold, or the gold stands somewhere in it."""

import unicodedata

from qtarget.evaluate.grading.punctuation import without_punctuation
from qtarget.evaluate.grading.thinking import said
from qtarget.evaluate.grading.whole_words import stands_in
from qtarget.evaluate.nouns import Grade, Question


class ExactGrader:
    """The answer is the gold and nothing else.

    Spaces and line ends around and between words do not count, nor how Unicode composes a letter; what stands in a
    model's thinking is not looked at.

    Args:
        ignore_case: "paris" is "Paris".
        ignore_punctuation: signs that end or part words (. , ; : ! ? and quotes) do not count: "Paris." is "Paris".
            Signs that mean something do: -5, 50% and 3.5 are not 5, 50 and 35, nor is C++ C; see `without_punctuation`.
        last_line: the answer is the last line that is not empty.
    """

    name, version = "exact", 3

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
        text = without_punctuation(text) if self.ignore_punctuation else text
        return folded(text, self.ignore_case)


class ContainsGrader:
    """The gold stands somewhere in the answer, as whole words: "no" does not stand in "nothing", "5" in "15", or
    "toxic" in "non-toxic".

    It does not understand: "not Paris" and "Paris or London" contain "Paris".

    Args:
        ignore_case: as of `ExactGrader`.
    """

    name, version = "contains", 4

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


def _last_line(text: str) -> str:
    return next((line for line in reversed(text.splitlines()) if line.strip()), "")
