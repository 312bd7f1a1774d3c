"""Tokens as texts that join to the sentence they stand in, with what cannot be seen spelled out."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from qtarget.console import shortened, spelled_out

TOKENS_BEFORE = 8
"""Tokens before one that may decide how it is written."""
LONGEST_TOKEN = 200
"""Characters of one token that are shown."""
HALF_CHARACTER = "\ufffd"
SPEAKER = re.compile(r"\s*(system|developer|user|human|assistant|model|tool)\s*(\n\s*|$)")
"""How a chat template writes who speaks, after one of its tokens."""
TURNS_MEET = " ¦ "
"""Between two turns."""


def token_texts(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The text that each token adds to those before it. Of a character in several tokens the last has all of it."""
    texts = []
    for at in range(len(ids)):
        start = max(0, at - TOKENS_BEFORE)
        before, after = (_decoded(ids[start:stop], tokenizer) for stop in (at, at + 1))
        if after.endswith(HALF_CHARACTER):
            texts.append("" if at + 1 < len(ids) else HALF_CHARACTER)
            continue
        before = before.rstrip(HALF_CHARACTER)
        texts.append(after[len(before) :] if after.startswith(before) else _decoded(ids[at : at + 1], tokenizer))
    return texts


def candidate_texts(ids: Iterable[int], tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> dict[int, str]:
    """Tokens that stand alone. One that is no text, or a row of the output layer without a token, has a name."""
    return {each: _candidate(each, tokenizer) for each in sorted(set(ids)) if each < vocabulary}


def said_spans(texts: Sequence[str], is_mark: Sequence[bool]) -> list[tuple[int, int]]:
    """Where a row's turns say something: tokens from a place up to another, without a template's own tokens, the names
    of who speaks, and blank stretches.

    Args:
        texts: of each token.
        is_mark: whether it is one of the template's.
    """
    marks = [-1, *(at for at, mark in enumerate(is_mark) if mark), len(texts)]
    spans = []
    for start, stop in pairwise(marks):
        begin, text = start + 1, "".join(texts[start + 1 : stop])
        named = SPEAKER.match(text) if start >= 0 else None
        while named and begin < stop and sum(map(len, texts[start + 1 : begin + 1])) <= named.end():
            begin += 1
        if "".join(texts[begin:stop]).strip():
            spans.append((begin, stop))
    return spans


def said_before(texts: Sequence[str], spans: Sequence[tuple[int, int]], place: int, length: int) -> str:
    """What is said before a token: the end of its turn up to it, which may take most of the length, and the end of the
    turn before."""
    told = ["".join(texts[start : min(stop, place)]).lstrip() for start, stop in spans if start <= place][-2:]
    own = _end_of(told.pop(), int(0.6 * length) if len(told) else length) if told else ""
    return TURNS_MEET.join([*(_end_of(each.strip(), length - len(own)) for each in told), own])


def _end_of(text: str, length: int) -> str:
    return text if len(text) <= length else f"…{text[-length:]}"


def shown_token(text: str) -> str:
    """A token as a person may see it: line breaks, and characters that command or hide, spelled out; long ones cut."""
    cut = shortened(text, LONGEST_TOKEN)
    return "".join(sign if sign == " " else spelled_out(sign) for sign in cut)


def _candidate(token: int, tokenizer: PreTrainedTokenizerBase) -> str:
    text = _decoded([token], tokenizer)
    if text and HALF_CHARACTER not in text:
        return text
    name = tokenizer.convert_ids_to_tokens(token)
    return f"<{token}>" if name is None else str(name)


def _decoded(ids: Sequence[int], tokenizer: PreTrainedTokenizerBase) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)) if len(ids) else ""
