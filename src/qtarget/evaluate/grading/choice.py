"""Grading multiple choice by the option that a completion states as its answer."""

import re

from qtarget.evaluate.grading.boxed import BOX, last_boxed
from qtarget.evaluate.nouns import Grade, Question

BRACES = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathsf|boldsymbol)\s*+\{|[{}]")
"""Braces, each opening one with the command that it belongs to, where that only sets a font."""
OPEN, LETTER = r"[\s*_$({\[]*+", r"(?P<letter>[A-Z])"
STATED = re.compile(r"\b[Aa]nswer(?:\s++is)?+\s*+:?+" + OPEN + LETTER + r"(?![\w'’])")
"""As in "the answer is (C)" and "**Answer:** C"; whether the letter is one, and not a word, `_is_letter` says. Nothing
here is tried twice (`*+`): the time is linear in the length of an answer, whatever a model wrote."""
ENDS = re.compile(r"[^\S\n]*+(?:[.,;:)\]}*_$(]|$|(?<=\s)(?:or|and)\b)", re.MULTILINE)
ALTERNATIVE = re.compile(r"[^\S\n]*+(?:,|/|&|or\b|and\b)[^\S\n]*+[*_$({\[]*+[A-Z](?![\w'’])")
"""Where a sentence ends behind its letter, and where it names a second one, on the same line."""
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
    folded = _folded(stated)
    of_text = [letter(i) for i, option in enumerate(options) if _folded(option) == folded]
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
    text = _unwrapped(completion)
    last = None
    for sentence in filter(_is_letter, STATED.finditer(text)):
        last = sentence
    if last is None:
        return completion.strip() or None
    return None if ALTERNATIVE.match(text, last.end()) else last["letter"]


def _is_letter(sentence: re.Match[str]) -> bool:
    """Whether a capital is an option's letter: A and I are words too, unless the sentence or a bracket ends there."""
    return sentence["letter"] not in "AI" or ENDS.match(sentence.string, sentence.end()) is not None


def _same(chosen: str, question: Question) -> bool:
    """Whether the chosen option is the gold, or reads the same."""
    places = (ord(chosen) - ord("A"), ord(question.gold) - ord("A"))
    return _folded(question.options[places[0]]) == _folded(question.options[places[1]])


def _bare(stated: str) -> str:
    r"""Without ``\text{…}`` and the like, dollar signs and stars around it."""
    return _unwrapped(stated).strip().strip("$*").strip()


def _unwrapped(text: str) -> str:
    r"""Without ``\text{`` and the like and the brace that closes it; around braces that stay, it stays."""
    pieces: list[str] = []
    opened: list[int] = []
    pair, end = -1, 0  # of the last pair of braces that stays, and of what was read
    for sign in BRACES.finditer(text):
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


def _folded(text: str) -> str:
    return " ".join(_bare(text).casefold().split()).rstrip(".")
