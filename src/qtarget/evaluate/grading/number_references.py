"""Numbers that only name a place, a date or a source: section 3, step 2, [4], the 2. of a list, In 2019, …"""

import re

BEFORE_CHARACTERS, BEHIND_CHARACTERS = 80, 48
NAMES_OF_PLACES = (
    r"sections?|secs?\.?|figures?|figs?\.?|pages?|pp?\.|equations?|eqn?s?\.?|steps?|chapters?|chap\.|ch\.|tables?|tab\."
    r"|theorems?|thm\.?|lemmas?|corollar(?:y|ies)|propositions?|prop\.|definitions?|axioms?|appendix|appendices|parts?"
    r"|lines?|rows?|columns?|questions?|problems?|exercises?|examples?|cases?|items?|notes?|footnotes?|refs?\.?"
    r"|references?|phases?|stages?|options?|choices?|versions?|rules?|methods?|paragraphs?|clauses?|verses?|scenes?"
    r"|articles?|volumes?|vol\.|no\.|nos\.|nr\."
)
PLACE = re.compile(
    rf"(?:(?<![^\W_])(?:{NAMES_OF_PLACES})|§{{1,2}})[\s*_#(\[$-]*"
    r"(?:\(?\d[\d.]*\)?[^\S\n]*(?:[,&~–-]|and|or|to|through)[^\S\n]*\(?)*\Z",
    re.IGNORECASE,
)
LABELLED = re.compile(r"(?<![#\w])#\Z")
LISTED = re.compile(r"(?:^|\n)[\s*_#>(•-]*\Z")
LIST_SIGN = re.compile(r"[.)][*_]*[^\S\n]+[*_$(\"'`]*[^\W\d]")
IN_BRACKETS = re.compile(r"\[\^?(?:\d+[^\S\n]*[,;–-][^\S\n]*)*\Z")
OUT_OF_BRACKETS = re.compile(r"(?:[^\S\n]*[,;–-][^\S\n]*\d+)*\]")
LABEL_BEFORE = re.compile(r"(?:\b(?:by|from|using|see|via|with|and)|[(\[])[^\S\n]*\(\Z", re.IGNORECASE)
MONTHS = r"(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)(?:uary|ruary|ch|il|ust|tember|ober|ember)?\.?"
MONTH_BEFORE, MONTH_BEHIND = re.compile(rf"\b{MONTHS}[^\S\n]\Z"), re.compile(rf"[^\S\n]{MONTHS}(?!\w)")
YEAR = re.compile(r"(?:1\d|20|21)\d\d\Z")
SETTING_OF_YEAR = re.compile(
    r"(?:^|[.!?\n][^\S\n]*)[*_]*(?:In|By|Since|During|Until|From|As of|Around|Before|After)[^\S\n]"
    rf"(?:{MONTHS}[^\S\n])?\Z"
)
CITED = re.compile(r"[^\W\d_][^\W\d_.]+\.?,?[^\S\n]\(?\Z")
YEAR_BEFORE = re.compile(
    rf"\b(?:in|since|as of|by|from|until|till|before|after|during|around|of)[^\S\n](?:{MONTHS}[^\S\n])?\Z",
    re.IGNORECASE,
)


def is_reference(text: str, start: int, end: int) -> bool:
    """Whether the number between `start` and `end` names a place, a date or a source, and counts nothing."""
    before, behind = text[max(0, start - BEFORE_CHARACTERS) : start], text[end : end + BEHIND_CHARACTERS]
    if (
        PLACE.search(before)
        or LABELLED.search(before)
        or (IN_BRACKETS.search(before) and OUT_OF_BRACKETS.match(behind))
    ):
        return True
    if behind.startswith(")") and LABEL_BEFORE.search(before):
        return True
    if MONTH_BEFORE.search(before) or MONTH_BEHIND.match(behind):
        return True
    return _is_listed(text, start, end, before, behind) or _is_cited_year(text[start:end], before, behind)


def may_be_setting(text: str, start: int, end: int) -> bool:
    """Whether a number may be the year in which something was: "in 2019"."""
    before = text[max(0, start - BEFORE_CHARACTERS) : start]
    return YEAR.match(text[start:end]) is not None and YEAR_BEFORE.search(before) is not None


def _is_listed(text: str, start: int, end: int, before: str, behind: str) -> bool:
    """Whether it begins a line of a list. At the beginning of all, a number other than 1 may be the answer."""
    if end - start > 2 or not LIST_SIGN.match(behind) or not LISTED.search(before):
        return False
    is_first = start < BEFORE_CHARACTERS and not before.strip(" \t\n*_#>(•-")
    return not is_first or text[start:end] == "1"


def _is_cited_year(number: str, before: str, behind: str) -> bool:
    if YEAR.match(number) is None:
        return False
    if behind.startswith(",") and SETTING_OF_YEAR.search(before):
        return True
    return behind.startswith(")") and CITED.search(before) is not None
