"""Where a completion goes on to another question: models that are not stopped ask and answer further ones."""

import re

MOST_PARTS = 50
NEXT_QUESTION = re.compile(
    r"\n[^\S\n]*[*#>_]*+[^\S\n]*(?:(?:next|new|another|second|third|follow-?up)\s)?+"
    r"(?:(?:question|problem|exercise|q)(?:\s?\#?\d{1,4}|\s(?:two|three))?[*_]*[^\S\n]*[:.)]"
    r"|(?:question|problem|exercise)\s\#?\d{1,4}[*_]*[^\S\n]*$|(?:user|human|instruction)[*_]*:)"
    r"|<\|im_start\|>\s?user|<\|start_header_id\|>\s?user|<start_of_turn>\s?user|\[INST\]"
    r"|\b(?:for|to|as for|on)\sthe\s(?:second|third|next|other|following)\s(?:question|problem)\b"
    r"|\b(?:for|as for|on|in)\s(?:question|problem)\s\d{1,4}\b",
    re.IGNORECASE | re.MULTILINE,
)


def parts_by_question(text: str) -> list[str]:
    """The text up to each further question that it asks, and from there on: one part where it asks none."""
    return NEXT_QUESTION.split(text, MOST_PARTS)
