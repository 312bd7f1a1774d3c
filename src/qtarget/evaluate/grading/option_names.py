"""Telling which option a few words name: by its letter, by letter and text, or by its whole text."""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from qtarget.evaluate.grading.plain_text import plain

OPENS, CLOSES = r"[\s*_`$\"'({\[]*+", r"[\s*_`$\"')}\]]*+"
LABEL = re.compile(
    r"(?:[\s*_$(\"'`]*+(?:(?:(?:the|die|la)\s|l['’])?(?:option|choice|letter|alternative|opción|opzione)|(?:a\s)?opção)"
    rf"\s*+[:#]?)?+{OPENS}"
    rf"(?P<letter>[A-Za-z])(?![^\W_])(?P<sign>{CLOSES}(?:[.:=—–]|-(?!\w))?+)\s*+(?P<text>.*)$",
    re.DOTALL | re.IGNORECASE,
)
JOINER = (
    r"[^\S\n]*+(?:[.,]?\s*+(?:and/or|or|and|to|through|oder|und|ou|et|y|o|e|или|и)(?:\salso|\smaybe|\spossibly|\seven)?\s"
    r"(?:maybe\s|possibly\s|option\s|choice\s|answer\s)?|\s*+[&/|,;+、，–-]\s*+(?:and\s|or\s)?"
    r"|\s*+(?:和|与|與|及|或|或者|と|や|및|또는|와|과)\s*+)"
)
JOINS_TEXT = re.compile(JOINER, re.IGNORECASE)
SECOND = re.compile(rf"(?:{JOINER}(?P<wrap>{OPENS})(?P<letter>[A-Za-z]))(?![^\W_]|['’]\w)", re.IGNORECASE)
"""Behind an option's letter: a second one."""
ALONE = re.compile(
    r"[*_`$\"')}\]]*+\s*+(?:[.,;:!?)\]}*_$/&|、，。]|$|(?:and|or|because|are|since|as|in|for|would|both|is (?:also"
    r"|possible))\b)",
    re.IGNORECASE,
)
"""Behind that one: it is a letter, and no word such as "I"."""
TEXT_END = re.compile(
    r"[^\S\n]*+(?:[.!;:)\]}*_$\"'`<|。！；\n]|$|\(|—|–|-\s|,?\s?(?:because|since|as|due to|which|so|not|but|given"
    r"|based)\b|,\s(?:and not|it|this)\b)"
)
_LATER = re.compile(
    r"(?:^|[.,;:(!?—–>]|(?<![^\W_])(?:(?<![A-Z]\s)or|(?i:but|(?P<no>no)|also|alternatively|else|otherwise"
    r"|as well as|mean|meant|change[sd]?(?:\smy\sanswer)?\sto"
    r"|it is|it['’]s|it must be|it should be|then|take|actually|rather|sometimes|maybe|perhaps|possibly)))"
    r"[^\S\n]*[*_$(\"'\[]*(?P<letter>[A-Z])(?![^\W_])[*_$)\"'\]]*"
    r"(?:[.!)]*[^\S\n]*$|[^\S\n]*\(?(?:about\s|~)?\d{1,3}(?:\.\d+)?\s?%"
    r"|[^\S\n](?:too|as well)\b|[^\S\n](?:is|would be|may be|might be|could be)[^\S\n](?:also|better|right|correct"
    r"|acceptable|possible|fine|likely|the\s(?:right|correct|best)))",
    re.MULTILINE,
)
"""Somewhere behind an answer: another one, and no explanation of the first, as in "C is also acceptable"."""
SPANISH = re.compile(r"respuesta|opción|alternativa|\bes\b", re.IGNORECASE)
"""There "no C" is "not C"; in English it corrects."""
OR_TEXT = re.compile(r"[^\S\n]*[*_$)\"']*[^\S\n]*[(;,—–/][^\S\n]*(?:(?:or|and)\s)?")
NUMBER_GOES_ON = re.compile(
    r"[.,:/'’]\d|[^\S\n]*[-–—;)][^\S\n]*(?:or[^\S\n])?\d|[^\S\n]*\((?:or|and)\b|!\s*=|[^\S\n]?[\^*×÷+][^\S\n]?[\w(]|[eE]\d"
)
"""Behind an option's text that ends with a digit: it is a part of another number, or of a range or sum."""
DENIED = re.compile(
    r"\b(?:not|\w+n['’]t|never|no|nor|neither|wrong|false|incorrect\w*|excluded?|ruled|unlike|others?)\b", re.IGNORECASE
)
MARGIN = 40
"""Characters that are looked at behind an option's text."""
CLOSERS = re.compile(r"[*_`$\"')}\]]*+")


class Naming(NamedTuple):
    """What words name: the letter of one option; None for more than one, or a letter beside another one's text."""

    letter: str | None


