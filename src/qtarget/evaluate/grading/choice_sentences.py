"""Finding the sentences of a completion that state an option as the answer: "the correct answer is therefore (B)"."""

import re
from collections import deque
from collections.abc import Iterator
from typing import Literal, NamedTuple

from qtarget.evaluate.grading import choice_words as words
from qtarget.evaluate.grading.option_names import NUMBER_GOES_ON, OPENS, TEXT_END, Options, closed, named, two

SENTENCES, WINDOW = 200, 160
"""Sentences of a completion that are read, from the last one on, and characters around an answer that are looked at."""
OPENING = re.compile(OPENS)
LETTER = re.compile(r"[A-Za-z](?![A-Za-z0-9_\u00aa-\u052f]|['’](?!d[iıuüa]r)\w)")
PAIRS = {"(": ")", "[": "]", "{": "}", "*": "*", "_": "_", "$": "$", "`": "`", '"': '"', "'": "'"}
LETTER_END = re.compile(r"[^\S\n]*+(?:[.,;:!)\]}*_$\"'`|\\([(。、、]|</|—|–|…|-(?!\w)|$)", re.MULTILINE)
STRICT_END = re.compile(r"(?:'d[iıuü]r)?[\s*_$\"'`)\]}]*?(?:[.!。](?!\s?[a-z])|$)", re.MULTILINE)
SPECIES = re.compile(r"\.\s?(?P<word>[a-z]{4,})")
"""As in "E. coli"."""
STOP = re.compile(r"[.!?。！？\n]")
_LISTED = re.compile(r"[.):][^\n]*+\n\s*+[*(]*(?P<next>[A-Z])[.):]")


class Statement(NamedTuple):
    """What a sentence says of the answer, and where in the text.

    Attributes:
        option: the letter of the option that it is about; None for more than one, empty for one that is not there.
        says: that this is the answer, or that it is not.
        weak: it counts where no other statement stands, as "It is B."
        soft, firm: "your answer" and "the obvious answer" are soft: "the correct answer" before it, a firm one, counts.
    """

    start: int
    end: int
    option: str | None
    says: Literal["right", "wrong"]
    weak: bool = False
    soft: bool = False
    firm: bool = False


def statements(text: str, options: Options) -> Iterator[Statement]:
    """The statements of a plain text, the last one first."""
    cues = deque(words.CUE.finditer(text), SENTENCES)
    calls = deque(words.CALLED.finditer(text), SENTENCES)
    found = [(cue.start(), cue) for cue in cues] + [(call.start(), call) for call in calls]
    for _, sign in sorted(found, key=lambda place: place[0], reverse=True):
        read = _after_cue(sign, options) if sign.re is words.CUE else _before_call(sign, options)
        if read is not None:
            yield read


def _after_cue(cue: re.Match[str], options: Options) -> Statement | None:
    text, start = cue.string, cue.end()
    if _is_no_statement(text, cue.start()):
        return None
    if denied := words.NOT.match(text, start):
        found = _named_at(text, denied.end(), True, options)
        return found and found._replace(start=cue.start(), says="wrong")
    if cue["picks"] and words.NO_PICK.search(text[max(0, cue.start() - WINDOW) : cue.start()]):
        return None
    linked = any(cue[name] for name in ("link", "second", "unspaced", "picks", "tied"))
    found = _named_at(text, start, linked, options)
    before = text[max(0, cue.start() - WINDOW) : cue.start()]
    soft, firm = words.SOFT.search(before) is not None, words.FIRM.search(before + cue[0]) is not None
    return found and found._replace(start=cue.start(), weak=bool(cue["it"]), soft=soft, firm=firm)


def _before_call(call: re.Match[str], options: Options) -> Statement | None:
    """ "Option B is the correct answer": the words before it, to where the clause begins."""
    text = call.string
    begin = max(0, call.start() - WINDOW - options.longest)
    before = text[begin : call.start()]
    clause = re.split(r"[.!?\n。！？]\s|\n|,\s|;\s|:\s", before)[-1] if before else ""
    found = named(words.LEAD.sub("", clause), options)
    if found is None or found.letter is None or _is_no_statement(text, call.start() - len(clause)):
        return None
    if text[call.end() : call.end() + 3].strip().startswith("?"):
        return None
    return Statement(call.start(), call.end(), found.letter, "right", weak=not call["strong"])


def _is_no_statement(text: str, start: int) -> bool:
    """Whether the sentence up to `start` makes what follows a condition, a doubt or the opinion of others."""
    before = text[max(0, start - WINDOW) : start]
    stops = list(STOP.finditer(before))
    sentence = words.SURE.sub("", before[stops[-1].end() if stops else 0 :])
    clause = words.CLAUSE.split(sentence)[-1]
    return bool(words.CONDITION.search(sentence) or words.HEDGES.search(clause))


