"""Whether the words beside a box or a tag say that what it holds is not the answer."""

import re

WORDS_NEAR, WINDOW_BEHIND = 100, 160
"""Characters before and behind a box or a tag that may deny it, or take it back."""
SETTING = r"(?:\s|\$|\\[()\[\]]|\*|_(?!\w)|:)*+"
WRONG = (
    r"(?:wrong|incorrect|false|untrue|mistaken|a\smistake|an\serror|not\s(?:right|correct|true|it\b"
    r"|(?:the|my|our)\s(?:right\s|correct\s|final\s)?answer))\b"
)
LEADS_ON = (
    r"(?:be|been|equals?|to|that|the|an?|it|this|is|was|are|would|could|should|can|must|think|believe|say|suppose|expect"
    r"|get|give|correct|right|true|final|actual|answers?|results?|values?|solutions?|options?|choices?|simply|just|really"
    r"|exactly|actually|clearly|likely)"
)
DENIES_BEFORE = re.compile(
    r"(?:(?:\b(?:not|cannot|never|nor|neither|hardly|anything\sbut|other\sthan|rather\sthan|instead\sof|except"
    r"|(?<!\bno\s)(?<!\bany\s)(?<!\bwithout\s)(?<!\bwithout\sa\s)doubt)|n['’]t|\\neq?|≠|!=)"
    rf"(?:\s{LEADS_ON}\b)*+"
    rf"|\b(?:wrong|incorrect|false|mistaken|impossible|unlikely|rejected)(?:\s{LEADS_ON}\b)++){SETTING}\Z",
    re.IGNORECASE,
)
DENIES_BEHIND = re.compile(
    rf"{SETTING}(?:"
    rf"(?:(?:is|was|would\sbe|seems|looks|['’]s)\s(?:also\s|clearly\s|obviously\s|just\s|simply\s)?{WRONG})"
    r"|(?:(?:is|was|ca|could|should|would|can)n['’]t|cannot|(?:can|could|should|would)\snot)\s(?:be\s)?(?:right|correct"
    r"|true|(?:the|my|our)\s(?:right\s|correct\s|final\s)?answer)\b"
    rf"|[\s.,;!?(–—-]*+(?:(?:but|however|and|yet|no),?\s)?(?:which|that|this|it)(?:['’]s|\s(?:is|was|would\sbe|seems))\s"
    rf"{WRONG}"
    rf"|(?:(?<=[\n:])|[\s.,;!?(–—-]++){WRONG}(?=\s*+(?:[.,;!)]|\Z|\n)))",
    re.IGNORECASE,
)
TAKEN_BACK = re.compile(
    r"(?:\A|[.!?…\n])[\s.,;!…)\]*_$'\"}—–-]*+(?:wait|hold on|hm+|scratch that|oops"
    r"|(?:no|nah|nope)(?=\s?[.,;!…—–])|correction|on second thoughts?"
    r"|on reflection|not(?=\s?[.!])|sorry|just kidding|i take (?:it|that) back"
    r"|i meant|i made an? (?:error|mistake)|actually,?\s(?:no|it|i|[A-J])|let me (?:re|double)[\w-]*)\b",
    re.IGNORECASE,
)
"""Behind an answer: the model thinks again."""


def is_denied(text: str, start: int, end: int) -> bool:
    """Whether the words directly beside what stands from `start` to `end` say that it is not the answer."""
    return is_denied_behind(text, end) or DENIES_BEFORE.search(text[max(0, start - WORDS_NEAR) : start]) is not None


def is_denied_behind(text: str, end: int) -> bool:
    """Whether the words directly behind an answer say that it is none: ". Incorrect."."""
    return DENIES_BEHIND.match(text[end : end + WORDS_NEAR]) is not None


def is_taken_back(text: str, end: int, window: int = WINDOW_BEHIND) -> bool:
    """Whether the model thinks again behind what ends at `end`: "Wait, …"."""
    return TAKEN_BACK.search(text[end : end + window]) is not None
