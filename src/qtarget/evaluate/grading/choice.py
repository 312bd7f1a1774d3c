"""Grading multiple choice by the option that a completion states as its answer."""

import re
from typing import NamedTuple

from qtarget.evaluate.grading.boxed import last_box, last_tag
from qtarget.evaluate.grading.choice_sentences import Statement, statements
from qtarget.evaluate.grading.denied import WINDOW_BEHIND, is_denied, is_denied_behind, is_taken_back
from qtarget.evaluate.grading.next_question import parts_by_question
from qtarget.evaluate.grading.option_names import LABEL, Options, another, named, options_of
from qtarget.evaluate.grading.plain_text import plain
from qtarget.evaluate.grading.thinking import said
from qtarget.evaluate.nouns import Grade, Question, Reason

BARE = re.compile(r"[\s*_$({\[]*+[A-Za-z][\s*_$)}\].:]*+")
END_LINES, LONGEST_SHOWN, EXCERPT, AT_MOST_SHOWN = 50, 300, 40, 4
"""Lines at either end of a completion, and characters of one, in which an option is looked for; characters behind a
letter that are shown of a sentence that names no one option; options that are shown of several."""
UNREAD = ("parse_error", "no_answer")


class StatedAnswer(NamedTuple):
    """The answer that a completion states: an option's letter, or why there is none, and where it ends."""

    option: str | None
    reason: Reason
    extracted: str | None = None
    end: int = 0


class ChoiceGrader:
    r"""Grades multiple choice by an explicit answer.

    Explicit are the last ``\boxed{…}``, the last ``<answer>…</answer>``, the last sentence that states an answer ("the
    correct answer is B", "Answer: B", "La respuesta es B", "答案是B") and a completion that is nothing but an option.
    Of these, the last one decides. What stands in a model's thinking is not looked at. An option is named by its
    letter, by letter and text, or by its whole text; which letter it is never matters. Two answers, to one question or
    to two, are no answer. Anything else is no answer; no
    likeness, first letter or majority is taken for one. Two options of the same text are the same answer.
    """

    name, version = "choice", 7

    def fingerprint(self) -> str:
        return f"{self.name} {self.version}"

    def grade(self, question: Question, completion: str) -> Grade:
        options = options_of(question.options)
        text = said(completion)
        if text is None:
            return Grade(0, "unfinished_thinking")
        answer = _of_all_parts(plain(text), options)
        if answer.option is None:
            return Grade(0, answer.reason, answer.extracted)
        return Grade(1 if options.same(answer.option, question.gold) else 0, answer.reason, answer.option)


def _of_all_parts(text: str, options: Options) -> StatedAnswer:
    """What is stated, unless the text goes on to another question and answers that otherwise."""
    parts = parts_by_question(text)
    answers = [_stated(part, options) for part in parts] if len(parts) > 1 else []
    given = [answer.option for answer in answers if answer.option]
    if any(not options.same(given[0], other) for other in given[1:]):
        return StatedAnswer(None, "several", ", ".join(given[:AT_MOST_SHOWN]))
    return _stated(text, options)


def _stated(text: str, options: Options) -> StatedAnswer:
    box, tag = _boxed(text, options), _tagged(text, options)
    if box and box.reason == "cut_off":
        return box
    sentence = _sentence(text, options)
    found = [found for found in (box, tag, sentence) if found and found.reason not in UNREAD]
    if not found:
        whole = _whole(text, options)
        return (whole and _unless_changed(whole, text, options)) or box or tag or sentence or _unread(text)
    return _unless_changed(max(found, key=lambda answer: answer.end), text, options)


def _unless_changed(answer: StatedAnswer, text: str, options: Options) -> StatedAnswer:
    """The answer, unless what stands behind it takes it back or states another."""
    window = options.longest + WINDOW_BEHIND
    if answer.option and (is_taken_back(text, answer.end, window) or is_denied_behind(text, answer.end)):
        return StatedAnswer(None, "withdrawn", answer.option)
    if answer.option and another(text, answer.end, answer.option, options, window):
        return StatedAnswer(None, "several", answer.option)
    return answer


