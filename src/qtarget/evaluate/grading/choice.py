"""Grading multiple choice by the option that a completion states as its answer."""

import re

from qtarget.evaluate.grading.boxed import BOX, last_boxed
from qtarget.evaluate.nouns import Grade, Question

WRAPPING = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathsf|boldsymbol)\s*\{([^{}]*)\}")
OPEN, LETTER = r"[\s*_$({\[]*", r"(?P<letter>[A-Z])"
STATED = re.compile(
    r"\b[Aa]nswer(?:\s+is)?\s*:?" + OPEN + LETTER + r"(?![\w'’])(?=(?P<rest>[^\n]*))",
)
"""As in "the answer is (C)" and "**Answer:** C"; whether the letter is one, and not a word, `_is_letter` says."""
ALTERNATIVE = re.compile(r"\s*(?:,|/|&|or\b|and\b)\s*[*_$({\[]*[A-Z](?![\w'’])")
LABEL = re.compile(r"[\s*_$({\[]*(?P<letter>[A-Za-z])[\s*_$)}\]]*(?:[.:)]\s*(?P<text>.*))?", re.DOTALL)


class ChoiceGrader:
    r"""Grades multiple choice by an explicit answer.

    In this order: the last ``\boxed{…}``, the last sentence "answer is X" or "Answer: X", and a completion that is
    nothing but an option. An option is named by its letter, by letter and text, or by its whole text. Anything else
    is no answer; no likeness, first letter or majority is taken for one. Two options of the same text are the same
    answer.
    """

    name, version = "choice", 1

    def fingerprint(self) -> str:
        return f"{self.name} {self.version}"

    def grade(self, question: Question, completion: str) -> Grade:
        stated = _stated(completion)
        if stated is None:
            return Grade(0, "no_answer")
        chosen = option_named(stated, question.options)
        if chosen is None:
            boxed = BOX.search(completion) is not None
            return Grade(0, "parse_error", stated) if boxed or LABEL.fullmatch(stated) else Grade(0, "no_answer")
        return Grade(1 if _same(chosen, question) else 0, "ok", chosen)


def option_named(stated: str, options: tuple[str, ...]) -> str | None:
    """The letter of the option that `stated` names and no other; None if it names none."""
    stated = _bare(stated)
    of_text = [letter(i) for i, option in enumerate(options) if _folded(option) == _folded(stated)]
    if of_text:
        return of_text[0]
    label = LABEL.fullmatch(stated)
    if label is None or (place := ord(label["letter"].upper()) - ord("A")) not in range(len(options)):
        return None
    text = _folded(label["text"] or "")
    return letter(place) if not text or text == _folded(options[place]) else None


def letter(place: int) -> str:
    """The letter of the option at a place: A for 0."""
    return chr(ord("A") + place)


def _stated(completion: str) -> str | None:
    if BOX.search(completion):
        return last_boxed(completion)
    sentences = [
        match for match in STATED.finditer(_unwrapped(completion)) if _is_letter(match["letter"], match["rest"])
    ]
    if sentences:
        return sentences[-1]["letter"] if not ALTERNATIVE.match(sentences[-1]["rest"]) else None
    return completion.strip() or None


def _is_letter(sign: str, rest: str) -> bool:
    """Whether a capital is an option's letter: A and I are words too, unless the sentence or a bracket ends there."""
    return sign not in "AI" or re.match(r"\s*(?:[.,;:)\]}*_$(]|$)|\s+(?:or|and)\b", rest) is not None


def _same(chosen: str, question: Question) -> bool:
    """Whether the chosen option is the gold, or reads the same."""
    places = (ord(chosen) - ord("A"), ord(question.gold) - ord("A"))
    return _folded(question.options[places[0]]) == _folded(question.options[places[1]])


def _bare(stated: str) -> str:
    r"""Without ``\text{…}`` and the like, dollar signs and stars around it."""
    return _unwrapped(stated).strip().strip("$*").strip()


def _unwrapped(text: str) -> str:
    while (inner := WRAPPING.sub(r"\1", text)) != text:
        text = inner
    return text


def _folded(text: str) -> str:
    return " ".join(_bare(text).casefold().split()).rstrip(".")