def _named_at(text: str, at: int, linked: bool, options: Options) -> Statement | None:
    """The option that is named where an answer should stand."""
    opening = OPENING.match(text, at)
    start = opening.end() if opening else at
    if of_text := _text_at(text, start, linked, options):
        return of_text
    sign = LETTER.match(text, start)
    if sign is None or (option := options.by_letter(sign[0])) is None:
        return _other(text, start, sign, linked)
    end = closed(text, sign.end())
    if two(text, sign.end(), option, options) or _is_list(text, end, option, linked):
        return Statement(start, end, None, "right")
    if words.DENIAL.match(text, end):
        return Statement(start, end, option, "wrong")
    if not _is_letter(text, start, sign, linked, options) or _is_asked(text, end):
        return None
    return Statement(start, end, None if _belies(text, end, option, options) else option, "right")


def _other(text: str, start: int, sign: re.Match[str] | None, linked: bool) -> Statement | None:
    """A statement that names no option: another letter, or none of them."""
    if sign is None:
        none = words.NONE.match(text, start)
        return Statement(start, none.end(), "", "right") if none and linked else None
    letter = linked and sign[0].isupper() and LETTER_END.match(text, sign.end()) and not SPECIES.match(text, sign.end())
    return Statement(start, sign.end(), "", "right") if letter and not _is_asked(text, sign.end()) else None


def _is_letter(text: str, start: int, sign: re.Match[str], linked: bool, options: Options) -> bool:
    """Whether a letter is an option's, and not a word or a part of a name. It is asked of every letter alike."""
    end = sign.end()
    wrapped = start > 0 and PAIRS.get(text[start - 1]) == text[end : end + 1] != ""
    if words.SUBJECT.match(text, closed(text, end)):
        return words.TRUE.match(text, closed(text, end)) is not None
    if not linked:
        return STRICT_END.match(text, end) is not None and (wrapped or sign[0].isupper())
    if wrapped:
        return True
    if (name := SPECIES.match(text, end)) and not words.FOLLOWERS.match(name["word"]):
        return options.by_text(text[end + 1 : end + 1 + options.longest].split("\n")[0]) == sign[0].upper()
    if LETTER_END.match(text, end):
        return True
    rest = text[end : end + WINDOW].lstrip()
    own = options.texts[ord(sign[0].upper()) - ord("A")]
    return sign[0].isupper() and (words.FOLLOWERS.match(rest) is not None or _begins(rest, own))


def _text_at(text: str, start: int, linked: bool, options: Options) -> Statement | None:
    """The option whose whole text stands at `start`, the longest one. A text of one sign is left to the letters."""
    rest = text[start : start + options.longest * 2 + WINDOW]
    for own in sorted({own for own in options.texts if len(own) > 1}, key=len, reverse=True):
        if not _begins(rest, own):
            continue
        end = start + _length(rest, own)
        if own[-1].isdigit() and NUMBER_GOES_ON.match(text, end):
            return None
        ends = TEXT_END if linked else STRICT_END
        if not ends.match(text, end) or _is_asked(text, end):
            return None
        option = options.by_text(" ".join(text[start:end].split()))
        says = "wrong" if words.DENIAL.match(text, closed(text, end)) else "right"
        return Statement(start, end, option, says) if option else None
    return None


def _begins(rest: str, own: str) -> bool:
    return bool(own) and " ".join(rest.split()).casefold().startswith(own)


def _length(rest: str, own: str) -> int:
    """Characters of `rest`, with all its blanks, that the words of `own` take."""
    parts = re.match(r"\s*+".join(re.escape(sign) for sign in own.replace(" ", "")), rest, re.IGNORECASE)
    return parts.end() if parts else len(own)


def _belies(text: str, end: int, option: str, options: Options) -> bool:
    """Whether behind a letter stands the whole text of an option that is not the letter's."""
    rest = words.THAT_IS.match(text[end : end + WINDOW])
    line = text[end + (rest.end() if rest else 0) :][: options.longest + 40].split("\n")[0]
    other = options.by_text(line) or options.by_text(line.partition(". ")[0]) or options.by_text(line.partition(")")[0])
    return other is not None and not options.same(other, option)


def _is_list(text: str, end: int, option: str, linked: bool) -> bool:
    """Whether a letter begins a list of the options."""
    line = _LISTED.match(text[end : end + WINDOW * 2])
    return line is not None and ord(line["next"]) == ord(option) + 1


def _is_asked(text: str, end: int) -> bool:
    stop = STOP.search(text, end, end + WINDOW)
    return stop is not None and stop[0] in "?？"
