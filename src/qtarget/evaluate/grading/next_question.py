"""Where a completion goes on to another question: models that are not stopped ask and answer further ones."""

import re

MOST_PARTS = 50
NOUNS = r"(?:question|problem|exercise|task)"
NUMBERED = (
    r"(?:question|problem|exercise|q|task|example|sample|part|pregunta|problema|ejercicio|frage|aufgabe|exercice|problème"
    r"|domanda|pergunta|questão|вопрос|задача|问题|問題|题目|題目|例题|例題|質問|문제|질문)"
)
NEXT_QUESTION = re.compile(
    r"\n[^\S\n]*[*#>_]*+[^\S\n]*(?:"
    rf"(?:(?:next|new|another|second|third|follow-?up)\s)?+(?:(?:{NOUNS}|q)(?:\s?\#?\d{{1,4}}|\s(?:two|three))?"
    rf"[*_]*[^\S\n]*[:.)]|{NOUNS}(?:\s\#?\d{{1,4}})?[*_]*[^\S\n]*$)"
    rf"|{NUMBERED}[^\S\n]?\#?(?!1(?!\d))\d{{1,4}}[*_]*[^\S\n]*(?:[:：.)]|$)"
    r"|(?:user|human|instruction|input)[*_]*:)"
    r"|<\|im_start\|>\s?user|<\|start_header_id\|>\s?user|<start_of_turn>\s?user|\[INST\]"
    r"|\b(?:for|to|as for|on)\sthe\s(?:second|third|next|other|following)\s(?:question|problem)\b"
    r"|\b(?:for|as for|on|in)\s(?:question|problem)\s\d{1,4}\b",
    re.IGNORECASE | re.MULTILINE,
)


def parts_by_question(text: str) -> list[str]:
    """The text up to each further question that it asks, and from there on: one part where it asks none."""
    return NEXT_QUESTION.split(text, MOST_PARTS)