class Options:
    """The options of a question, each with its text as it is compared: with its case, and without."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.cased = [trimmed(text) for text in texts]
        self.texts = [text.casefold() for text in self.cased]
        self.longest = max(map(len, self.texts), default=0)

    def by_letter(self, sign: str) -> str | None:
        """The letter, if an option has it."""
        place = ord(sign.upper()) - ord("A")
        return letter(place) if 0 <= place < len(self.texts) else None

    def by_text(self, text: str) -> str | None:
        """The letter of the option of that text. Where options differ in case alone (TT, Tt), case decides."""
        text = trimmed(text)
        places = [place for place, option in enumerate(self.texts) if option and option == text.casefold()]
        exact = [place for place in places if self.cased[place] == text]
        apart = any(not same_text(self.cased[places[0]], self.cased[place]) for place in places)
        chosen = exact if apart else exact or places
        return letter(chosen[0]) if chosen else None

    def same(self, one: str, other: str) -> bool:
        """Whether two letters are of one option, or of options that read the same."""
        return same_text(*(self.cased[ord(name) - ord("A")] for name in (one, other)))


def same_text(one: str, other: str) -> bool:
    """Whether two options read the same: "Vitamin C" and "vitamin c" do; TT and Tt, whose case alone tells, do not."""
    if one.casefold() != other.casefold():
        return False
    differ = [word for word, twin in zip(one.split(), other.split(), strict=True) if word != twin]
    return not differ or any(len(word) > 3 for word in differ)


@lru_cache(256)
def options_of(texts: tuple[str, ...]) -> Options:
    """The `Options` of a question, made once."""
    return Options(texts)


def named(stated: str, options: Options) -> Naming | None:
    """What plain words name; None if they name no option. One letter alone is a letter, not an option's text."""
    label = LABEL.match(stated)
    if label and not label["text"].strip() and (found := options.by_letter(label["letter"])):
        return Naming(found)
    if found := options.by_text(stated):
        return Naming(found)
    if label is None or (found := options.by_letter(label["letter"])) is None:
        return None
    if two(stated, label.end("letter"), found, options):
        return Naming(None)
    text = label["text"]
    of_text = options.by_text(text) or options.by_text(text.strip().removeprefix("(").removesuffix(")"))
    if not text or (of_text and options.same(of_text, found)):
        return Naming(found)
    return Naming(None) if label["sign"].strip() and of_text else None


def two(text: str, end: int, option: str, options: Options) -> bool:
    """Whether a second option, by letter or by text, follows the letter of `option` that ends at `end`."""
    end = closed(text, end)
    other = SECOND.match(text, end)
    if other and options.by_letter(other["letter"]) and (other["wrap"].strip() or ALONE.match(text, other.end())):
        return True
    joined = JOINS_TEXT.match(text, end)
    second = joined and text_at(text, joined.end(), options)
    return bool(second) and not options.same(second, option)


def another(text: str, end: int, option: str, options: Options, window: int) -> bool:
    """Whether an option other than the one stated up to `end` is stated behind it too."""
    behind = text[end : end + window]
    no_denies = SPANISH.search(text, max(0, end - MARGIN), end) is not None
    later = (found for found in _LATER.finditer(behind) if not (found["no"] and no_denies))
    letters = (options.by_letter(found["letter"]) for found in later)
    if any(found and not options.same(found, option) for found in letters):
        return True
    if any(found and not options.same(found, option) for found in _closing_texts(behind, options)):
        return True
    joined = OR_TEXT.match(behind)
    line = next(iter(re.findall(r"\A[.*_$)]*[^\S\n]*\n([^\n]+)", behind)), "")
    named_too = [text_at(behind, joined.end(), options) if joined else None, options.by_text(line) if line else None]
    return any(found and not options.same(found, option) for found in named_too)


def _closing_texts(behind: str, options: Options) -> Iterator[str | None]:
    """The options whose whole text ends a sentence that says no more: "After checking, Paris." """
    for sentence in re.split(r"[.!?;]\s|[.!?;]\Z|\n", behind)[1:]:
        said, _, last = sentence.rpartition(",") if "," in sentence else sentence.rpartition(":")
        if len(last.strip()) > 1 and not DENIED.search(said) and "," not in said:
            yield options.by_text(last)


def text_at(text: str, start: int, options: Options) -> str | None:
    """The option whose whole text stands at `start`, where the clause ends behind it."""
    rest = " ".join(text[start : start + 2 * options.longest + MARGIN].split("\n")[0].split())
    for own in sorted({own for own in options.texts if len(own) > 1}, key=len, reverse=True):
        if rest.casefold().startswith(own):
            return options.by_text(rest[: len(own)]) if TEXT_END.match(rest, len(own)) else None
    return None


def closed(text: str, end: int) -> int:
    """The end of the closing brackets, quotes and stars that stand at `end`."""
    sign = CLOSERS.match(text, end)
    return sign.end() if sign else end


def letter(place: int) -> str:
    """The letter of the option at a place: A for 0."""
    return chr(ord("A") + place)


def trimmed(text: str) -> str:
    """A text in one line without typography, quotes around it or a full stop behind it."""
    text = " ".join(plain(text).split()).strip("$* ").rstrip(".。 ")
    quoted = text[:1] in "\"'`" and text[:1] == text[-1:] and len(text) > 2
    return text[1:-1].strip() if quoted else text.strip("$* ")