def _boxed(text: str, options: Options) -> StatedAnswer | None:
    box = last_box(text)
    if box is None:
        return None
    if box.inside is None:
        return StatedAnswer(None, "cut_off")
    if is_denied(text, box.start, box.end):
        return StatedAnswer(None, "withdrawn", box.inside, box.end)
    held = _held(box.inside, "boxed", box.end, options)
    if any(_held(beside, "boxed", box.end, options).option != held.option for beside in box.beside):
        return StatedAnswer(None, "several", ", ".join([*box.beside, box.inside]), box.end)
    return held


def _tagged(text: str, options: Options) -> StatedAnswer | None:
    tag = last_tag(text)
    if tag and is_denied(text, *tag.span()):
        return StatedAnswer(None, "withdrawn", tag["inside"], tag.end())
    return _held(tag["inside"], "tagged", tag.end(), options) if tag else None


def _held(inside: str, place: Reason, end: int, options: Options) -> StatedAnswer:
    """What a box or a tag holds: an option, a sentence that states one, or neither."""
    held = inside.strip()
    if not held:
        return StatedAnswer(None, "no_answer")
    if found := named(held, options):
        return StatedAnswer(found.letter, place if found.letter else "several", held, end)
    if (stated := _sentence(held, options)) and stated.reason != "parse_error":
        return stated._replace(reason=place if stated.option else stated.reason, end=end)
    return StatedAnswer(None, "parse_error", held)


def _sentence(text: str, options: Options) -> StatedAnswer | None:
    """The last sentence that states an answer, unless a later one denies it."""
    denied, weak, soft = set[str | None](), [], []
    for found in statements(text, options):
        if found.says == "wrong":
            denied.add(found.option)
        elif found.weak:
            weak.append(found)
        elif found.soft:
            soft.append(found)
        elif not soft or found.firm:
            return _of_statement(found, denied, text)
    if soft:
        return _of_statement(soft[0], denied, text)
    called = {found.option for found in weak}
    return _of_statement(weak[0], denied, text) if len(called) == 1 else None


def _of_statement(found: Statement, denied: set[str | None], text: str) -> StatedAnswer:
    if not found.option:
        words = " ".join(text[found.start : found.end + EXCERPT].split("\n")[0].split())[:LONGEST_SHOWN]
        return StatedAnswer(None, "several" if found.option is None else "parse_error", words, found.end)
    if found.option in denied:
        return StatedAnswer(None, "withdrawn", found.option, found.end)
    return StatedAnswer(found.option, "stated", found.option, found.end)


def _whole(text: str, options: Options) -> StatedAnswer | None:
    """An option that is all of a completion, or its first or last line where no other line is one."""
    if found := named(text, options):
        return StatedAnswer(found.letter, "whole" if found.letter else "several", text.strip(), len(text))
    lines = [line for line in text.strip().split("\n") if line.strip()]
    ends = lines if len(lines) <= 2 * END_LINES else lines[:END_LINES] + lines[-END_LINES:]
    found = [(line, name) for line in ends if (name := _line(line, options))]
    if len(found) != 1 or found[0][0] not in (lines[0], lines[-1]):
        return None
    line, option = found[0]
    end = text.index(line) + len(line) if line == lines[0] else len(text)
    return StatedAnswer(option, "whole", option, end) if line != lines[-1] or len(line.strip()) > 1 else None


def _line(line: str, options: Options) -> str | None:
    """The option that a line names by its letter."""
    if len(line) > LONGEST_SHOWN or not LABEL.match(line):
        return None
    found = named(line, options)
    return found.letter if found else None


def _unread(text: str) -> StatedAnswer:
    return StatedAnswer(None, "parse_error", text.strip()) if BARE.fullmatch(text) else StatedAnswer(None, "no_answer")
