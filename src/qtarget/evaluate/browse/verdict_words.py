"""What a sample's grade and length are called where answers are shown."""

from collections.abc import Mapping
from typing import Literal

from qtarget.evaluate.nouns import Record

Only = Literal["wrong", "right", "unknown", "differ"]
GRADE_WORDS: Mapping[int | None, Only] = {0: "wrong", None: "unknown", 1: "right"}
"""What a grade is called, in the order in which samples are shown."""
REASON_WORDS = {
    "untrue": "its equation does not hold, or it says what the answer is not",
    "no_answer": "no answer found",
    "cut_off": "its last box is not closed",
    "several": "more than one answer",
    "withdrawn": "its answer is taken back",
    "unfinished_thinking": "it ends while thinking",
    "parse_error": "its answer could not be read",
    "timeout": "it took too long to judge",
    "gold_unparseable": "the gold could not be read",
    "grader_failed": "the grader failed",
    "ungraded": "not graded yet",
}
"""What a grade's reason is called, but for those that say where the answer stood."""
PLACE_WORDS = {
    "ok": "",
    "boxed": " in the last box",
    "tagged": " in <answer> tags",
    "stated": " in a sentence",
    "whole": " on a line of its own",
}
"""Where the answer stood that was compared with the gold, by the grade's reason."""


def verdict(record: Record) -> str:
    """What a sample's grade is, and why: ``wrong, answer read in the last box: 41``."""
    parts = [GRADE_WORDS[record.grade]]
    if record.grade_reason not in PLACE_WORDS:
        parts.append(REASON_WORDS.get(record.grade_reason, record.grade_reason))
    if record.extracted is not None:
        is_all = record.extracted.strip() == record.completion.strip()
        place = PLACE_WORDS.get(record.grade_reason, "")
        parts.append(f"answer read{place}: {'all of it' if is_all else record.extracted}")
    return ", ".join(parts)


def length(record: Record) -> str:
    """How long a sample is: ``812 tokens``, ``4,096 tokens, cut off``."""
    return f"{record.n_tokens:,} tokens{', cut off' if record.finish_reason == 'length' else ''}"
